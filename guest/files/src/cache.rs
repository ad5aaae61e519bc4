//! A disk's bytes, read ahead, in memory that does not grow.
//!
//! The disk is seen through windows of [`WINDOW`] bytes; the cache has at most [`SLOTS`] of them, and gives up the one
//! that was not used for the longest time. Nothing here waits: [`Cache::copy`] gives what is there, or asks the device
//! for it and says that it is to be called again, so that whoever holds the lock around it can let others in. Whole
//! requests, and what follows a window that was just used, are asked for at once: several are in flight.

use alloc::vec::Vec;
use core::task::Poll;

/// Bytes of a window: what a virtual disk reads in about the same time as one sector.
pub const WINDOW: usize = 64 * 1024;

/// Most windows that are held. With [`WINDOW`] it makes 1 MiB: a guest has 13 MB at least, and most have one file open.
pub const SLOTS: usize = 16;

/// Most windows that are asked for before they are needed. Most queues have room for more requests than these.
pub const AHEAD: u64 = 4;

/// What reads a disk.
pub trait Device {
    /// Memory of [`WINDOW`] bytes that the device can write to. It is the device's while a request is in flight.
    type Buffer: AsRef<[u8]>;

    /// Bytes that the disk has.
    fn size(&self) -> u64;

    /// A buffer, if there is memory for one.
    fn allocate(&mut self) -> Option<Self::Buffer>;

    /// Begins to read `length` bytes from `offset` on.
    ///
    /// # Errors
    /// There are too many requests at this time; the buffer comes back.
    fn begin(&mut self, offset: u64, length: usize, buffer: Self::Buffer) -> Result<(), Self::Buffer>;

    /// A request that was done: its offset, its buffer, and whether the bytes are there.
    fn finished(&mut self) -> Option<(u64, Self::Buffer, bool)>;
}

/// The disk failed, or there is no memory for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// A device with its windows.
pub struct Cache<D: Device> {
    device: D,
    slots: Vec<Slot<D::Buffer>>,
    /// Counts uses, so that the oldest window is known.
    now: u64,
}

struct Slot<B> {
    window: u64,
    used: u64,
    state: State<B>,
}

enum State<B> {
    InFlight,
    Here(B),
    /// The device failed; the buffer is kept for another window.
    Failed(B),
}

impl<D: Device> Cache<D> {
    /// An empty cache on a device.
    pub fn new(device: D) -> Self {
        Self {
            device,
            slots: Vec::new(),
            now: 0,
        }
    }

    /// Bytes that the disk has.
    pub fn size(&self) -> u64 {
        self.device.size()
    }

    /// Copies what is here of the bytes from `offset` on, at least one, and says how many. `Pending`: they were asked
    /// for, ask again.
    ///
    /// # Errors
    /// They cannot be read, or the disk ends before. Asked again, the device is asked again.
    pub fn copy(&mut self, offset: u64, buffer: &mut [u8]) -> Poll<Result<usize, Failed>> {
        let end = offset.checked_add(buffer.len() as u64);
        if buffer.is_empty() || end.is_none_or(|end| end > self.size()) {
            return Poll::Ready(Err(Failed));
        }
        self.collect();
        self.now += 1;
        let window = offset / WINDOW as u64;
        let last = (offset + buffer.len() as u64 - 1) / WINDOW as u64;
        let wanted = self.ask_for(window);
        let follows = window
            .checked_sub(1)
            .is_some_and(|before| self.find(before).is_some());
        let ahead = if follows { AHEAD } else { last - window };
        for next in (window + 1..).take(ahead.min(AHEAD) as usize) {
            if next * WINDOW as u64 >= self.size() || !matches!(self.ask_for(next), Ok(true)) {
                break;
            }
        }
        wanted?;
        let Some(at) = self.find(window) else {
            return Poll::Pending;
        };
        let slot = &mut self.slots[at];
        match &slot.state {
            State::InFlight => Poll::Pending,
            State::Failed(_) => {
                // The buffer stays for whoever is next; the window is forgotten.
                slot.window = NOWHERE;
                slot.used = 0;
                Poll::Ready(Err(Failed))
            }
            State::Here(bytes) => {
                let from = &bytes.as_ref()[(offset % WINDOW as u64) as usize..];
                let length = from.len().min(buffer.len());
                buffer[..length].copy_from_slice(&from[..length]);
                Poll::Ready(Ok(length))
            }
        }
    }

    /// Takes from the device what is done.
    fn collect(&mut self) {
        while let Some((offset, buffer, is_read)) = self.device.finished() {
            let window = offset / WINDOW as u64;
            if let Some(at) = self.find(window) {
                self.slots[at].state = if is_read {
                    State::Here(buffer)
                } else {
                    State::Failed(buffer)
                };
            }
        }
    }

    fn find(&self, window: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.window == window)
    }

    /// Makes sure that a window is here or on its way; whether it is. Fails if there is no memory for a single one.
    fn ask_for(&mut self, window: u64) -> Result<bool, Failed> {
        if let Some(at) = self.find(window) {
            self.slots[at].used = self.now;
            return Ok(true);
        }
        let (at, buffer) = match self.room() {
            Some(room) => room,
            None if self.slots.is_empty() => return Err(Failed),
            None => return Ok(false),
        };
        let offset = window * WINDOW as u64;
        let length = (self.size() - offset).min(WINDOW as u64) as usize;
        let slot = match self.device.begin(offset, length, buffer) {
            Ok(()) => Slot {
                window,
                used: self.now,
                state: State::InFlight,
            },
            Err(buffer) => Slot {
                window: NOWHERE,
                used: 0,
                state: State::Failed(buffer),
            },
        };
        let is_asked = slot.window == window;
        match at {
            Some(at) => self.slots[at] = slot,
            None => self.slots.push(slot),
        }
        Ok(is_asked)
    }

    /// A buffer for a window: of a slot that is free, a new one, or of the window whose use was longest ago, but not of
    /// one that this very call needs.
    fn room(&mut self) -> Option<(Option<usize>, D::Buffer)> {
        if self.slots.len() < SLOTS && self.find(NOWHERE).is_none() {
            if let Some(buffer) = self.device.allocate() {
                return Some((None, buffer));
            }
        }
        let idle = self.slots.iter().enumerate();
        let (at, _) = idle
            .filter(|(_, slot)| slot.used < self.now && !matches!(slot.state, State::InFlight))
            .min_by_key(|(_, slot)| slot.used)?;
        let slot = &mut self.slots[at];
        slot.window = NOWHERE;
        match core::mem::replace(&mut slot.state, State::InFlight) {
            State::Here(buffer) | State::Failed(buffer) => Some((Some(at), buffer)),
            State::InFlight => None,
        }
    }
}

/// The window of a slot that has none: no disk has so many.
const NOWHERE: u64 = u64::MAX;

#[cfg(test)]
mod tests;
