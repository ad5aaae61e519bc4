//! Changes a file system so that whoever opens it meanwhile, or after a stop at any moment, finds the old tree or the
//! new one.
//!
//! Files that did not change stay where they are; everything else goes into blocks that the old tree does not use.
//! All directories are written anew: each names its parent, and the root moves to another slot. Then one sector, the
//! superblock's, makes the new tree the tree, between two barriers. What only the old tree used is free from then on.

use std::collections::HashMap;
use std::io::{self, Read as _};

use super::ahead::read_error;
use super::base::{Base, Placed};
use super::blocks::{Free, Scattered};
use super::content::{Content, Written, superblock};
use super::output::{CHUNK, Run};
use super::pack::Packer;
use super::plan::{Node, Nodes, ROOT_BLOCK};
use super::tree_digest::TreeDigest;
use super::{Error, Item, ItemKind, WriteAt, compare_paths, shown};
use crate::format::{BLOCK, INODE_SIZE, Kind, SLOT, SUPERBLOCK_OFFSET};

/// Slots for the root in its block: one in two, since an inode has two slots' size.
const ROOT_SLOTS: u64 = (BLOCK / INODE_SIZE) as u64;

/// Holes that are always tolerated: 1 MiB.
const TOLERATED: u64 = 256;

/// A device with a barrier.
pub trait Durable: WriteAt {
    /// When it returns, all that was written before survives a power cut.
    ///
    /// # Errors
    /// The device fails.
    fn flush(&self) -> io::Result<()>;
}

/// How many paths an update concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths that have other content, another target, other attributes, or another kind.
    pub changed: usize,
    /// Paths that were not there.
    pub added: usize,
    /// Paths that are there no more.
    pub removed: usize,
}

impl Changes {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an update is not worth it; the tree is to be written from nothing instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// More than a third of the blocks would be holes.
    Holes,
    /// What changed has no room beside the old tree.
    Room,
}

/// The digests of files, by the index of their items.
#[derive(Debug)]
struct Digests(Vec<Option<blake3::Hash>>);

impl Digests {
    fn of(&self, node: &Node<'_>) -> Option<blake3::Hash> {
        self.0.get(node.source? as usize).copied().flatten()
    }
}

/// An update that is ready to be written.
#[derive(Debug)]
pub struct Update<'a> {
    nodes: Nodes<'a>,
    digests: Digests,
    /// Whether a node's inode is to be written.
    moved: Vec<bool>,
    /// Whether a file's blocks are to be written.
    stored: Vec<bool>,
    blocks: u64,
    holes: u64,
    changes: Changes,
}

impl<'a> Update<'a> {
    /// Plans the way from `base` to these items, whose files have the digests in `digests`, by their index.
    ///
    /// # Errors
    /// Items that no file system can hold, or that cannot be together; a base that cannot be true.
    pub fn new(
        base: &Base,
        items: impl IntoIterator<Item = Item<'a>>,
        digests: Vec<Option<blake3::Hash>>,
    ) -> Result<Self, Error> {
        let nodes = Nodes::new(items)?;
        let count = nodes.all.len();
        let mut update = Self {
            nodes,
            digests: Digests(digests),
            moved: vec![true; count],
            stored: vec![false; count],
            blocks: 0,
            holes: 0,
            changes: Changes::default(),
        };
        update.keep(base);
        if !update.changes.is_empty() {
            update.nodes.shape();
            update.place(base)?;
        }
        Ok(update)
    }

    /// How many paths it concerns. If none, there is nothing to write.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// The digest of the new tree.
    #[must_use]
    pub fn digest(&self) -> blake3::Hash {
        let mut digest = TreeDigest::default();
        for node in &self.nodes.all {
            digest.add(&node.item, self.digests.of(node));
        }
        digest.finish()
    }

    /// Why a device of `size` bytes should rather be written from nothing.
    #[must_use]
    pub fn obstacle(&self, size: u64) -> Option<Obstacle> {
        if self.blocks > (size / BLOCK as u64).min(u64::from(u32::MAX)) {
            Some(Obstacle::Room)
        } else if self.holes > (self.blocks - self.holes) / 2 + TOLERATED {
            Some(Obstacle::Holes)
        } else {
            None
        }
    }

