//! How much an archive may have, and readers that see to it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// What an archive may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and links: more than the largest packages that are measured (100,000).
    pub entries: usize,
    /// Bytes of all paths and targets of links, which are kept in memory: 120 bytes each for that many entries.
    pub names: usize,
    /// Bytes behind the compression: as much as a large disk image.
    pub bytes: u64,
    /// How many times as large as itself an archive may become; text seldom becomes 20 times as large.
    pub ratio: u64,
    /// Bytes that it may become however small it is: files full of zeros are common.
    pub small: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1 << 18,
            names: 32 << 20,
            bytes: 8 << 30,
            ratio: 200,
            small: 256 << 20,
        }
    }
}

/// Counts what is read through it.
pub(super) struct Counted<R> {
    input: R,
    bytes: Rc<Cell<u64>>,
}

impl<R> Counted<R> {
    pub(super) fn new(input: R, bytes: &Rc<Cell<u64>>) -> Self {
        let bytes = Rc::clone(bytes);
        Self { input, bytes }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.bytes.set(self.bytes.get() + length as u64);
        Ok(length)
    }
}

/// Ends with an error when too much comes out.
pub(super) struct Limited<'a> {
    input: &'a mut dyn Read,
    produced: u64,
    consumed: Rc<Cell<u64>>,
    limits: Limits,
}

impl<'a> Limited<'a> {
    /// Of what comes out of `consumed` bytes.
    pub(super) fn new(input: &'a mut dyn Read, consumed: Rc<Cell<u64>>, limits: Limits) -> Self {
        Self {
            input,
            produced: 0,
            consumed,
            limits,
        }
    }
}

/// There is too much of something.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more than {max} {what}")]
pub(super) struct TooMuch {
    pub(super) what: &'static str,
    pub(super) max: u64,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.produced += length as u64;
        let by_ratio = self.consumed.get().saturating_mul(self.limits.ratio);
        let max = self.limits.bytes.min(by_ratio.max(self.limits.small));
        if self.produced > max {
            let what = "bytes when it is unpacked, too many for its size";
            return Err(io::Error::other(TooMuch { what, max }));
        }
        Ok(length)
    }
}
