//! The tables of a folder's data base, and what is done with them in one transaction. What is checked, and when all is
//! committed, is decided above, in [`super::tree`].

use std::collections::HashMap;

use redb::{ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::error::{Error, Result};
use super::tree::Node;

/// `version`; `next`, the number of the next inode; `used`, bytes that files and chunks take of the volume.
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");
/// Inodes: whether it is a directory, bytes, time of the last change (seconds since 1970, nanoseconds).
const NODES: TableDefinition<'_, u64, (bool, u64, u64, u32)> = TableDefinition::new("nodes");
/// Entries of directories: the directory and the name; the inode.
const NAMES: TableDefinition<'_, (u64, &[u8]), u64> = TableDefinition::new("names");
/// Content: the inode and the chunk's number; its bytes. What lacks, also behind a chunk's end, is zero; so is what a
/// chunk has behind the file's end.
const CHUNKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("chunks");
/// Files that were removed while they were open: removed for good when the last that has one closes it.
const ORPHANS: TableDefinition<'_, u64, ()> = TableDefinition::new("orphans");

/// The inode of `/`.
pub(super) const ROOT: u64 = 1;

/// Bytes of a chunk, of redb's page, and what of a page is for key and administration. A chunk is filled up with zeros
/// to 1, 2, 4 or 8 pages, so that no two share one: redb would take twice the pages for a large and a small one.
pub(super) const CHUNK: usize = 8 * PAGE - OVERHEAD;
const PAGE: usize = 4096;
const OVERHEAD: usize = 128;

/// Bytes that a file takes beside its content, generously: its entries in all tables with their share of pages.
const NODE: u64 = 512;

/// Most bytes of a name (Linux `NAME_MAX`).
const MAX_NAME: usize = 255;

/// Most bytes of a file: a position is a positive number of 64 bits.
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// The tables of the transaction.
pub(super) struct Tables<'a> {
    pub(super) facts: Table<'a, &'static str, u64>,
    pub(super) nodes: Table<'a, u64, (bool, u64, u64, u32)>,
    pub(super) names: Table<'a, (u64, &'static [u8]), u64>,
    pub(super) chunks: Table<'a, (u64, u64), &'static [u8]>,
    pub(super) orphans: Table<'a, u64, ()>,
}

impl<'a> Tables<'a> {
    pub(super) fn of(write: &'a WriteTransaction) -> Result<Self> {
        Ok(Self {
            facts: write.open_table(FACTS)?,
            nodes: write.open_table(NODES)?,
            names: write.open_table(NAMES)?,
            chunks: write.open_table(CHUNKS)?,
            orphans: write.open_table(ORPHANS)?,
        })
    }
}

