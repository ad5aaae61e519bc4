//! What an update starts from: the tree that an image holds, and where it lies.
//!
//! Whoever writes a file system tells it, node by node ([`Placed`]); whoever lost it has [`Base::read`] find it out from
//! the image. It is one run of records,
//! the same in memory as on disk, so that a tree of many files is kept small and loaded at once:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the kind, as a directory entry's file type |
//! | 2 | permissions |
//! | 4, 4 | owner, group |
//! | 8, 4 | modification time: seconds, nanoseconds |
//! | 8 | the inode's number |
//! | 4, 4 | the first block of data, and how many blocks |
//! | 8 | a file's size; of a link's target, its length |
//! | 2 | length of the path |
//! | | the path; a link's target; the digest of a file's content, 32 bytes |

use std::collections::HashSet;

use super::plan::{Node, ROOT_BLOCK};
use super::{Item, ItemKind, compare_paths};
use crate::digest::digest;
use crate::format::{BLOCK, Damage, Kind, SLOT, Superblock};
use crate::reader::{Error, FileSystem, ReadAt};

/// A tree, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The superblock that makes this the tree.
    pub superblock: Superblock,
    /// All of it, in the order of paths, the root first.
    records: Vec<u8>,
}

/// An item that lies in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// What it is.
    pub item: Item<'a>,
    /// The inode's number.
    pub nid: u64,
    /// The first block of its data.
    pub start_block: u32,
    /// How many blocks of data it has: fewer than its size suggests if the tail lies behind the inode.
    pub blocks: u32,
    /// The digest of a file's content.
    pub digest: Option<blake3::Hash>,
}

impl<'a> Placed<'a> {
    pub(super) fn new(node: &Node<'a>, start_block: u64, digest: Option<blake3::Hash>) -> Self {
        // A tree of more blocks than 32 bits count was refused.
        let blocks = node.blocks() as u32;
        Self {
            item: node.item,
            nid: node.nid(),
            start_block: if blocks == 0 { 0 } else { start_block as u32 },
            blocks,
            digest,
        }
    }

    /// What its blocks hold, if it is a file: the same content and size have the same blocks.
    pub(super) fn content(&self) -> Option<(blake3::Hash, u64)> {
        match self.item.kind {
            ItemKind::File(size) => Some((self.digest?, size)),
            _ => None,
        }
    }

    /// Appends its record.
    pub fn encode(&self, records: &mut Vec<u8>) {
        let item = &self.item;
        let (kind, size, rest): (_, _, &[u8]) = match &item.kind {
            ItemKind::File(size) => {
                let digest = self
                    .digest
                    .as_ref()
                    .map_or(&[0; blake3::OUT_LEN], |digest| digest.as_bytes());
                (Kind::File, *size, digest)
            }
            ItemKind::Directory => (Kind::Directory, 0, b""),
            ItemKind::Symlink(target) => (Kind::Symlink, target.len() as u64, target),
        };
        records.push(kind.dirent_type());
        records.extend_from_slice(&item.permissions.to_le_bytes());
        records.extend_from_slice(&item.uid.to_le_bytes());
        records.extend_from_slice(&item.gid.to_le_bytes());
        records.extend_from_slice(&item.mtime.to_le_bytes());
        records.extend_from_slice(&item.mtime_nsec.to_le_bytes());
        records.extend_from_slice(&self.nid.to_le_bytes());
        records.extend_from_slice(&self.start_block.to_le_bytes());
        records.extend_from_slice(&self.blocks.to_le_bytes());
        records.extend_from_slice(&size.to_le_bytes());
        // A path of more bytes cannot be opened on any host, and was refused by the plan.
        records.extend_from_slice(&(item.path.len() as u16).to_le_bytes());
        records.extend_from_slice(item.path);
        records.extend_from_slice(rest);
    }

