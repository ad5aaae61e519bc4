//! Two streams to the device, which turn many small pieces into few large writes.

use std::io;

use super::WriteAt;
use super::pack::WINDOW;
use crate::format::BLOCK;

/// Bytes that are collected before they are written. Larger writes are no faster on any file system tried.
pub(super) const CHUNK: usize = 1 << 20;

/// Blocks that mostly follow one another: directories, and what an update stores.
pub(super) struct Run<'a, W> {
    device: &'a W,
    /// What is not written yet; it begins at `offset`.
    buffer: Vec<u8>,
    offset: u64,
}

impl<'a, W: WriteAt> Run<'a, W> {
    pub(super) fn new(device: &'a W, block: u64) -> Self {
        Self {
            device,
            buffer: Vec::new(),
            offset: block * BLOCK as u64,
        }
    }

    /// Goes on at another block. What was collected is written, unless it ends there.
    pub(super) fn seek(&mut self, block: u64) -> io::Result<()> {
        let offset = block * BLOCK as u64;
        if self.offset + self.buffer.len() as u64 != offset {
            self.finish()?;
            self.offset = offset;
        }
        Ok(())
    }

    /// Takes bytes, and fills their last block up with zeros.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend(bytes)?;
        self.pad();
        Ok(())
    }

    /// Takes bytes, and writes what was collected if it is worth a write.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.finish()
        } else {
            Ok(())
        }
    }

    /// Fills the last block up with zeros.
    pub(super) fn pad(&mut self) {
        let end = self.offset + self.buffer.len() as u64;
        let missing = end.next_multiple_of(BLOCK as u64) - end;
        self.buffer.resize(self.buffer.len() + missing as usize, 0);
    }

    /// Writes all that was collected.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.device.write_at(self.offset, &self.buffer)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Metadata records, which fill blocks in nearly ascending order: none lies further than [`WINDOW`] blocks behind
/// the newest one.
pub(super) struct Records<'a, W> {
    device: &'a W,
    buffer: Vec<u8>,
    offset: u64,
}

impl<'a, W: WriteAt> Records<'a, W> {
    pub(super) fn new(device: &'a W) -> Self {
        Self {
            device,
            buffer: Vec::new(),
            offset: 0,
        }
    }

    /// Puts bytes at an offset.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.offset = offset - offset % BLOCK as u64;
        }
        let window = WINDOW as usize * BLOCK;
        let mut start = (offset - self.offset) as usize;
        if start >= window + CHUNK {
            let old = (start - window) / BLOCK * BLOCK;
            let old = old.min(self.buffer.len());
            self.device.write_at(self.offset, &self.buffer[..old])?;
            self.buffer.drain(..old);
            self.offset += old as u64;
            start -= old;
        }
        let end = start + bytes.len();
        if end > self.buffer.len() {
            self.buffer.resize(end.next_multiple_of(BLOCK), 0);
        }
        self.buffer[start..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Writes all that was collected; the next record may lie anywhere.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.device.write_at(self.offset, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}
