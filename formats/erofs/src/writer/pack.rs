//! Finds places for metadata records: an inode and its tail, which must lie in one block.

use crate::format::{BLOCK, SLOT};

/// How many blocks behind the newest one may still take a record. Best fit over a window wastes little and
/// lets a writer flush whatever is behind the window: 128 blocks are half a megabyte.
pub(super) const WINDOW: u64 = 128;

/// Places records into blocks.
pub(super) struct Packer {
    next: u64,
    /// Blocks that have room, with the bytes that are used.
    open: Vec<(u64, usize)>,
}

impl Packer {
    /// Starts at a block.
    pub(super) fn new(first: u64) -> Self {
        Self {
            next: first,
            open: Vec::new(),
        }
    }

    /// The byte offset of a place for `length` bytes, at most a block: in the block where it leaves the least room.
    pub(super) fn place(&mut self, length: usize) -> u64 {
        let length = length.next_multiple_of(SLOT as usize);
        let best = (0..self.open.len())
            .filter(|index| self.open[*index].1 + length <= BLOCK)
            .max_by_key(|index| self.open[*index].1);
        let index = best.unwrap_or_else(|| {
            self.open.push((self.next, 0));
            self.next += 1;
            let oldest = self.next.saturating_sub(WINDOW);
            self.open.retain(|(block, _)| *block >= oldest);
            self.open.len() - 1
        });
        let (block, used) = &mut self.open[index];
        let at = *block * BLOCK as u64 + *used as u64;
        *used += length;
        if *used + crate::format::INODE_SIZE > BLOCK {
            self.open.swap_remove(index);
        }
        at
    }

    /// The first block that it did not use.
    pub(super) fn end(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_neither_overlap_nor_cross_blocks_nor_fall_behind_the_window() {
        let mut packer = Packer::new(7);
        let mut used = std::collections::BTreeMap::new();
        let (mut random, mut newest) = (1_u64, 7);
        for _ in 0..10_000 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let length = 64 + (random >> 33) as usize % 4033;
            let at = packer.place(length);
            assert_eq!(at % SLOT, 0);
            assert!(at as usize % BLOCK + length <= BLOCK);
            let block = at / BLOCK as u64;
            newest = newest.max(block);
            assert!(block + WINDOW > newest);
            assert!(
                used.range(..at + length as u64)
                    .next_back()
                    .is_none_or(|(_, end)| *end <= at)
            );
            used.insert(at, at + length as u64);
        }
        let bytes: u64 = used.iter().map(|(start, end)| end - start).sum();
        assert!(
            bytes * 100 / ((packer.end() - 7) * BLOCK as u64) >= 90,
            "the packing wastes more than a tenth"
        );
    }
}