    /// Takes a record off the start of `records`.
    fn decode(records: &mut &'a [u8]) -> Option<Self> {
        let kind = Kind::from_dirent_type(take::<1>(records)?[0])?;
        let permissions = u16::from_le_bytes(take(records)?);
        let uid = u32::from_le_bytes(take(records)?);
        let gid = u32::from_le_bytes(take(records)?);
        let mtime = i64::from_le_bytes(take(records)?);
        let mtime_nsec = u32::from_le_bytes(take(records)?);
        let nid = u64::from_le_bytes(take(records)?);
        let start_block = u32::from_le_bytes(take(records)?);
        let blocks = u32::from_le_bytes(take(records)?);
        let size = u64::from_le_bytes(take(records)?);
        let length = u16::from_le_bytes(take(records)?);
        let path = take_slice(records, usize::from(length))?;
        let (kind, digest) = match kind {
            Kind::File => (ItemKind::File(size), Some(take(records)?.into())),
            Kind::Directory => (ItemKind::Directory, None),
            Kind::Symlink => {
                let target = take_slice(records, usize::try_from(size).ok()?)?;
                (ItemKind::Symlink(target), None)
            }
        };
        let item = Item {
            path,
            kind,
            permissions,
            uid,
            gid,
            mtime,
            mtime_nsec,
        };
        Some(Self {
            item,
            nid,
            start_block,
            blocks,
            digest,
        })
    }
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take_slice(bytes, N)?.try_into().ok()
}

impl Base {
    /// Takes the records of all nodes ([`Placed::encode`]) in the order of paths, the root first; `None` if that is not
    /// what they are.
    #[must_use]
    pub fn from_records(superblock: Superblock, records: Vec<u8>) -> Option<Self> {
        let mut rest = records.as_slice();
        let mut last: Option<&[u8]> = None;
        while !rest.is_empty() {
            let path = Placed::decode(&mut rest)?.item.path;
            match last {
                None if !path.is_empty() => return None,
                Some(last) if compare_paths(last, path).is_ge() => return None,
                _ => last = Some(path),
            }
        }
        // Not even a root is no tree.
        last?;
        Some(Self { superblock, records })
    }

    /// What [`Base::from_records`] took.
    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// All nodes, in the order of paths, the root first.
    pub fn nodes(&self) -> impl Iterator<Item = Placed<'_>> + Clone {
        let mut rest = self.records.as_slice();
        std::iter::from_fn(move || Placed::decode(&mut rest))
    }

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
        let mut records = Vec::new();
        let mut seen = HashSet::new();
        let mut left = vec![(Vec::new(), files.root()?)];
        while let Some((path, inode)) = left.pop() {
            // No two names of ours share an inode; a directory within itself would have no end.
            if !seen.insert(inode.nid()) {
                return Err(Damage::DirectoryLoop.into());
            }
            if path.len() > usize::from(u16::MAX) {
                return Err(Damage::Name.into());
            }
            let target;
            let (kind, digest) = match inode.kind() {
                Kind::File => (ItemKind::File(inode.size()), Some(digest(files, &inode)?)),
                Kind::Symlink => {
                    target = files.read_link(&inode)?;
                    (ItemKind::Symlink(&target), None)
                }
                Kind::Directory => (ItemKind::Directory, None),
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
            let raw = inode.raw();
            let placed = Placed {
                nid: inode.nid(),
                start_block: raw.start_block,
                // Checked to lie within the file system, whose blocks 32 bits count.
                blocks: inode.in_blocks().div_ceil(BLOCK as u64) as u32,
                digest,
                item: Item {
                    path: &path,
                    kind,
                    permissions: inode.permissions(),
                    uid: raw.uid,
                    gid: raw.gid,
                    mtime: raw.mtime,
                    mtime_nsec: raw.mtime_nsec,
                },
            };
            placed.encode(&mut records);
        }
        // A directory whose names are not in order would give a tree that is none.
        Self::from_records(superblock, records).ok_or_else(|| Damage::Directory.into())
    }
}
