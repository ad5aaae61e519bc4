//! Pictures in memory: they last as long as the process.
//!
//! Two bounds: a number of bytes that the user may choose, and what the machine has. A guest's memory is all there
//! is, and a failed allocation ends it: before a piece is taken, it is tried whether [`HEADROOM`] more is there.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pictures::{Claim, Draft, Held, Kind, Picture, Pictures, Placement, place};

/// A picture is held in pieces of this size: it grows without being copied, and wastes half of one.
const PIECE: usize = 64 * 1024;

/// Memory that pictures leave for connections: 32 of them with their stacks and buffers.
const HEADROOM: usize = 8 * 1024 * 1024;

/// What an empty task counts, so that many tiny pictures are bounded, too.
const OVERHEAD: usize = 512;

/// Pieces of a picture, and the bytes that they count.
struct Pieces {
    pieces: Vec<Vec<u8>>,
    length: u64,
    /// What was taken from `used`, and is given back.
    counted: usize,
    used: Arc<AtomicUsize>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.used.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Entry {
    input: Option<Arc<Pieces>>,
    result: Option<(u32, Arc<Pieces>)>,
}

/// All pictures.
pub(crate) struct Memory {
    entries: Mutex<HashMap<u64, Entry>>,
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Memory {
    /// Room for `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Mutex::default(),
            used: Arc::default(),
            limit,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pictures for Memory {
    fn describe(&self) -> String {
        format!("in memory, at most {} MiB", self.limit >> 20)
    }

    fn begin(&self) -> io::Result<Box<dyn Draft + '_>> {
        let mut pieces = Pieces {
            pieces: Vec::new(),
            length: 0,
            counted: 0,
            used: self.used.clone(),
        };
        pieces.count(OVERHEAD, self.limit)?;
        Ok(Box::new(MemoryDraft { memory: self, pieces }))
    }

    fn open(&self, id: u64, kind: Kind) -> io::Result<Option<Picture>> {
        let entries = self.entries();
        let pieces = entries.get(&id).and_then(|entry| match kind {
            Kind::Input => entry.input.clone(),
            Kind::Result => entry.result.as_ref().map(|(_, pieces)| pieces.clone()),
        });
        Ok(pieces.map(|pieces| Picture {
            length: pieces.length,
            source: Box::new(Reader {
                pieces,
                piece: 0,
                at: 0,
            }),
        }))
    }
}

impl Pieces {
    /// Counts `bytes` more against the limit.
    fn count(&mut self, bytes: usize, limit: usize) -> io::Result<()> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.counted += bytes;
        if before + bytes > limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// One more piece, if there is memory for it and for what else is to be done.
    fn grow(&mut self, limit: usize) -> io::Result<()> {
        self.count(PIECE, limit)?;
        let full = |_| io::Error::from(io::ErrorKind::StorageFull);
        Vec::<u8>::new()
            .try_reserve_exact(PIECE + HEADROOM)
            .map_err(full)?;
        let mut piece = Vec::new();
        piece.try_reserve_exact(PIECE).map_err(full)?;
        self.pieces.push(piece);
        Ok(())
    }
}

struct MemoryDraft<'a> {
    memory: &'a Memory,
    pieces: Pieces,
}

impl Draft for MemoryDraft<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let piece = match self.pieces.pieces.last_mut() {
                Some(piece) if piece.len() < PIECE => piece,
                _ => {
                    self.pieces.grow(self.memory.limit)?;
                    continue;
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - piece.len()));
            piece.extend_from_slice(now);
            self.pieces.length += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn commit(self: Box<Self>, id: u64, claim: Claim) -> io::Result<Placement> {
        let mut entries = self.memory.entries();
        let entry = entries.entry(id).or_default();
        let held = Held {
            input: entry.input.is_some(),
            result: entry.result.as_ref().map(|(lease, _)| *lease),
        };
        let placement = place(claim, held);
        match placement {
            Placement::Input => {
                entry.input = Some(Arc::new(self.pieces));
                entry.result = None;
            }
            Placement::Result(lease) => entry.result = Some((lease, Arc::new(self.pieces))),
            Placement::Twin | Placement::Late => {}
        }
        Ok(placement)
    }
}

/// Reads a picture, which stays while it is read, whatever takes its place.
struct Reader {
    pieces: Arc<Pieces>,
    piece: usize,
    at: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.pieces.get(self.piece) else {
            return Ok(0);
        };
        let read = buffer.len().min(piece.len() - self.at);
        buffer[..read].copy_from_slice(&piece[self.at..self.at + read]);
        self.at += read;
        if self.at == piece.len() {
            self.piece += 1;
            self.at = 0;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Claim = Claim {
        kind: Some(Kind::Input),
        lease: None,
    };

    fn put(memory: &Memory, id: u64, claim: Claim, bytes: &[u8]) -> io::Result<Placement> {
        let mut draft = memory.begin()?;
        draft.write(bytes)?;
        draft.commit(id, claim)
    }

    fn get(memory: &Memory, id: u64, kind: Kind) -> Option<Vec<u8>> {
        let mut picture = memory.open(id, kind).unwrap()?;
        let mut bytes = Vec::new();
        picture.source.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, picture.length);
        Some(bytes)
    }

    #[test]
    fn gives_back_what_came_in_whatever_its_length() {
        let memory = Memory::new(1 << 30);
        for length in [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE] {
            let bytes: Vec<_> = (0..length).map(|n| n as u8).collect();
            put(&memory, 1, INPUT, &bytes).unwrap();
            assert_eq!(get(&memory, 1, Kind::Input), Some(bytes));
        }
        assert_eq!(get(&memory, 1, Kind::Result), None);
        assert_eq!(get(&memory, 2, Kind::Input), None);
    }

    #[test]
    fn bug_10_a_reader_meets_one_whole_picture() {
        let memory = Memory::new(1 << 30);
        let [old, new] = [1, 2].map(|byte| vec![byte; 3 * PIECE]);
        put(&memory, 0, INPUT, &old).unwrap();
        let mut picture = memory.open(0, Kind::Input).unwrap().unwrap();
        let mut begin = [0; 10];
        picture.source.read_exact(&mut begin).unwrap();
        let mut draft = memory.begin().unwrap();
        draft.write(&new[..PIECE]).unwrap();
        assert_eq!(get(&memory, 0, Kind::Input).as_ref(), Some(&old));
        draft.write(&new[PIECE..]).unwrap();
        draft.commit(0, INPUT).unwrap();
        assert_eq!(get(&memory, 0, Kind::Input).as_ref(), Some(&new));
        let mut rest = Vec::new();
        picture.source.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, old[10..]);
    }

    #[test]
    fn what_has_no_room_leaves_nothing_and_what_goes_makes_room() {
        let memory = Memory::new(4 * PIECE + 3 * OVERHEAD);
        put(&memory, 0, INPUT, &vec![0; 2 * PIECE]).unwrap();
        for _ in 0..3 {
            let error = put(&memory, 1, INPUT, &vec![0; 3 * PIECE]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(get(&memory, 1, Kind::Input), None);
        put(&memory, 1, INPUT, &vec![0; 2 * PIECE]).unwrap();
        assert!(put(&memory, 2, INPUT, &[0]).is_err());
        drop(memory.begin().unwrap());
        memory.entries().clear();
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }
}
