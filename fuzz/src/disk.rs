//! The container: a whole image, with mistakes in it.
//!
//! An input is a list of mistakes, since an image is large and nearly all zeros: where, how many bytes, and which. What
//! is zero in the image is left out of the places, and where it is cut off can be said.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use builder::inspect::verify::verify;
use hermitage_boot::BootConfig;
use hermitage_disk::boot_code;
use hermitage_disk::device::{BlockDevice, Slice};
use hermitage_disk::layout::{BOOT_CONFIG, LOADER, ROOT};
use hermitage_disk::qcow2::{Access, Qcow2, backing_file};
use hermitage_disk::table;
use hermitage_disk::{open_image, open_overlay};

use crate::erofs;

/// Bytes of the disk: little more than what lies before the file system.
const SIZE: u64 = 2 << 20;

/// Places are the starts of so many bytes.
const LINE: usize = 16;

/// Opens an image with mistakes, and reads everything in it.
pub(crate) fn check(input: &[u8]) {
    static IMAGE: OnceLock<(Vec<u8>, Vec<usize>)> = OnceLock::new();
    let (image, places) = IMAGE.get_or_init(|| {
        let image = image();
        let lines = image.chunks(LINE).enumerate();
        let used = lines.filter(|(_, line)| line.iter().any(|byte| *byte != 0));
        let places = used.map(|(number, _)| number * LINE).collect();
        (image, places)
    });
    let mut image = image.clone();
    let mut rest = input;
    while let Some(([kind, place @ .., offset], after)) = rest.split_first_chunk::<4>() {
        let number = usize::from(u16::from_le_bytes(*place));
        let at = places[number % places.len()] + usize::from(*offset) % LINE;
        let length = usize::from(kind % 9).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        if kind % 9 == 0 {
            image.truncate(at);
        } else if let Some(there) = image.get_mut(at..at + bytes.len()) {
            there.copy_from_slice(bytes);
        }
    }
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let path = &folder.path().join("image.qcow2");
    if fs::write(path, image).is_ok() {
        open(path);
    }
}

fn open(path: &Path) {
    let _ = verify(path);
    let _ = backing_file(path);
    let _ = open_overlay(path, Access::Read);
    let Ok(image) = open_image(path) else {
        return;
    };
    let _ = image.loader();
    let _ = image.boot_config();
    let _ = image.boot_sets();
    if let Ok(files) = image.root() {
        let _ = erofs::walk(&files);
    }
}

/// An image with a loader, a boot configuration and a file system.
fn image() -> Vec<u8> {
    let make = || -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().ok()?;
        let path = folder.path().join("image.qcow2");
        let device = Qcow2::create(&path, SIZE).ok()?;
        let write = |partition, bytes: &[u8]| {
            let extent = table::place(partition, SIZE).ok()?;
            let slice = Slice::new(&device, extent.start, extent.size).ok()?;
            slice.write_at(0, bytes).ok()
        };
        let loader = vec![0x90; 1000];
        write(&LOADER, &loader)?;
        let config = BootConfig {
            arguments: vec![b"kv".to_vec(), b"--port".to_vec()],
            environment: vec![b"A=b".to_vec()],
            ..BootConfig::default()
        };
        write(&BOOT_CONFIG, &config.encode().ok()?)?;
        write(&ROOT, erofs::seeds().last()?)?;
        let code = boot_code::complete(&[0x90; table::BOOT_CODE], &loader)?;
        table::write(&device, &code, [7; 16]).ok()?;
        device.flush().ok()?;
        drop(device);
        fs::read(path).ok()
    };
    // Without an image there is nothing to check, and the whole one must be readable.
    let image = make().unwrap_or_default();
    assert!(!image.is_empty(), "no image could be made");
    image
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![1, 0, 0, 0, 0xff],
        [[4, 2, 0, 4], [0xff; 4]].concat(),
        [&[8, 5, 0, 0][..], &u64::MAX.to_le_bytes()].concat(),
        vec![2, 3, 0, 0, 1, 0, 0, 200, 1, 0],
    ]
}
