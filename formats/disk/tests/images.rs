//! Images and overlays as `qemu-img` and `sgdisk` see them, and the errors of files that are none.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

use hermitage_boot::BootConfig;
use hermitage_disk::layout::{LOADER, ROOT};
use hermitage_disk::qcow2::Qcow2;
use hermitage_disk::table::{self, BOOT_CODE};
use hermitage_disk::{Access, BlockDevice as _, Error, create_overlay, open_image, open_overlay};

const SIZE: u64 = 64 << 20;

/// Runs a tool that must succeed; its output.
fn tool(name: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(name)
        .args(arguments)
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("`{name}` is needed: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn config(role: &str) -> BootConfig {
    BootConfig {
        arguments: vec![role.into()],
        ..BootConfig::default()
    }
}

/// Boot code for this loader.
fn boot_code(loader: &[u8]) -> [u8; BOOT_CODE] {
    hermitage_disk::boot_code::complete(&[0xeb; BOOT_CODE], loader).unwrap()
}

/// An image whose loader partition is full of ones and whose default role is `kv`.
fn image(path: &Path) {
    let disk = Qcow2::create(path, SIZE).unwrap();
    let loader = vec![1; 512 * 1024];
    table::write(&disk, &boot_code(&loader), [7; 16]).unwrap();
    disk.write_at(LOADER.first * 512, &loader).unwrap();
    disk.flush().unwrap();
    drop(disk);
}

#[test]
fn an_image_passes_the_tools_and_gives_back_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    image(&path);

    assert!(tool("qemu-img", &["check"], &path).contains("No errors were found"));
    let raw = folder.path().join("raw");
    tool(
        "qemu-img",
        &["convert", "-O", "raw", path.to_str().unwrap()],
        &raw,
    );
    assert!(tool("sgdisk", &["-v"], &raw).contains("No problems found"));
    assert_eq!(fs::read(&raw).unwrap()[..BOOT_CODE], boot_code(&[1; 512 * 1024]));

    let opened = open_image(&path).unwrap();
    assert_eq!(opened.loader().unwrap(), vec![1; 512 * 1024]);
    assert_eq!(opened.boot_config().unwrap(), None);
    assert_eq!(
        opened.partition(&ROOT).unwrap().size(),
        SIZE - 2048 * 512 - 33 * 512
    );
    let error = opened.root().unwrap_err();
    assert!(error.to_string().starts_with("cannot read `"), "{error}");
}

#[test]
fn an_overlay_is_small_and_carries_its_own_boot_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (
        folder.path().join("image.qcow2"),
        folder.path().join("overlay.qcow2"),
    );
    image(&base);
    let before = fs::read(&base).unwrap();

    create_overlay(&base, &path).unwrap();
    open_overlay(&path, Access::Write)
        .unwrap()
        .set_boot_config(&config("db"))
        .unwrap();

    let overlay = open_overlay(&path, Access::Read).unwrap();
    assert_eq!(overlay.boot_config().unwrap(), Some(config("db")));
    assert_eq!(overlay.loader().unwrap(), vec![1; 512 * 1024]);
    assert!(tool("qemu-img", &["check"], &path).contains("No errors were found"));
    assert!(tool("qemu-img", &["info"], &path).contains(base.to_str().unwrap()));
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    assert_eq!(fs::read(&base).unwrap(), before);
    assert!(
        matches!(create_overlay(&base, &path), Err(Error::Create { .. })),
        "an overlay is never overwritten"
    );
}

#[test]
fn a_read_only_image_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    image(&path);
    assert!(matches!(
        open_image(&path).unwrap().set_boot_config(&config("x")),
        Err(Error::Io { .. })
    ));
}

#[test]
fn files_that_are_no_images_are_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    assert!(matches!(open_image(&path), Err(Error::Open { .. })));
    assert!(matches!(open_image(folder.path()), Err(Error::Open { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(open_image(&path), Err(Error::NotQcow2 { .. })));
    fs::write(&path, [b'x'; 70_000]).unwrap();
    assert!(matches!(open_image(&path), Err(Error::NotQcow2 { .. })));

    fs::remove_file(&path).unwrap();
    drop(Qcow2::create(&path, SIZE).unwrap());
    assert!(matches!(open_image(&path), Err(Error::PartitionTable { .. })));

    let overlay = folder.path().join("overlay.qcow2");
    create_overlay(&path, &overlay).unwrap();
    assert!(matches!(open_image(&overlay), Err(Error::RefersToFile { .. })));
}

#[test]
fn an_image_that_was_cut_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    image(&path);
    open_image(&path).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    for keep in [length - 65536, length / 2, 1 << 20, 65536, 1000, 104, 4] {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(keep)
            .unwrap();
        let error = open_image(&path).unwrap_err();
        assert!(
            matches!(error, Error::PartitionTable { .. } | Error::NotQcow2 { .. }),
            "{keep}: {error}"
        );
    }
}
