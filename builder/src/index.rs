//! The index of an image, `<name>.qcow2.index`: what is in the image, where it lies, and what the host said of each
//! file when it was read. With it an update finds out what changed without reading the image, or the files.
//!
//! It is a cache: whoever deletes it only makes the next update read all of the image and all files. It counts only
//! with its own digest right and the superblock in it the image's; an update removes it before it writes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | [`MAGIC`] |
//! | 32 | BLAKE3 of the rest |
//! | rest | [`Stored`], as `postcard` encodes it |

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use hermitage_erofs::format::{CHECKSUM_SPAN, SUPERBLOCK_SIZE, Superblock};
use hermitage_erofs::writer::{Base, Item, ItemKind, Placed};
use serde::{Deserialize, Serialize};

use crate::cache::{CacheError, failed, remove, suffixed};
use crate::tree::Stat;

/// What an index starts with; its last digit is the version. 1: the first one.
const MAGIC: &[u8; 8] = b"HMINDEX1";

/// Bytes before [`Stored`].
const HEADER: usize = MAGIC.len() + blake3::OUT_LEN;

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// What is in it.
    pub(crate) base: Base,
    /// What the host said of the files that can be trusted, by their paths in the image.
    pub(crate) stats: HashMap<Vec<u8>, Stat>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    superblock: Vec<u8>,
    nodes: Vec<StoredNode>,
}

#[derive(Serialize, Deserialize)]
struct StoredNode {
    path: Vec<u8>,
    kind: StoredKind,
    permissions: u16,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    nid: u64,
    start_block: u32,
    blocks: u32,
    digest: Option<[u8; blake3::OUT_LEN]>,
    stat: Option<Stat>,
}

#[derive(Serialize, Deserialize)]
enum StoredKind {
    File(u64),
    Directory,
    Symlink(Vec<u8>),
}

impl Index {
    /// The index of an image that has this superblock; `None` if it is missing, stale or damaged.
    pub(crate) fn load(image: &Path, superblock: &Superblock) -> Option<Self> {
        let bytes = fs::read(suffixed(image, ".index")).ok()?;
        let stored = bytes.get(HEADER..)?;
        let (magic, digest) = bytes[..HEADER].split_at(MAGIC.len());
        if magic != MAGIC || blake3::hash(stored).as_bytes() != digest {
            return None;
        }
        let stored: Stored = postcard::from_bytes(stored).ok()?;
        let mut span = [0; CHECKSUM_SPAN];
        span.get_mut(..SUPERBLOCK_SIZE)?
            .copy_from_slice(stored.superblock.get(..SUPERBLOCK_SIZE)?);
        if Superblock::decode(&span).ok()? != *superblock {
            return None;
        }
        let mut index = Self {
            base: Base {
                superblock: superblock.clone(),
                nodes: Vec::with_capacity(stored.nodes.len()),
            },
            stats: HashMap::with_capacity(stored.nodes.len()),
        };
        for node in stored.nodes {
            if let Some(stat) = node.stat {
                index.stats.insert(node.path.clone(), stat);
            }
            index.base.nodes.push(node.into());
        }
        Some(index)
    }

    /// Puts it beside its image.
    pub(crate) fn save(&self, image: &Path) -> Result<(), CacheError> {
        let node = |placed: &Placed| StoredNode::new(placed, self.stats.get(&placed.item.path).copied());
        let stored = Stored {
            superblock: self.base.superblock.encode().to_vec(),
            nodes: self.base.nodes.iter().map(node).collect(),
        };
        let path = &suffixed(image, ".index");
        let mut bytes = [&MAGIC[..], &[0; blake3::OUT_LEN]].concat();
        bytes = postcard::to_extend(&stored, bytes)
            .map_err(std::io::Error::other)
            .map_err(failed("write", path))?;
        let digest = blake3::hash(&bytes[HEADER..]);
        bytes[MAGIC.len()..HEADER].copy_from_slice(digest.as_bytes());
        fs::write(path, bytes).map_err(failed("write", path))
    }

    /// Removes the index of an image that is about to change.
    pub(crate) fn remove(image: &Path) -> Result<(), CacheError> {
        remove(&suffixed(image, ".index"))
    }
}

impl StoredNode {
    fn new(placed: &Placed, stat: Option<Stat>) -> Self {
        let item = &placed.item;
        Self {
            path: item.path.clone(),
            kind: match &item.kind {
                ItemKind::File(size) => StoredKind::File(*size),
                ItemKind::Directory => StoredKind::Directory,
                ItemKind::Symlink(target) => StoredKind::Symlink(target.clone()),
            },
            permissions: item.permissions,
            uid: item.uid,
            gid: item.gid,
            mtime: (item.mtime, item.mtime_nsec),
            nid: placed.nid,
            start_block: placed.start_block,
            blocks: placed.blocks,
            digest: placed.digest.map(Into::into),
            stat,
        }
    }
}

impl From<StoredNode> for Placed {
    fn from(node: StoredNode) -> Self {
        Self {
            item: Item {
                path: node.path,
                kind: match node.kind {
                    StoredKind::File(size) => ItemKind::File(size),
                    StoredKind::Directory => ItemKind::Directory,
                    StoredKind::Symlink(target) => ItemKind::Symlink(target),
                },
                permissions: node.permissions,
                uid: node.uid,
                gid: node.gid,
                mtime: node.mtime.0,
                mtime_nsec: node.mtime.1,
            },
            nid: node.nid,
            start_block: node.start_block,
            blocks: node.blocks,
            digest: node.digest.map(Into::into),
        }
    }
}
