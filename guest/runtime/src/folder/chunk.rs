//! A file's content, in chunks with a sum for each of their pieces: redb does not look at its own when it reads.
//!
//! | bytes of a chunk's value | |
//! | --- | --- |
//! | 0..32 | for each piece of 4096 bytes its sum ([`sum`]), little-endian |
//! | from 32 on | the content, filled up with zeros to 1, 2, 4 or 8 pages less their overhead; its last piece is shorter |
//!
//! No two chunks share a page: redb would take twice the pages for a large and a small one.

use std::ops::Range;

use super::error::{Error, Result};
use crate::sum::sum;

/// Bytes of redb's page, and what of a chunk's pages is for sums, key and administration.
const PAGE: usize = 4096;
const OVERHEAD: usize = 128;

/// Most bytes of content.
pub(super) const CHUNK: usize = 8 * PAGE - OVERHEAD;

/// Bytes that a sum is of, and those of all sums.
const PIECE: usize = 4096;
const SUMS: usize = CHUNK.div_ceil(PIECE) * SUM;
const SUM: usize = 4;

/// Whose a chunk is, the file's inode and the chunk's number; and its value.
pub(super) struct Chunk<V> {
    key: (u64, u64),
    value: V,
}

impl<V: AsRef<[u8]>> Chunk<V> {
    /// # Errors
    /// There is no such value: what is on the disk is damaged.
    pub(super) fn new(key: (u64, u64), value: V) -> Result<Self> {
        let length = value.as_ref().len();
        let is_one = (SUMS..=SUMS + CHUNK).contains(&length) && filled_up(length - SUMS) == length - SUMS;
        if is_one {
            Ok(Self { key, value })
        } else {
            Err(Error::IO)
        }
    }

    /// The value that is put.
    pub(super) fn value(&self) -> &[u8] {
        self.value.as_ref()
    }

    fn content(&self) -> &[u8] {
        &self.value()[SUMS..]
    }

    /// Bytes of the pages that it takes.
    pub(super) fn room(&self) -> u64 {
        match self.content().len() {
            0 => 0,
            length => (length + OVERHEAD) as u64,
        }
    }

    /// The bytes of a range that are there: what is behind them is zero.
    ///
    /// # Errors
    /// They are not what was put there.
    pub(super) fn read(&self, range: Range<usize>) -> Result<&[u8]> {
        let content = self.content();
        let range = range.start.min(content.len())..range.end.min(content.len());
        if !range.is_empty() {
            (range.start / PIECE..range.end.div_ceil(PIECE)).try_for_each(|piece| self.verify(piece))?;
        }
        Ok(&content[range])
    }

    fn verify(&self, piece: usize) -> Result<()> {
        let sum = &self.value()[piece * SUM..][..SUM];
        if sum == self.sum_of(piece) {
            Ok(())
        } else {
            Err(Error::IO)
        }
    }

    fn sum_of(&self, piece: usize) -> [u8; SUM] {
        let (inode, index) = self.key;
        let content = self.content();
        let bytes = &content[piece * PIECE..content.len().min((piece + 1) * PIECE)];
        let number = index.wrapping_mul((SUMS / SUM) as u64).wrapping_add(piece as u64);
        sum(inode.rotate_left(32) ^ number, bytes).to_le_bytes()
    }
}

impl Chunk<Vec<u8>> {
    /// One without content.
    pub(super) fn empty(key: (u64, u64)) -> Self {
        Self {
            key,
            value: vec![0; SUMS],
        }
    }

    /// Puts bytes at a place, behind zeros where it had less.
    ///
    /// # Errors
    /// What stays beside them in their pieces is not what was put there.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let (before, end) = (self.content().len(), at + bytes.len());
        let (mut first, mut last) = (at / PIECE, end.div_ceil(PIECE));
        let mut length = before;
        if end > before {
            // What was the last piece gets longer.
            length = filled_up(end);
            first = first.min(before.saturating_sub(1) / PIECE);
            last = length.div_ceil(PIECE);
        }
        for piece in first..last.min(before.div_ceil(PIECE)) {
            let is_replaced = at <= piece * PIECE && before.min((piece + 1) * PIECE) <= end;
            if !is_replaced {
                self.verify(piece)?;
            }
        }
        self.value.resize(SUMS + length, 0);
        self.value[SUMS + at..][..bytes.len()].copy_from_slice(bytes);
        for piece in first..last {
            let sum = self.sum_of(piece);
            self.value[piece * SUM..][..SUM].copy_from_slice(&sum);
        }
        Ok(())
    }
}

/// Bytes that content is filled up to.
fn filled_up(length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    let pages = (length + OVERHEAD).div_ceil(PAGE).next_power_of_two();
    pages * PAGE - OVERHEAD
}

/// The chunks that a range touches: the number, where in it the range begins, and which part of the range that is.
pub(super) fn touched(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
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
