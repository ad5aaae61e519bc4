//! What a program asks of a disk of its machine, and how a disk reaches the program's memory. The glue has the driver
//! (`guest/libhermit/src/disk`), `guest/runtime` `volume` is who asks. The two are compiled apart, hence plain functions:
//!
//! | function | what it does, and answers |
//! | --- | --- |
//! | `sys_hermitage_disk_find(label, length)` | the number of the disk of this label |
//! | `sys_hermitage_disk_open(number)` | takes it for the caller alone; 1 if it can only be read, else 0 |
//! | `sys_hermitage_disk_close(number)` | gives it back |
//! | `sys_hermitage_disk_size(number)` | its sectors, as they are now |
//! | `sys_hermitage_disk_request(number, access, sector, start, length)` | does what [`Access`] says, to its end; 0 |
//!
//! An answer below 0 is a [`Fault`]. All may be called by several threads at once: their requests are in flight together.

use core::fmt;

/// Unit in which disks read and write, in bytes (virtio 1.2, 5.2.6).
pub const SECTOR: usize = 512;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Access {
    /// Fill the buffer, of whole sectors, from a sector on.
    Read = 0,
    /// Replace what is there by the buffer.
    Write = 1,
    /// Return when what was written before is on stable storage. Neither sector nor buffer count.
    Flush = 2,
    /// So many bytes, of whole sectors, are not needed any more. There is no buffer.
    Discard = 3,
}

impl Access {
    /// What a number asks for.
    #[must_use]
    pub fn of(number: u32) -> Option<Self> {
        let all = [Self::Read, Self::Write, Self::Flush, Self::Discard];
        all.into_iter().find(|access| *access as u32 == number)
    }
}

/// Why a disk does not do what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Fault {
    /// There is none of this label.
    NotFound = -1,
    /// Somebody has opened it.
    Busy = -2,
    /// It says that it failed.
    Failed = -3,
    /// It says that it cannot do this.
    Unsupported = -4,
    /// There is no memory to drive it with.
    NoMemory = -5,
    /// It cannot be driven: it does not speak virtio 1.0.
    Old = -6,
    /// It cannot be driven: its queue has no room for our requests.
    ShortQueue = -7,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::NotFound,
        Self::Busy,
        Self::Failed,
        Self::Unsupported,
        Self::NoMemory,
        Self::Old,
        Self::ShortQueue,
    ];

    /// Reads a function's answer.
    ///
    /// # Errors
    /// It is a fault.
    pub fn check(answer: i64) -> Result<u64, Self> {
        u64::try_from(answer).map_err(|_| {
            let known = Self::ALL.into_iter().find(|fault| *fault as i64 == answer);
            known.unwrap_or(Self::Failed)
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "there is no disk of this label",
            Self::Busy => "the disk is open already",
            Self::Failed => "the disk failed",
            Self::Unsupported => "the disk cannot do this",
            Self::NoMemory => "there is no memory to drive the disk with",
            Self::Old => "a disk cannot be driven: it does not speak virtio 1.0",
            Self::ShortQueue => "a disk cannot be driven: its queue is too short",
        })
    }
}

impl core::error::Error for Fault {}

/// Smallest unit in which memory is mapped.
const PAGE: usize = 4096;

/// Most pieces of a request. Programs have memory in pieces of 2 MiB, but for its ends, so a request has one or two.
pub const PIECES: usize = 2;

/// A piece of memory as a device sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub address: u64,
    /// Bytes of it.
    pub length: usize,
}

/// The start of a buffer, in as many pieces as a request may have: the device reaches it where it is, and nothing is
/// copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    pieces: [Piece; PIECES],
    count: usize,
}

