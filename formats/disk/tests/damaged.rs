//! Damaged containers: whatever byte of the header or block of the file is wrong, opening and reading an image ends
//! with a value or an error.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use hermitage_disk::layout::LOADER;
use hermitage_disk::qcow2::Qcow2;
use hermitage_disk::table::{self, BOOT_CODE};
use hermitage_disk::{BlockDevice as _, Error, boot_code, create_overlay, open_image};

const BLOCK: u64 = 4096;

/// A small image, and the loader in it.
fn image(path: &Path) -> Vec<u8> {
    let disk = Qcow2::create(path, 2 << 20).unwrap();
    let loader = vec![0x5a; 100 * 512];
    let code = boot_code::complete(&[0xeb; BOOT_CODE], &loader).unwrap();
    table::write(&disk, &code, [7; 16]).unwrap();
    disk.write_at(LOADER.first * 512, &loader).unwrap();
    disk.flush().unwrap();
    loader
}

/// Does what the launcher does with an image before it starts QEMU.
fn use_it(path: &Path) -> Result<Vec<u8>, Error> {
    let image = open_image(path)?;
    let loader = image.loader()?;
    image.boot_config()?;
    let _ = image.root();
    Ok(loader)
}

#[test]
fn any_byte_of_the_header_may_be_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let loader = image(&path);
    assert_eq!(use_it(&path).unwrap(), loader);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut header = [0; 256];
    file.read_exact_at(&mut header, 0).unwrap();
    let mut refused = 0;
    for (place, byte) in (0..).zip(header) {
        for pattern in [0x01, 0x80, 0xff] {
            file.write_all_at(&[byte ^ pattern], place).unwrap();
            match use_it(&path) {
                Ok(found) => assert_eq!(found, loader, "byte {place}"),
                Err(_) => refused += 1,
            }
            let overlay = folder.path().join("overlay");
            let _ = create_overlay(&path, &overlay);
            let _ = fs::remove_file(overlay);
        }
        file.write_all_at(&[byte], place).unwrap();
    }
    assert!(
        refused > 50,
        "only {refused} changes were refused: the test proves little"
    );
    assert_eq!(use_it(&path).unwrap(), loader);
}

#[test]
fn any_block_may_be_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let loader = image(&path);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let junk: Vec<u8> = (0..BLOCK as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut refused = 0;
    for block in 0..length / BLOCK {
        let mut old = vec![0; BLOCK as usize];
        file.read_exact_at(&mut old, block * BLOCK).unwrap();
        for content in [&vec![0; BLOCK as usize], &vec![0xff; BLOCK as usize], &junk] {
            write(&file, block, content);
            match use_it(&path) {
                Ok(found) => assert_eq!(found, loader, "block {block}"),
                Err(_) => refused += 1,
            }
        }
        write(&file, block, &old);
    }
    assert!(
        refused > 20,
        "only {refused} changes were refused: the test proves little"
    );
    assert_eq!(use_it(&path).unwrap(), loader);
}

fn write(file: &File, block: u64, content: &[u8]) {
    file.write_all_at(content, block * BLOCK).unwrap();
}
