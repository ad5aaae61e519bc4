//! The digest of a tree: equal trees have equal ones, wherever they lie on the disk.
//!
//! The superblock's uuid is its start. So whoever reads a whole file system can tell that no bit of it changed.

use super::{Item, ItemKind};
use crate::format::{BLOCK, Kind};

/// Digests a tree, node by node.
#[derive(Debug, Default)]
pub struct TreeDigest {
    hasher: blake3::Hasher,
    /// What is not hashed yet: the hash of many small pieces takes several times as long as that of a few large ones.
    bytes: Vec<u8>,
}

impl TreeDigest {
    /// Adds a node; they come in the order of paths, the root first. A file's content is told by its digest. Each field
    /// is of a fixed size, or has its length before it.
    pub fn add(&mut self, item: &Item<'_>, content: Option<blake3::Hash>) {
        let bytes = &mut self.bytes;
        let (kind, data) = match item.kind {
            ItemKind::File(size) => (Kind::File, content.map(|content| (size, content))),
            ItemKind::Directory => (Kind::Directory, None),
            ItemKind::Symlink(target) => (Kind::Symlink, Some((target.len() as u64, blake3::hash(target)))),
        };
        bytes.push(kind.dirent_type());
        bytes.extend_from_slice(&(item.path.len() as u64).to_le_bytes());
        bytes.extend_from_slice(item.path);
        bytes.extend_from_slice(&item.permissions.to_le_bytes());
        bytes.extend_from_slice(&item.uid.to_le_bytes());
        bytes.extend_from_slice(&item.gid.to_le_bytes());
        bytes.extend_from_slice(&item.mtime.to_le_bytes());
        bytes.extend_from_slice(&item.mtime_nsec.to_le_bytes());
        if let Some((size, digest)) = data {
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(digest.as_bytes());
        }
        if bytes.len() >= BLOCK {
            self.hasher.update(bytes);
            bytes.clear();
        }
    }

    /// The digest of all nodes.
    #[must_use]
    pub fn finish(mut self) -> blake3::Hash {
        self.hasher.update(&self.bytes).finalize()
    }
}
