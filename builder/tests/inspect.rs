//! Images looked at from outside: intact ones, damaged ones, and ones that were made to do harm.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use builder::compose::{ComposeRequest, Mode, compose};
use builder::event::Silent;
use builder::image::LoaderArtifacts;
use builder::inspect::copy::{Copied, copy};
use builder::inspect::export::{Format, export};
use builder::inspect::info::{info, list};
use builder::inspect::verify::verify;
use builder::inspect::{InspectError, Opened};
use builder::manifest::Manifest;
use builder::resolve::Resolution;

const MANIFEST: &str = "
name: kv
title: Key-value store
author: us
services: [services/kv]
files: [{ source: site, destination: /srv }]
config_set: { serve: { bootcmd: kv 'two words', env: { PORT: 9000 } } }
";

/// Composes `kv` from made-up files: a sealed program, and `/srv` from the folder `site`.
fn image(folder: &Path) -> PathBuf {
    let site = folder.join("site");
    fs::create_dir_all(site.join("deep")).unwrap();
    fs::write(site.join("index.html"), "<html>").unwrap();
    fs::write(site.join("deep/run.sh"), vec![b'#'; 5000]).unwrap();
    fs::set_permissions(site.join("deep/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", site.join("absolute")).unwrap();
    symlink("deep/run.sh", site.join("relative")).unwrap();
    compose_site(folder)
}

fn compose_site(folder: &Path) -> PathBuf {
    let mut program: Vec<u8> = (0..100_000_u32).map(|at| (at * 31 % 253) as u8).collect();
    hermitage_boot::seal::seal(&mut program);
    fs::write(folder.join("program"), program).unwrap();
    let manifest = Manifest::parse(&folder.join("package.yaml"), MANIFEST.to_owned()).unwrap();
    let request = ComposeRequest {
        resolution: &Resolution::alone(manifest).unwrap(),
        out_dir: &folder.join("images"),
        loader: &LoaderArtifacts {
            elf: vec![0xee; 20_001],
            boot_code: [0x90; 440],
        },
        binaries: &[("kv".into(), folder.join("program"))].into(),
        mode: Mode::Fresh,
    };
    compose(&request, &Silent).unwrap().path
}

/// Replaces the one place in a file that has these bytes.
fn patch(path: &Path, old: &[u8], new: &[u8]) {
    let bytes = fs::read(path).unwrap();
    let mut places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(old));
    let place = places.next().unwrap();
    assert_eq!(places.next(), None, "not the only one");
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(new, place as u64).unwrap();
}

#[test]
fn an_image_tells_what_it_is_and_equal_ones_have_equal_digests() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (image(one.path()), image(two.path()));
    let digest = |path: &Path| info(&Opened::open(path).unwrap()).unwrap().digest;
    let facts = info(&Opened::open(&first).unwrap()).unwrap();
    assert_eq!(facts.content.roles, [b"kv"]);
    assert_eq!(facts.content.files, 3);
    let default = facts.default.unwrap();
    assert_eq!(default.arguments, [&b"kv"[..], b"two words"]);
    assert_eq!(default.environment, [b"PORT=9000"]);
    let names: Vec<_> = facts.partitions.iter().map(|part| part.name).collect();
    assert_eq!(names, ["loader", "boot-config", "root"]);
    assert_eq!(facts.digest, digest(&second));
    fs::write(two.path().join("site/index.html"), "<HTML>").unwrap();
    compose_site(two.path());
    assert_ne!(facts.digest, digest(&second));
}