impl Tables<'_> {
    pub(super) fn fact(&self, name: &str) -> Result<u64> {
        Ok(self.facts.get(name)?.map_or(0, |value| value.value()))
    }

    pub(super) fn put(&mut self, node: &Node) -> Result<()> {
        let value = (node.is_directory, node.size, node.seconds, node.nanoseconds);
        self.nodes.insert(node.inode, value)?;
        Ok(())
    }

    pub(super) fn node(&self, inode: u64) -> Result<Node> {
        // Whoever asks has the number from an entry or from an open file.
        let value = self.nodes.get(inode)?.ok_or(Error::IO)?;
        let (is_directory, size, seconds, nanoseconds) = value.value();
        Ok(Node {
            inode,
            is_directory,
            size,
            seconds,
            nanoseconds,
        })
    }

    pub(super) fn file(&self, inode: u64) -> Result<Node> {
        let node = self.node(inode)?;
        if node.is_directory {
            Err(Error::IS_A_DIRECTORY)
        } else {
            Ok(node)
        }
    }

    pub(super) fn touch(&mut self, directory: u64) -> Result<()> {
        let node = self.node(directory)?;
        self.put(&node.changed(node.size))
    }

    /// The inodes from the root to what is at a path.
    pub(super) fn way(&self, path: &[u8]) -> Result<Vec<u64>> {
        let mut way = vec![ROOT];
        for name in names(path) {
            let here = *way.last().unwrap_or(&ROOT);
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            if !self.node(here)?.is_directory {
                return Err(Error::NOT_A_DIRECTORY);
            }
            if name.len() > MAX_NAME {
                return Err(Error::NAME_TOO_LONG);
            }
            match self.names.get((here, name))? {
                Some(inode) => way.push(inode.value()),
                None => return Err(Error::NOT_FOUND),
            }
        }
        Ok(way)
    }

    pub(super) fn find(&self, path: &[u8]) -> Result<Node> {
        let way = self.way(path)?;
        self.node(*way.last().unwrap_or(&ROOT))
    }

    /// The directory that a path's last name is in, and that name.
    pub(super) fn parent<'p>(&self, path: &'p [u8]) -> Result<(u64, &'p [u8])> {
        let name = names(path)
            .last()
            .filter(|name| *name != b"..")
            .ok_or(Error::INVALID)?;
        if name.len() > MAX_NAME {
            return Err(Error::NAME_TOO_LONG);
        }
        let parent = self.find(before(path, name))?;
        if parent.is_directory {
            Ok((parent.inode, name))
        } else {
            Err(Error::NOT_A_DIRECTORY)
        }
    }

    /// Makes an empty file or directory where nothing is.
    pub(super) fn make(&mut self, path: &[u8], directory: bool, room: u64) -> Result<u64> {
        let (parent, name) = self.parent(path)?;
        let inode = self.fact("next")?;
        self.use_room(NODE, room)?;
        self.facts.insert("next", inode + 1)?;
        self.put(&Node::new(inode, directory))?;
        self.names.insert((parent, name), inode)?;
        self.touch(parent)?;
        Ok(inode)
    }

    /// Takes a name away, and what had it, unless somebody has it open.
    pub(super) fn unlink(
        &mut self,
        parent: u64,
        name: &[u8],
        node: &Node,
        open: &HashMap<u64, usize>,
    ) -> Result<()> {
        if node.is_directory {
            let mut entries = self
                .names
                .range((node.inode, &[][..])..(node.inode + 1, &[][..]))?;
            if entries.next().is_some() {
                return Err(Error::NOT_EMPTY);
            }
        }
        self.names.remove((parent, name))?;
        self.touch(parent)?;
        if open.contains_key(&node.inode) {
            self.orphans.insert(node.inode, ())?;
            Ok(())
        } else {
            self.forget(node.inode)
        }
    }

    /// Counts room that is taken, if there is as much.
    pub(super) fn use_room(&mut self, bytes: u64, room: u64) -> Result<()> {
        let used = self.fact("used")? + bytes;
        if used > room {
            return Err(Error::FULL);
        }
        self.facts.insert("used", used)?;
        Ok(())
    }

    pub(super) fn give_room_back(&mut self, bytes: u64) -> Result<()> {
        let used = self.fact("used")?;
        self.facts.insert("used", used.saturating_sub(bytes))?;
        Ok(())
    }

    /// Removes an inode and its content.
    pub(super) fn forget(&mut self, inode: u64) -> Result<()> {
        let node = self.node(inode)?;
        self.cut(node, 0)?;
        self.nodes.remove(inode)?;
        self.give_room_back(NODE)
    }

    /// Sets a file's size; what is beyond becomes zero, so that it is when the file grows again.
    pub(super) fn cut(&mut self, node: Node, size: u64) -> Result<()> {
        if size < node.size {
            let (last, within) = (size / CHUNK as u64, (size % CHUNK as u64) as usize);
            let kept = self.chunks.get((node.inode, last))?;
            let kept = kept.map(|chunk| chunk.value()[..chunk.value().len().min(within)].to_vec());
            let gone = self
                .chunks
                .extract_from_if((node.inode, last)..(node.inode + 1, 0), |_, _| true)?;
            let mut freed = 0;
            for chunk in gone {
                freed += pages(chunk?.1.value().len());
            }
            if let Some(mut kept) = kept.filter(|_| within > 0) {
                kept.resize(filled_up(within), 0);
                freed = freed.saturating_sub(pages(kept.len()));
                self.chunks.insert((node.inode, last), kept.as_slice())?;
            }
            self.give_room_back(freed)?;
        }
        self.put(&node.changed(size))
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8], room: u64) -> Result<()> {
        let node = self.file(inode)?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| *end <= MAX_SIZE);
        let end = end.ok_or(Error::TOO_LARGE)?;
        let mut changed = Vec::new();
        let mut taken = 0;
        for (index, within, part) in pieces(offset, bytes.len()) {
            let bytes = &bytes[part];
            let old = self.chunks.get((inode, index))?;
            let mut chunk = old.map_or_else(Vec::new, |chunk| chunk.value().to_vec());
            if chunk.len() < within + bytes.len() {
                let before = pages(chunk.len());
                chunk.resize(filled_up(within + bytes.len()), 0);
                taken += pages(chunk.len()) - before;
            }
            chunk[within..][..bytes.len()].copy_from_slice(bytes);
            changed.push((index, chunk));
        }
        self.use_room(taken, room)?;
        for (index, chunk) in changed {
            self.chunks.insert((inode, index), chunk.as_slice())?;
        }
        self.put(&node.changed(end.max(node.size)))
    }
}

/// Bytes that a chunk is filled up to.
fn filled_up(length: usize) -> usize {
    let pages = (length + OVERHEAD).div_ceil(PAGE).next_power_of_two();
    pages * PAGE - OVERHEAD
}

/// Bytes of the pages that a chunk, filled up, takes.
fn pages(length: usize) -> u64 {
    if length == 0 {
        0
    } else {
        (length + OVERHEAD) as u64
    }
}

/// What is in front of a path's last name.
pub(super) fn before<'p>(path: &'p [u8], name: &[u8]) -> &'p [u8] {
    &path[..name.as_ptr() as usize - path.as_ptr() as usize]
}

/// A path's names, without `.`.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
}

/// The chunks that a range touches: the number, where in it the range begins, and which part of the range that is.
pub(super) fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % CHUNK as u64) as usize;
        let end = length.min(done + CHUNK - within);
        let piece = (at / CHUNK as u64, within, done..end);
        let is_left = done < length;
        done = end;
        is_left.then_some(piece)
    })
}
