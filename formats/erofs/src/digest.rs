//! The digest of a file's content, read out of a file system.

use crate::reader::{Error, FileSystem, Inode, ReadAt};

/// The BLAKE3 digest of what `file` holds.
///
/// # Errors
/// The device fails, or the file is damaged.
pub(crate) fn digest<D: ReadAt>(
    files: &FileSystem<D>,
    file: &Inode,
) -> Result<blake3::Hash, Error<D::Error>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        let length = files.read(file, offset, &mut buffer)?;
        if length == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
}
