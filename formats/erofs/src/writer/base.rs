//! What an update starts from: the tree that an image holds, and where it lies.
//!
//! A composition gives it; whoever lost it has [`Base::read`] find it out from the image.

use std::collections::HashSet;

use super::plan::{Node, ROOT_BLOCK};
use super::{Item, ItemKind};
use crate::digest::digest;
use crate::format::{BLOCK, Damage, Kind, SLOT, Superblock};
use crate::reader::{Error, FileSystem, ReadAt};

/// A tree, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The superblock that makes this the tree.
    pub superblock: Superblock,
    /// All of it, in the order of paths, the root first.
    pub nodes: Vec<Placed>,
}

/// An item that lies in a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What it is.
    pub item: Item,
    /// The inode's number.
    pub nid: u64,
    /// The first block of its data.
    pub start_block: u32,
    /// How many blocks of data it has: fewer than its size suggests if the tail lies behind the inode.
    pub blocks: u32,
    /// The digest of a file's content.
    pub digest: Option<blake3::Hash>,
}

impl Placed {
    pub(super) fn new(node: &Node, start_block: u32, digest: Option<blake3::Hash>) -> Self {
        Self {
            item: node.item.clone(),
            nid: node.nid(),
            start_block,
            // A file of more blocks than a file system can have was refused.
            blocks: node.blocks() as u32,
            digest,
        }
    }
}

impl Base {
    /// Reads all of a file system, and digests its files. Memory holds one entry for each path.
    ///
    /// # Errors
    /// The device fails, the file system is damaged, or none that [`super::write()`] made.
    pub fn read<D: ReadAt>(files: &FileSystem<D>) -> Result<Self, Error<D::Error>> {
        let superblock = files.superblock().clone();
        let block = u64::from(superblock.root_nid) * SLOT / BLOCK as u64;
        if superblock.meta_block != 0 || block != ROOT_BLOCK {
            return Err(Damage::InodeAddress.into());
        }
        let mut nodes = Vec::new();
        let mut seen = HashSet::new();
        let mut left = vec![(Vec::new(), files.root()?)];
        while let Some((path, inode)) = left.pop() {
            // No two names of ours share an inode; a directory within itself would have no end.
            if !seen.insert(inode.nid()) {
                return Err(Damage::DirectoryLoop.into());
            }
            let raw = inode.raw();
            let kind = match inode.kind() {
                Kind::File => ItemKind::File(inode.size()),
                Kind::Symlink => ItemKind::Symlink(files.read_link(&inode)?),
                Kind::Directory => ItemKind::Directory,
            };
            if kind == ItemKind::Directory {
                let from = left.len();
                for entry in files.read_dir(&inode)? {
                    let entry = entry?;
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    let path = [path.as_slice(), slash, &entry.name].concat();
                    left.push((path, files.inode(entry.nid)?));
                }
                left[from..].reverse();
            }
            nodes.push(Placed {
                nid: inode.nid(),
                start_block: raw.start_block,
                // Checked to lie within the file system, whose blocks 32 bits count.
                blocks: inode.in_blocks().div_ceil(BLOCK as u64) as u32,
                digest: match kind {
                    ItemKind::File(_) => Some(digest(files, &inode)?),
                    _ => None,
                },
                item: Item {
                    path,
                    kind,
                    permissions: inode.permissions(),
                    uid: raw.uid,
                    gid: raw.gid,
                    mtime: raw.mtime,
                    mtime_nsec: raw.mtime_nsec,
                },
            });
        }
        Ok(Self { superblock, nodes })
    }
}