#[test]
fn a_folder_of_images_is_listed_damaged_ones_included() {
    let folder = tempfile::tempdir().unwrap();
    image(folder.path());
    let images = folder.path().join("images");
    fs::create_dir(images.join("bad")).unwrap();
    fs::write(images.join("bad/bad.qcow2"), "no image").unwrap();
    fs::create_dir(images.join("empty")).unwrap();
    let list = list(&images).unwrap();
    let names: Vec<_> = list.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["bad", "kv"]);
    assert!(list[0].content.is_err());
    assert_eq!(list[1].content.as_ref().unwrap().files, 3);
    assert!(
        builder::inspect::info::list(&images.join("none"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn cat_follows_links_within_the_image_alone() {
    let folder = tempfile::tempdir().unwrap();
    let image = Opened::open(&image(folder.path())).unwrap();
    let mut out = Vec::new();
    assert_eq!(image.cat(b"/srv/relative", &mut out).unwrap(), 5000);
    assert_eq!(out, vec![b'#'; 5000]);
    for path in [&b"/srv/absolute"[..], b"../../etc/passwd", b"/srv"] {
        let error = image.cat(path, &mut out).unwrap_err();
        assert!(matches!(error, InspectError::Read { .. }), "{error}");
    }
}

#[test]
fn a_copy_has_the_content_modes_and_links_of_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let image = Opened::open(&image(folder.path())).unwrap();
    let out = folder.path().join("out");
    let copied = copy(&image, b"/", &out).unwrap();
    assert_eq!(
        copied,
        Copied {
            files: 3,
            bytes: 105_006
        }
    );
    let program = fs::read(folder.path().join("program")).unwrap();
    assert!(fs::read(out.join("bin/kv")).unwrap() == program);
    let mode = |path: &str| fs::metadata(out.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("srv/deep"), mode("srv/deep/run.sh")), (0o755, 0o755));
    assert_eq!(mode("srv/index.html"), 0o644);
    let link = |path: &str| fs::read_link(out.join(path)).unwrap();
    assert_eq!(link("srv/absolute"), Path::new("/etc/passwd"));
    assert_eq!(link("srv/relative"), Path::new("deep/run.sh"));

    copy(&image, b"srv/index.html", &folder.path().join("renamed")).unwrap();
    assert!(folder.path().join("renamed").is_file());
    copy(&image, b"srv/deep/", &out).unwrap();
    assert!(out.join("deep/run.sh").is_file());
}

#[test]
fn a_copy_replaces_nothing_and_follows_no_link_that_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let image = Opened::open(&image(folder.path())).unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for (number, in_the_way) in ["srv", "srv/deep", "srv/index.html", "srv/absolute"]
        .iter()
        .enumerate()
    {
        let out = folder.path().join(format!("out{number}"));
        let link = out.join(in_the_way);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&outside, &link).unwrap();
        let error = copy(&image, b"/", &out).unwrap_err();
        assert!(
            matches!(&error, InspectError::InTheWay(path) if path.ends_with(in_the_way)),
            "{error}"
        );
        assert_eq!(fs::read_link(link).unwrap(), outside);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(copy(&image, b"srv/index.html", &file).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn names_that_lead_elsewhere_are_not_copied() {
    // What the writer refuses is put there behind its back.
    let outside = tempfile::tempdir().unwrap();
    for (old, new) in [
        (&b"evil-1evil-2"[..], &b"evil-1evil-1"[..]),
        (b"evil-1evil-2", b"evil/1evil-2"),
        (b"evil-1evil-2", b"../../evil-2"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        fs::create_dir_all(site.join("evil-2")).unwrap();
        symlink(outside.path(), site.join("evil-1")).unwrap();
        fs::write(site.join("evil-2/file"), "x").unwrap();
        let path = compose_site(folder.path());
        assert_eq!(verify(&path).problems, [""; 0]);
        patch(&path, old, new);
        assert_ne!(verify(&path).problems, [""; 0]);
        let out = folder.path().join("out");
        let result = copy(&Opened::open(&path).unwrap(), b"/", &out);
        assert!(matches!(result, Err(InspectError::Read { .. })), "{result:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 4, "site, program, images, out: {left:?}");
    }
}

#[test]
fn verify_accepts_an_intact_image_and_names_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let intact = verify(&path);
    assert_eq!((intact.files, intact.programs), (3, 1));
    assert_eq!(intact.problems, [""; 0]);

    let whole = fs::read(&path).unwrap();
    let program = fs::read(folder.path().join("program")).unwrap();
    let find = |bytes: &[u8]| {
        (0..whole.len())
            .find(|at| whole[*at..].starts_with(bytes))
            .unwrap()
    };
    let rfind = |bytes: &[u8]| {
        (0..whole.len())
            .rfind(|at| whole[*at..].starts_with(bytes))
            .unwrap()
    };
    let superblock = find(&0xE0F5_E1E2_u32.to_le_bytes());
    let (boot_config, table) = (find(b"HERMBOOT"), find(b"EFI PART"));
    for (place, part) in [
        (0, "container: "),
        (table + 60, "partition table: "),
        (rfind(b"EFI PART") + 60, "partition table: "),
        (find(&[0xee; 64]), "loader: "),
        (boot_config + 25, "boot-config: "),
        (superblock + 16, "root: "),
        (find(&program[..64]) + 50_000, "/bin/kv: "),
    ] {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        let problems = verify(&path).problems;
        assert!(
            problems.len() == 1 && problems[0].starts_with(part),
            "{part}{problems:?}"
        );
    }

    // A bit of a file, of a name and of a link: which file it is, only the index knows.
    let index = path.with_extension("qcow2.index");
    let known = fs::read(&index).unwrap();
    for (place, name) in [
        (find(b"<html>"), Some("/srv/index.html")),
        (find(&[b'#'; 800]), Some("/srv/deep/run.sh")),
        (find(b"/etc/passwd"), Some("/srv/absolute")),
        (find(b"index.html"), None),
    ] {
        let mut damaged = whole.clone();
        damaged[place] ^= 2;
        fs::write(&path, &damaged).unwrap();
        if let Some(name) = name {
            assert_eq!(
                verify(&path).problems,
                [format!("{name}: it is not as it was composed")]
            );
        }
        fs::remove_file(&index).unwrap();
        assert_eq!(
            verify(&path).problems,
            ["root: the files are not as they were composed"]
        );
        fs::write(&index, &known).unwrap();
    }

    let mut damaged = whole.clone();
    for place in [find(&[0xee; 64]), boot_config + 25, find(&program[..64]) + 50_000] {
        damaged[place] ^= 0x20;
    }
    fs::write(&path, &damaged).unwrap();
    assert_eq!(verify(&path).problems.len(), 3, "all are listed");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_ne!(verify(&path).problems, [""; 0], "cut off");
}

#[test]
fn an_export_is_the_same_disk_and_replaces_nothing_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    for format in [Format::Raw, Format::Qcow2, Format::Vmdk, Format::Vdi] {
        let output = folder.path().join(format!("disk:{}", format.name()));
        export(&path, format, &output, false, &Silent).unwrap();
        let same = std::process::Command::new("qemu-img")
            .args(["compare", "-f", "qcow2", "-F", format.name()])
            .args([&path, &output])
            .output()
            .expect("`qemu-img` is needed");
        assert!(same.status.success(), "{same:?}");
        let error = export(&path, format, &output, false, &Silent).unwrap_err();
        assert!(matches!(error, InspectError::OutputExists(_)), "{error}");
        export(&path, format, &output, true, &Silent).unwrap();
    }
    fs::write(&path, "no image").unwrap();
    assert!(export(&path, Format::Raw, &folder.path().join("bad"), false, &Silent).is_err());
    let names = fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name == "bad"), "{names:?}");
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".partial")),
        "{names:?}"
    );
}
