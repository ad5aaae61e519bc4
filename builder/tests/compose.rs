//! A composed image, judged by `qemu-img`, `sgdisk` and `fsck.erofs`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use builder::compose::{ComposeError, ComposeReport, ComposeRequest, Mode, compose};
use builder::event::Silent;
use builder::image::LoaderArtifacts;
use builder::manifest::Manifest;
use builder::resolve::Resolution;
use hermitage_disk::layout::{LOADER, ROOT};
use hermitage_disk::open_image;

/// Runs a tool that must succeed; what it prints.
fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("`{name}` is needed: {error}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {text}");
    text
}

const MANIFEST: &str = "
name: kv
title: Key-value store
author: us
services: [services/kv]
files: [{ source: site, destination: /srv/www }]
config_set: { serve: { bootcmd: kv 'two words', env: { PORT: 9000 } } }
";

/// A package with a service, a folder of files, and a loader, in a folder of their own.
struct Package {
    folder: tempfile::TempDir,
    manifest: Manifest,
    loader: LoaderArtifacts,
    binaries: BTreeMap<String, PathBuf>,
}

impl Package {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("site/deep")).unwrap();
        fs::write(path.join("kv-binary"), vec![0x7f; 100_000]).unwrap();
        fs::write(path.join("site/index.html"), "<html>").unwrap();
        fs::write(path.join("site/deep/run.sh"), "#!").unwrap();
        fs::set_permissions(path.join("site/deep/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("../index.html", path.join("site/deep/link")).unwrap();
        let manifest = Manifest::parse(&path.join("package.yaml"), MANIFEST.to_owned()).unwrap();
        let loader = LoaderArtifacts {
            elf: vec![0xee; 20_001],
            boot_code: [0x90; 440],
        };
        let binaries = [("kv".into(), path.join("kv-binary"))].into();
        Self {
            folder,
            manifest,
            loader,
            binaries,
        }
    }

    fn compose(&self) -> ComposeReport {
        self.compose_as(Mode::Fresh).unwrap()
    }

    fn compose_as(&self, mode: Mode) -> Result<ComposeReport, ComposeError> {
        let out_dir = &self.folder.path().join("images");
        let resolution = &Resolution::alone(self.manifest.clone()).unwrap();
        let (loader, binaries) = (&self.loader, &self.binaries);
        compose(
            &ComposeRequest {
                resolution,
                out_dir,
                loader,
                binaries,
                mode,
            },
            &Silent,
        )
    }
}

/// Copies the root partition out of an image.
fn root_partition(image: &Path, to: &Path) {
    let raw = to.with_extension("raw");
    tool(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            image.to_str().unwrap(),
            raw.to_str().unwrap(),
        ],
    );
    let text = tool("sgdisk", &["-v", raw.to_str().unwrap()]);
    assert!(text.contains("No problems found"), "{text}");
    let disk = fs::read(raw).unwrap();
    fs::write(to, &disk[ROOT.first as usize * 512..]).unwrap();
}

