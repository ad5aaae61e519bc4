//! Blocks for an update: which ones the old tree does not use, and a writer for such as lie apart.

use std::collections::BTreeMap;
use std::io;

use super::pack::WINDOW;
use super::{Base, Error, WriteAt};
use crate::format::{BLOCK, SLOT};

/// Blocks that are collected before they are written, beyond those that may still be filled.
const COLLECTED: usize = 256;

/// Blocks that the old tree does not use: in its holes, then behind its end.
pub(super) struct Free {
    /// First block and length of each hole, in order.
    holes: Vec<(u64, u64)>,
    end: u64,
}

impl Free {
    /// Finds the holes of a tree.
    pub(super) fn new(base: &Base) -> Result<Self, Error> {
        let end = u64::from(base.superblock.blocks);
        let mut used = vec![false; base.superblock.blocks as usize];
        // The superblock, and the root's slots.
        let fixed = used.get_mut(..2).ok_or(Error::Base)?;
        fixed.fill(true);
        for node in base.nodes() {
            let inode = usize::try_from(node.nid.saturating_mul(SLOT) / BLOCK as u64).unwrap_or(usize::MAX);
            *used.get_mut(inode).ok_or(Error::Base)? = true;
            let start = node.start_block as usize;
            let data = used.get_mut(start..start + node.blocks as usize);
            data.ok_or(Error::Base)?.fill(true);
        }
        let mut holes: Vec<(u64, u64)> = Vec::new();
        for (block, _) in (0..).zip(&used).filter(|(_, used)| !**used) {
            match holes.last_mut() {
                Some((start, length)) if *start + *length == block => *length += 1,
                _ => holes.push((block, 1)),
            }
        }
        Ok(Self { holes, end })
    }

    /// Takes blocks that follow one another: from the first hole that has room.
    pub(super) fn take(&mut self, count: u64) -> u64 {
        if count == 0 {
            return 0;
        }
        if let Some(index) = self.holes.iter().position(|(_, length)| *length >= count) {
            let (start, length) = &mut self.holes[index];
            let taken = *start;
            *start += count;
            *length -= count;
            if *length == 0 {
                self.holes.remove(index);
            }
            return taken;
        }
        let taken = match self.holes.last() {
            Some((start, length)) if start + length == self.end => {
                let start = *start;
                self.holes.pop();
                start
            }
            _ => self.end,
        };
        self.end = taken + count;
        taken
    }

    /// The first block that neither tree uses.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

/// Writes pieces of blocks that nothing else lies in; what lies side by side in one go.
pub(super) struct Scattered<'a, W> {
    device: &'a W,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl<'a, W: WriteAt> Scattered<'a, W> {
    pub(super) fn new(device: &'a W) -> Self {
        Self {
            device,
            blocks: BTreeMap::new(),
        }
    }

    /// Puts bytes at an offset, within one block.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = offset as usize % BLOCK;
        let block = self.blocks.entry(offset / BLOCK as u64);
        block.or_insert_with(|| vec![0; BLOCK])[at..at + bytes.len()].copy_from_slice(bytes);
        // Places are given in ascending order, none further than the window behind the newest one.
        if self.blocks.len() > WINDOW as usize + COLLECTED {
            self.write(WINDOW as usize)?;
        }
        Ok(())
    }

    /// Writes all that was collected.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.write(0)
    }

    fn write(&mut self, keep: usize) -> io::Result<()> {
        while self.blocks.len() > keep {
            let Some((first, mut bytes)) = self.blocks.pop_first() else {
                break;
            };
            while self.blocks.len() > keep {
                let next = first + (bytes.len() / BLOCK) as u64;
                let Some(more) = self.blocks.remove(&next) else {
                    break;
                };
                bytes.extend_from_slice(&more);
            }
            self.device.write_at(first * BLOCK as u64, &bytes)?;
        }
        Ok(())
    }
}