    /// Finds what can stay where it is. Both trees are in the order of paths.
    fn keep(&mut self, base: &Base) {
        let mut old = base.nodes().peekable();
        let changes = &mut self.changes;
        for (index, node) in self.nodes.all.iter_mut().enumerate() {
            let path = node.item.path;
            while old
                .next_if(|placed| compare_paths(placed.item.path, path).is_lt())
                .is_some()
            {
                changes.removed += 1;
            }
            let Some(placed) = old.next_if(|placed| placed.item.path == path) else {
                changes.added += 1;
                continue;
            };
            if placed.item != node.item || placed.digest != self.digests.of(node) {
                changes.changed += 1;
            } else if node.kind() != Kind::Directory {
                self.moved[index] = false;
                node.address = placed.nid.saturating_mul(SLOT);
                node.start_block = u64::from(placed.start_block);
            }
        }
        changes.removed += old.count();
    }

    /// Finds a place for everything else.
    fn place(&mut self, base: &Base) -> Result<(), Error> {
        let mut free = Free::new(base)?;
        // Content that is to be stored: where the old tree has it, or another file of the new one.
        let digests = &self.digests;
        let content = |node: &Node<'_>| Some((digests.of(node)?, node.size));
        let mut known: HashMap<_, Option<u64>> = HashMap::new();
        for (index, node) in self.nodes.all.iter().enumerate() {
            if self.moved[index] && node.blocks() > 0 {
                known.extend(content(node).map(|same| (same, None)));
            }
        }
        for placed in base.nodes().filter(|placed| placed.blocks > 0) {
            if let Some(place) = placed.content().and_then(|same| known.get_mut(&same)) {
                *place = Some(u64::from(placed.start_block));
            }
        }
        for (index, node) in self.nodes.all.iter_mut().enumerate() {
            if !self.moved[index] || node.blocks() == 0 {
                continue;
            }
            let same = content(node);
            if let Some(start) = same.and_then(|same| *known.get(&same)?) {
                node.start_block = start;
                continue;
            }
            node.start_block = free.take(node.blocks());
            self.stored[index] = node.kind() != Kind::Directory;
            known.extend(same.map(|same| (same, Some(node.start_block))));
        }

        let slot = u64::from(base.superblock.root_nid) * SLOT % BLOCK as u64 / INODE_SIZE as u64;
        let slot = (slot + 1) % ROOT_SLOTS;
        self.nodes.all[0].address = ROOT_BLOCK * BLOCK as u64 + slot * INODE_SIZE as u64;
        for directories in [true, false] {
            let mut packer = Packer::new(0);
            let mut blocks = Vec::new();
            for (index, node) in self.nodes.all.iter_mut().enumerate().skip(1) {
                if self.moved[index] && (node.kind() == Kind::Directory) == directories {
                    let place = packer.place(INODE_SIZE + node.tail());
                    let block = (place / BLOCK as u64) as usize;
                    while blocks.len() <= block {
                        blocks.push(free.take(1));
                    }
                    node.address = blocks[block] * BLOCK as u64 + place % BLOCK as u64;
                }
            }
        }
        self.blocks = free.end();
        self.holes = self.blocks.saturating_sub(self.live());
        Ok(())
    }

    /// How many blocks the new tree would need without holes.
    fn live(&self) -> u64 {
        let mut seen = vec![false; self.blocks as usize];
        let (mut blocks, mut inodes) = (ROOT_BLOCK + 1, 0);
        for node in &self.nodes.all {
            // Those that share their blocks have the same first one. One beyond the end cannot be.
            let first = seen.get_mut(node.start_block as usize);
            if node.blocks() > 0 && first.is_some_and(|seen| !std::mem::replace(seen, true)) {
                blocks += node.blocks();
            }
            inodes += (INODE_SIZE + node.tail()).next_multiple_of(SLOT as usize) as u64;
        }
        blocks + inodes.div_ceil(BLOCK as u64)
    }