#[test]
fn a_composed_image_passes_the_tools_and_holds_what_was_asked_for() {
    let package = Package::new();
    let report = package.compose();
    assert_eq!(report.path, package.folder.path().join("images/kv/kv.qcow2"));
    assert_eq!(report.files, 3);
    assert!(report.bytes < 1 << 20, "{} bytes on disk", report.bytes);
    assert!(tool("qemu-img", &["check", report.path.to_str().unwrap()]).contains("No errors were found"));

    let (root, out) = (
        package.folder.path().join("root"),
        package.folder.path().join("out"),
    );
    root_partition(&report.path, &root);
    let extract = format!("--extract={}", out.display());
    let text = tool("fsck.erofs", &[&extract, "--preserve", root.to_str().unwrap()]);
    assert!(!text.contains("<E>"), "{text}");
    let mode = |path: &str| fs::symlink_metadata(out.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(fs::read(out.join("bin/kv")).unwrap(), vec![0x7f; 100_000]);
    assert_eq!(
        (mode("bin/kv"), mode("bin"), mode("srv/www/index.html")),
        (0o755, 0o755, 0o644)
    );
    assert_eq!(mode("srv/www/deep/run.sh"), 0o755);
    assert_eq!(
        fs::read_link(out.join("srv/www/deep/link")).unwrap(),
        Path::new("../index.html")
    );
    assert_eq!(fs::metadata(out.join("bin/kv")).unwrap().mtime(), 0);

    let image = open_image(&report.path).unwrap();
    assert_eq!(image.loader().unwrap()[..20_001], [0xee; 20_001]);
    let config = image.boot_config().unwrap().unwrap();
    assert_eq!(config.arguments, [&b"kv"[..], b"two words"]);
    assert_eq!(config.environment, [b"PORT=9000"]);
    assert_eq!(
        image
            .root()
            .unwrap()
            .resolve(b"/srv/www/deep/link")
            .unwrap()
            .size(),
        6
    );
    let mut boot = [0; 512];
    image.device().read_at(0, &mut boot).unwrap();
    assert_eq!(boot[..434], [0x90; 434]);
    assert_eq!(
        u16::from_le_bytes([boot[438], boot[439]]),
        40,
        "20,001 bytes are 40 sectors"
    );
    assert!(LOADER.sectors.unwrap() >= 40);
}

#[test]
fn the_same_inputs_in_another_folder_give_the_same_bytes() {
    let (first, second) = (Package::new(), Package::new());
    fs::set_permissions(
        second.folder.path().join("site/index.html"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let (a, b) = (first.compose(), second.compose());
    assert_eq!(a.digest, b.digest);
    assert!(fs::read(&a.path).unwrap() == fs::read(&b.path).unwrap());
    fs::write(second.folder.path().join("site/index.html"), "<HTML>").unwrap();
    let c = second.compose();
    assert_ne!(a.digest, c.digest);
    assert!(fs::read(&a.path).unwrap() != fs::read(&c.path).unwrap());
}

#[test]
fn an_updated_image_passes_the_tools() {
    let package = Package::new();
    package.compose();
    let site = package.folder.path().join("site");
    for round in 0..70 {
        fs::write(site.join("index.html"), format!("<html>{round}")).unwrap();
        fs::write(site.join(format!("{}", round % 7)), vec![round; 9000]).unwrap();
        let report = package.compose_as(Mode::Update { checksum: false }).unwrap();
        assert!(report.updated.is_some(), "round {round}");
    }
    let image = package.folder.path().join("images/kv/kv.qcow2");
    assert!(tool("qemu-img", &["check", image.to_str().unwrap()]).contains("No errors were found"));
    let (root, out) = (
        package.folder.path().join("root"),
        package.folder.path().join("out"),
    );
    root_partition(&image, &root);
    let text = tool(
        "fsck.erofs",
        &[&format!("--extract={}", out.display()), root.to_str().unwrap()],
    );
    assert!(!text.contains("<E>"), "{text}");
    assert_eq!(fs::read(out.join("srv/www/index.html")).unwrap(), b"<html>69");
    assert_eq!(fs::read(out.join("srv/www/6")).unwrap(), [69; 9000]);
}

/// A program that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_image_that_a_machine_uses_is_not_updated_until_the_machine_ends() {
    use std::io::BufRead as _;
    let package = Package::new();
    let image = package.compose().path;
    let overlay = package.folder.path().join("overlay.qcow2");
    hermitage_disk::create_overlay(&image, &overlay).unwrap();
    let drive = format!("file={},format=qcow2,if=virtio", overlay.display());
    let machine = Command::new("qemu-system-x86_64")
        .args([
            "-S",
            "-accel",
            "tcg",
            "-display",
            "none",
            "-nodefaults",
            "-qmp",
            "stdio",
        ])
        .args(["-drive", &drive])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut machine = Killed(machine.expect("qemu-system-x86_64 is needed"));
    // Its greeting comes when its disks are open.
    let mut greeting = String::new();
    let mut output = std::io::BufReader::new(machine.0.stdout.take().unwrap());
    output.read_line(&mut greeting).unwrap();
    assert!(greeting.contains("QMP"), "{greeting}");

    let old = fs::read(&image).unwrap();
    let update = || package.compose_as(Mode::Update { checksum: false });
    assert!(update().is_ok(), "nothing to do needs no lock");
    fs::write(package.folder.path().join("site/index.html"), "new").unwrap();
    let error = update().unwrap_err();
    assert!(matches!(error, ComposeError::InUse { .. }), "{error}");
    assert!(fs::read(&image).unwrap() == old);
    drop(machine);
    assert_eq!(update().unwrap().updated.unwrap().changed, 1);
}
