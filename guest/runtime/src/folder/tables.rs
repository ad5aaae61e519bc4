//! The tables of a folder's data base, and what is done with them in one transaction. What is checked, and when all is
//! committed, is decided above, in [`super::tree`].

use std::collections::HashMap;

use redb::{ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::chunk::{CHUNK, Chunk, touched};
use super::error::{Error, Result};
use super::tree::Node;
use crate::sum::sum;

// The last part of each value is the sum of the others and of the key; chunks have several of their own.

/// `version`; `next`, the number of the next inode; `used`, bytes that files and chunks take of the volume.
const FACTS: TableDefinition<'_, &str, (u64, u32)> = TableDefinition::new("facts");
/// Inodes: 1 for a directory, 0 for a file (no `bool`: redb panics at one that is damaged), bytes, time of the last change (seconds since 1970, nanoseconds), parts
/// ([`Node::parts`]).
const NODES: TableDefinition<'_, u64, (u8, u64, u64, u32, u64, u32)> = TableDefinition::new("nodes");
/// Entries of directories: the directory and the name; the inode.
const NAMES: TableDefinition<'_, (u64, &[u8]), (u64, u32)> = TableDefinition::new("names");
/// Content: the inode and the chunk's number; its sums and bytes ([`Chunk`]). What lacks, also behind a chunk's end, is
/// zero; so is what a chunk has behind the file's end.
const CHUNKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("chunks");
/// Files that were removed while they were open: removed for good when the last that has one closes it.
const ORPHANS: TableDefinition<'_, u64, u32> = TableDefinition::new("orphans");

/// The inode of `/`.
pub(super) const ROOT: u64 = 1;

/// Bytes that a file takes beside its content, generously: its entries in all tables with their share of pages.
const NODE: u64 = 512;

/// Most bytes of a name (Linux `NAME_MAX`).
const MAX_NAME: usize = 255;

/// Most bytes of a file: a position is a positive number of 64 bits.
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// The tables of the transaction.
pub(super) struct Tables<'a> {
    facts: Table<'a, &'static str, (u64, u32)>,
    nodes: Table<'a, u64, (u8, u64, u64, u32, u64, u32)>,
    names: Table<'a, (u64, &'static [u8]), (u64, u32)>,
    chunks: Table<'a, (u64, u64), &'static [u8]>,
    orphans: Table<'a, u64, u32>,
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
        match self.facts.get(name)? {
            Some(found) => whole(found.value(), |value| sum(value, name.as_bytes())),
            None => Ok(0),
        }
    }

    pub(super) fn put_fact(&mut self, name: &str, value: u64) -> Result<()> {
        self.facts.insert(name, (value, sum(value, name.as_bytes())))?;
        Ok(())
    }

    pub(super) fn put(&mut self, node: &Node) -> Result<()> {
        let value = (
            node.is_directory.into(),
            node.size,
            node.seconds,
            node.nanoseconds,
            node.parts,
            node.sum(),
        );
        self.nodes.insert(node.inode, value)?;
        Ok(())
    }

    pub(super) fn node(&self, inode: u64) -> Result<Node> {
        // Whoever asks has the number from an entry or from an open file.
        let value = self.nodes.get(inode)?.ok_or(Error::IO)?;
        let (kind, size, seconds, nanoseconds, parts, sum) = value.value();
        let node = Node {
            inode,
            is_directory: match kind {
                0 => false,
                1 => true,
                _ => return Err(Error::IO),
            },
            size,
            seconds,
            nanoseconds,
            parts,
        };
        whole((node, sum), |node| node.sum())
    }

    /// The inode of a directory's entry.
    fn entry(&self, directory: u64, name: &[u8]) -> Result<Option<u64>> {
        let found = self.names.get((directory, name))?;
        found
            .map(|found| whole(found.value(), |inode| sum_of_entry(directory, name, inode)))
            .transpose()
    }

    /// Puts an entry where there is none.
    pub(super) fn put_entry(&mut self, directory: u64, name: &[u8], inode: u64) -> Result<()> {
        let sum = sum_of_entry(directory, name, inode);
        self.names.insert((directory, name), (inode, sum))?;
        let node = self.node(directory)?;
        self.put(&node.changed(node.size, node.parts.saturating_add(1)))
    }

    pub(super) fn remove_entry(&mut self, directory: u64, name: &[u8]) -> Result<()> {
        self.names.remove((directory, name))?;
        let node = self.node(directory)?;
        self.put(&node.changed(node.size, node.parts.saturating_sub(1)))
    }

    /// A directory's entries, by their names' bytes.
    pub(super) fn entries(&self, directory: &Node) -> Result<Vec<(Vec<u8>, Node)>> {
        let inode = directory.inode;
        let entries = self.names.range((inode, &[][..])..(inode + 1, &[][..]))?;
        let entries = entries.map(|entry| {
            let (key, found) = entry?;
            let (_, name) = key.value();
            let child = whole(found.value(), |child| sum_of_entry(inode, name, child))?;
            // Whoever copies it out trusts that it is one name; a guest may have put anything on its volume.
            if !names(name).eq([name]) || name == b".." || name.contains(&0) {
                return Err(Error::IO);
            }
            Ok((name.to_vec(), self.node(child)?))
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        match entries.len() as u64 == directory.parts {
            true => Ok(entries),
            false => Err(Error::IO),
        }
    }

    /// Inodes without a name, that were open.
    pub(super) fn orphans(&self) -> Result<Vec<u64>> {
        let orphans = self.orphans.iter()?.map(|entry| {
            let (inode, found) = entry?;
            whole((inode.value(), found.value()), |inode| sum(inode, &[]))
        });
        orphans.collect()
    }

    /// Removes the inode if it has no name.
    pub(super) fn forget_orphan(&mut self, inode: u64) -> Result<()> {
        if self.orphans.remove(inode)?.is_some() {
            self.forget(inode)?;
        }
        Ok(())
    }

    /// Puts a chunk that no file has.
    pub(super) fn put_pin(&mut self, inode: u64, number: u64) -> Result<()> {
        self.chunks.insert((inode, number), [0; CHUNK].as_slice())?;
        Ok(())
    }

    /// Copies what is of a chunk, from a place within it on; the rest of the buffer is as it was.
    pub(super) fn read(&self, file: &Node, index: u64, within: usize, buffer: &mut [u8]) -> Result<()> {
        let key = (file.inode, index);
        match self.chunks.get(key)? {
            Some(found) => {
                let chunk = Chunk::new(key, found.value())?;
                let bytes = chunk.read(within..within + buffer.len())?;
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            None => file.may_lack(index),
        }
    }

    /// A copy of a chunk, empty where there is none.
    fn chunk(&self, file: &Node, index: u64) -> Result<Chunk<Vec<u8>>> {
        let key = (file.inode, index);
        match self.chunks.get(key)? {
            Some(found) => Chunk::new(key, found.value().to_vec()),
            None => file.may_lack(index).map(|()| Chunk::empty(key)),
        }
    }

    pub(super) fn file(&self, inode: u64) -> Result<Node> {
        let node = self.node(inode)?;
        if node.is_directory {
            Err(Error::IS_A_DIRECTORY)
        } else {
            Ok(node)
        }
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
            way.push(self.entry(here, name)?.ok_or(Error::NOT_FOUND)?);
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
        self.put_fact("next", inode + 1)?;
        self.put(&Node::new(inode, directory))?;
        self.put_entry(parent, name, inode)?;
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
        if node.is_directory && node.parts > 0 {
            return Err(Error::NOT_EMPTY);
        }
        self.remove_entry(parent, name)?;
        if open.contains_key(&node.inode) {
            self.orphans.insert(node.inode, sum(node.inode, &[]))?;
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
        self.put_fact("used", used)
    }

    pub(super) fn give_room_back(&mut self, bytes: u64) -> Result<()> {
        let used = self.fact("used")?;
        self.put_fact("used", used.saturating_sub(bytes))
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
            let mut kept = Chunk::empty((node.inode, last));
            if within > 0 {
                kept.write(0, self.chunk(&node, last)?.read(0..within)?)?;
            }
            let gone = self
                .chunks
                .extract_from_if((node.inode, last)..(node.inode + 1, 0), |_, _| true)?;
            let mut freed = 0;
            for chunk in gone {
                let (key, value) = chunk?;
                // A damaged one can be removed, too.
                freed += Chunk::new(key.value(), value.value()).map_or(0, |chunk| chunk.room());
            }
            if kept.room() > 0 {
                freed = freed.saturating_sub(kept.room());
                self.chunks.insert((node.inode, last), kept.value())?;
            }
            self.give_room_back(freed)?;
        }
        let chunks = size.div_ceil(CHUNK as u64);
        self.put(&node.changed(size, node.parts.min(chunks)))
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8], room: u64) -> Result<()> {
        let node = self.file(inode)?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| *end <= MAX_SIZE);
        let end = end.ok_or(Error::TOO_LARGE)?;
        let mut changed = Vec::new();
        let mut taken = 0;
        let mut parts = node.parts;
        for (index, within, part) in touched(offset, bytes.len()) {
            let mut chunk = self.chunk(&node, index)?;
            let before = chunk.room();
            chunk.write(within, &bytes[part])?;
            taken += chunk.room() - before;
            changed.push((index, chunk));
        }
        self.use_room(taken, room)?;
        for (index, chunk) in changed {
            self.chunks.insert((inode, index), chunk.value())?;
        }
        while parts < end.div_ceil(CHUNK as u64) && self.chunks.get((inode, parts))?.is_some() {
            parts += 1;
        }
        self.put(&node.changed(end.max(node.size), parts))
    }
}

/// What was found with its sum, if that is its sum.
fn whole<T: Copy>((found, stored): (T, u32), sum: impl FnOnce(T) -> u32) -> Result<T> {
    if sum(found) == stored {
        Ok(found)
    } else {
        Err(Error::IO)
    }
}

fn sum_of_entry(directory: u64, name: &[u8], inode: u64) -> u32 {
    sum(directory.rotate_left(32) ^ inode, name)
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
