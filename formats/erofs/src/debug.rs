//! A file system as text: a line for each path, which tests compare.
//!
//! `<path> <type and permissions, octal> <uid>:<gid> <mtime>.<nsec> <links> <size> <content's BLAKE3 or link target>`

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::digest::digest;
use crate::format::{Damage, Kind};
use crate::reader::{Error, FileSystem, ReadAt};

/// Most levels of directories that are dumped; a path of 4096 bytes has fewer.
const MAX_DEPTH: usize = 2048;

/// Describes the whole tree, in the order of paths.
///
/// # Errors
/// The device fails, or anything in the tree is damaged.
pub fn dump<D: ReadAt>(files: &FileSystem<D>) -> Result<String, Error<D::Error>> {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    // What is still to go, next one last.
    let mut left = vec![(Vec::new(), files.root()?, 0)];
    while let Some((path, inode, depth)) = left.pop() {
        let tail = match inode.kind() {
            Kind::File => digest(files, &inode)?.to_hex()[..16].to_owned(),
            Kind::Symlink => format!("-> {}", String::from_utf8_lossy(&files.read_link(&inode)?)),
            Kind::Directory => {
                if depth > MAX_DEPTH || !seen.insert(inode.nid()) {
                    return Err(Damage::DirectoryLoop.into());
                }
                let mut children = Vec::new();
                for entry in files.read_dir(&inode)? {
                    let entry = entry?;
                    let child = files.inode(entry.nid)?;
                    if child.kind() != entry.kind {
                        return Err(Damage::Directory.into());
                    }
                    let path = [path.as_slice(), b"/", &entry.name].concat();
                    children.push((path, child, depth + 1));
                }
                left.extend(children.into_iter().rev());
                String::new()
            }
        };
        let path = if path.is_empty() {
            "/".into()
        } else {
            String::from_utf8_lossy(&path)
        };
        let raw = inode.raw();
        let line = format!(
            "{path} {:06o} {}:{} {}.{:09} {} {} {tail}",
            raw.mode, raw.uid, raw.gid, raw.mtime, raw.mtime_nsec, raw.links, raw.size
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    Ok(text)
}