impl Pieces {
    /// Looks where a buffer lies. What does not fit into [`PIECES`] is left for another request, whole sectors of it; at
    /// least one sector fits wherever it lies. `None`: it is not all in memory. `physical` says where a byte is.
    #[must_use]
    pub fn of(start: usize, length: usize, physical: impl Fn(usize) -> Option<u64>) -> Option<Self> {
        let mut found = Self::default();
        let mut done = 0;
        while done < length {
            let at = start + done;
            let in_page = (PAGE - at % PAGE).min(length - done);
            let address = physical(at)?;
            match found.pieces[..found.count].last_mut() {
                Some(last) if last.address + last.length as u64 == address => last.length += in_page,
                _ if found.count == PIECES => {
                    // The last piece has whole pages, and so more than a sector.
                    found.pieces[PIECES - 1].length -= done % SECTOR;
                    break;
                }
                _ => {
                    found.pieces[found.count] = Piece {
                        address,
                        length: in_page,
                    };
                    found.count += 1;
                }
            }
            done += in_page;
        }
        Some(found)
    }

    /// Memory that is known to be in one piece.
    #[must_use]
    pub fn one(address: u64, length: usize) -> Self {
        let mut pieces = [Piece::default(); PIECES];
        pieces[0] = Piece { address, length };
        Self { pieces, count: 1 }
    }

    /// The pieces, in the buffer's order.
    #[must_use]
    pub fn as_slice(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }

    /// Bytes of the buffer that are in them.
    #[must_use]
    pub fn length(&self) -> usize {
        self.as_slice().iter().map(|piece| piece.length).sum()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Requests for a whole buffer, one after the other; each is checked against what memory says of each byte.
    fn requests(start: usize, length: usize, physical: impl Fn(usize) -> Option<u64>) -> Vec<Vec<Piece>> {
        let mut done = 0;
        let mut requests = Vec::new();
        while done < length {
            let pieces = Pieces::of(start + done, length - done, &physical).unwrap();
            let seen = pieces
                .as_slice()
                .iter()
                .flat_map(|piece| (0..piece.length as u64).map(|at| piece.address + at));
            let expected = (start + done..).map_while(&physical).take(pieces.length());
            assert!(seen.eq(expected), "{pieces:?}");
            done += pieces.length();
            assert!(done == length || pieces.length() >= SECTOR && pieces.length() % SECTOR == 0);
            requests.push(pieces.as_slice().to_vec());
        }
        requests
    }

    #[test]
    fn memory_in_one_piece_is_one_piece() {
        for start in [0, 1, 511, 4095, 70_000] {
            let whole = requests(start, 256 * 1024, |at| Some(at as u64 + (1 << 32)));
            let address = start as u64 + (1 << 32);
            let length = 256 * 1024;
            assert_eq!(whole, [[Piece { address, length }]]);
        }
    }

    #[test]
    fn memory_that_lies_apart_is_reached_where_it_is() {
        // Pages in the opposite order; in pairs; where two large pages meet.
        let backwards = |at: usize| Some((1000 - (at / PAGE) as u64) * PAGE as u64 + (at % PAGE) as u64);
        let pairs = |at: usize| backwards(at / 2).map(|page| page * 2 + (at % 2) as u64);
        let large = |at: usize| Some((at >> 21 ^ 1) as u64 * (1 << 21) + (at % (1 << 21)) as u64);
        for start in [0, 1, 100, 512, 4095, 4097] {
            for length in [20, 512, 4096, 10_240, 65_536] {
                requests(start, length, backwards);
                requests(start, length, pairs);
            }
        }
        assert_eq!(requests((1 << 21) - 4096, 1 << 16, large).len(), 1);
    }

    #[test]
    fn memory_that_is_not_there_is_refused() {
        let hole = |at: usize| (at / PAGE != 3).then_some(at as u64);
        assert_eq!(Pieces::of(0, 4 * PAGE, hole), None);
        assert!(Pieces::of(0, 3 * PAGE, hole).is_some());
        assert_eq!(Pieces::of(3 * PAGE, 1, hole), None);
    }

    #[test]
    fn numbers_say_what_is_asked_and_what_is_wrong() {
        assert_eq!(Access::of(Access::Discard as u32), Some(Access::Discard));
        assert_eq!(Access::of(4), None);
        for fault in Fault::ALL {
            assert_eq!(Fault::check(fault as i64), Err(fault));
        }
        assert_eq!(Fault::check(7), Ok(7));
        assert_eq!(Fault::check(i64::MIN), Err(Fault::Failed));
    }
}
