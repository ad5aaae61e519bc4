//! Writes a file system: from nothing, or what changed into one that is there.
//!
//! [`Plan`] decides where everything lies, from names and sizes alone; [`write()`] reads the files' content once, in
//! the order of their paths, and streams it out: memory stays bounded however large the files are. Threads read and
//! hash ahead of the one that writes; what is written depends on the items alone.
//!
//! | blocks | what |
//! | --- | --- |
//! | 0 | the superblock, otherwise zero: one sector changes when an update is committed |
//! | 1 | 64 slots for the root inode, the first one in use: an update takes another one |
//! | then | the directories' blocks, those of the root first |
//! | then | directories' inodes, each with its tail: apart from files' inodes, since an update rewrites them more often |
//! | then | inodes of files and symbolic links, each with its tail |
//! | then | the files' blocks; content that is equal is stored once |
//!
//! Metadata comes first and together, so that a loader has a small image's tree after one read.
//!
//! [`Update`] keeps what did not change where it is, and writes the rest into blocks that the old tree does not use.
//!
//! It owns neither the device nor the choice of files. Start at [`Plan::new`].

use std::cmp::Ordering;
use std::io;
use std::path::PathBuf;

mod ahead;
mod base;
mod blocks;
mod content;
mod directory;
mod output;
mod pack;
mod plan;
mod tree_digest;
mod update;

pub use base::{Base, Placed};
pub use content::{Content, Written, write};
pub use plan::Plan;
pub use tree_digest::TreeDigest;
pub use update::{Changes, Durable, Obstacle, Update};

/// Something that bytes can be written to, at any offset: a partition. All of it reads as zeros before.
pub trait WriteAt {
    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// The device fails, or is too small.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// What is to lie at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Names with `/` between them, from the root; empty for the root itself.
    pub path: &'a [u8],
    /// What it is.
    pub kind: ItemKind<'a>,
    /// Permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind<'a> {
    /// A regular file of a size; its content comes from a [`Content`].
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to a target.
    Symlink(&'a [u8]),
}

/// The order of paths: name by name, so that what lies in `a` comes right behind it, before `a.b`.
#[must_use]
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    // As the order of bytes, if `/` were the first of them.
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    let same = common_start(a, b);
    match (a.get(same), b.get(same)) {
        (Some(a), Some(b)) => rank(*a).cmp(&rank(*b)),
        _ => a.len().cmp(&b.len()),
    }
}

/// How many bytes two paths begin with alike: most of them, among neighbours, so eight are compared at once.
fn common_start(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(eight), Some(others)) = (a[at..].first_chunk(), b[at..].first_chunk()) {
        let differ = u64::from_le_bytes(*eight) ^ u64::from_le_bytes(*others);
        if differ != 0 {
            return at + differ.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = a[at..].iter().zip(&b[at..]);
    at + rest.take_while(|(a, b)| a == b).count()
}

/// Why a file system cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two items have the same path.
    #[error("two items at `{}`", .0.display())]
    Duplicate(PathBuf),
    /// An item's folder is no item, or is no directory.
    #[error("`{}` lies in no directory", .0.display())]
    NoParent(PathBuf),
    /// A name is empty, longer than 255 bytes, `.` or `..`, or holds a NUL.
    #[error("`{}` is no path that a file system can hold", .0.display())]
    Path(PathBuf),
    /// A symbolic link's target is empty, longer than 4095 bytes, or holds a NUL.
    #[error("the target of the symbolic link `{}` is empty, too long or holds a NUL", .0.display())]
    Target(PathBuf),
    /// The root is no directory.
    #[error("the root is not a directory")]
    Root,
    /// More blocks than 32 bits can address, 16 TiB.
    #[error("the files need {0} blocks; a file system has at most {max}", max = u32::MAX)]
    TooLarge(u64),
    /// A file cannot be read.
    #[error("cannot read the file for `{}`", path.display())]
    Read {
        /// Its path in the file system.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has another size than was planned for.
    #[error("the file for `{}` changed while it was read", .0.display())]
    Changed(PathBuf),
    /// What is known of the old tree cannot be true.
    #[error("the old file system is not one that can be updated")]
    Base,
    /// The device failed.
    #[error("cannot write the file system")]
    Write(#[source] io::Error),
}

/// A path for people.
fn shown(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from("/").join(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_the_order_of_their_names() {
        let names = ["", "a", "a/b", "a/b/c", "a/b.c", "a.b", "a0", "b"];
        // Wherever the difference lies in eight bytes.
        for start in 0..20 {
            let paths = names.map(|name| "x".repeat(start) + name);
            for (at, a) in paths.iter().enumerate() {
                for (other, b) in paths.iter().enumerate() {
                    assert_eq!(
                        compare_paths(a.as_bytes(), b.as_bytes()),
                        at.cmp(&other),
                        "{a} {b}"
                    );
                }
            }
        }
    }
}