    /// Writes it: all that changed, a barrier, the superblock, a barrier; and tells `placed` where each node lies, as
    /// [`super::write()`] does.
    ///
    /// # Errors
    /// A file cannot be read or changes meanwhile, or the device fails. The old tree is the tree then, unless it is
    /// the last barrier that fails.
    pub fn write<W, C>(
        self,
        volume_name: &str,
        device: &W,
        sources: &C,
        placed: &mut dyn FnMut(&Placed<'_>),
    ) -> Result<Written, Error>
    where
        W: Durable,
        C: Content,
    {
        let mut data = Run::new(device, 0);
        let mut records = Scattered::new(device);
        // Directories apart from files, as they were placed.
        for directories in [true, false] {
            for index in (0..self.nodes.all.len()).filter(|index| self.moved[*index]) {
                if (self.nodes.all[index].kind() == Kind::Directory) == directories {
                    let tail = self.data(index, &mut data, sources)?;
                    self.record(index, &tail, &mut records, device)
                        .map_err(Error::Write)?;
                }
            }
            records.finish().map_err(Error::Write)?;
        }
        data.finish().map_err(Error::Write)?;
        device.flush().map_err(Error::Write)?;

        let digest = self.digest();
        // `obstacle` has checked that 32 bits are enough.
        let superblock = superblock(&self.nodes, digest, volume_name, self.blocks as u32);
        let commit = device.write_at(SUPERBLOCK_OFFSET, &superblock.encode());
        commit.and_then(|()| device.flush()).map_err(Error::Write)?;
        for node in &self.nodes.all {
            placed(&Placed::new(node, node.start_block, self.digests.of(node)));
        }
        Ok(Written { digest, superblock })
    }

    /// Writes a node's blocks where that is needed; its tail.
    fn data<W, C>(&self, index: usize, run: &mut Run<'_, W>, sources: &C) -> Result<Vec<u8>, Error>
    where
        W: WriteAt,
        C: Content,
    {
        let node = &self.nodes.all[index];
        let bytes = match node.item.kind {
            ItemKind::File(_) => return self.file(index, run, sources),
            ItemKind::Directory => self.nodes.directory(index),
            ItemKind::Symlink(target) => target.to_vec(),
        };
        let (blocks, tail) = bytes.split_at(bytes.len() - node.tail());
        if !blocks.is_empty() {
            run.seek(node.start_block).map_err(Error::Write)?;
            run.put(blocks).map_err(Error::Write)?;
        }
        Ok(tail.to_vec())
    }

    fn file<W, C>(&self, index: usize, run: &mut Run<'_, W>, sources: &C) -> Result<Vec<u8>, Error>
    where
        W: WriteAt,
        C: Content,
    {
        let (node, stored) = (&self.nodes.all[index], self.stored[index]);
        if !stored && node.tail() == 0 {
            return Ok(Vec::new());
        }
        if stored {
            run.seek(node.start_block).map_err(Error::Write)?;
        }
        let unreadable = |error| read_error(node, error);
        let changed = || Error::Changed(shown(node.item.path));
        let source = sources
            .open(node.source.unwrap_or_default() as usize)
            .map_err(unreadable)?;
        // One byte more than planned shows that a file has grown.
        let mut source = source.take(node.size + 1);
        let in_blocks = node.size - node.tail() as u64;
        let (mut hasher, mut at, mut tail) = (blake3::Hasher::new(), 0, Vec::new());
        let mut buffer = vec![0; CHUNK.min(node.size as usize + 1)];
        loop {
            let piece = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => &buffer[..length],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            hasher.update(piece);
            let split = usize::try_from(in_blocks.saturating_sub(at)).unwrap_or(usize::MAX);
            let (blocks, rest) = piece.split_at(split.min(piece.len()));
            at += piece.len() as u64;
            if at > node.size {
                return Err(changed());
            }
            tail.extend_from_slice(rest);
            if stored {
                run.extend(blocks).map_err(Error::Write)?;
            }
        }
        if self.digests.of(node) != Some(hasher.finalize()) {
            return Err(changed());
        }
        if stored {
            run.pad();
        }
        Ok(tail)
    }

    /// Puts an inode and its tail.
    fn record<W: WriteAt>(
        &self,
        index: usize,
        tail: &[u8],
        records: &mut Scattered<'_, W>,
        device: &W,
    ) -> io::Result<()> {
        let node = &self.nodes.all[index];
        let inode = self.nodes.inode(index, node.start_block).encode();
        if index == 0 {
            // Other slots of its block belong to the old tree.
            return device.write_at(node.address, &inode);
        }
        records.put(node.address, &[&inode, tail].concat())
    }
}
