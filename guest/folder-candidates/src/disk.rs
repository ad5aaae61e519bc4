//! The disk that all candidates lie on. It counts, fails when its size ends, and can write down what is done to it, from
//! which [`Trace::cut`] makes what a power cut may leave.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a disk writes as a whole, or not at all.
pub const SECTOR: usize = 512;

/// A disk; all clones are the same.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

struct State {
    store: Store,
    size: u64,
    trace: Option<Vec<Event>>,
    counted: Counted,
}

enum Store {
    /// Not in memory, so that what a candidate takes of that can be measured.
    File(File),
    Memory(Vec<u8>),
}

/// What was done to a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub read: u64,
    pub written: u64,
    pub flushes: u64,
}

/// A step of what is done to a disk that keeps a trace.
pub enum Event {
    Write(u64, Vec<u8>),
    Flush,
    /// The one who drives it is told that a call is done.
    Done,
    /// The one who drives it is told that all calls before are safe.
    Safe,
}

impl Disk {
    pub fn in_file(size: u64) -> Self {
        let file = tempfile::tempfile().expect("a file for the disk");
        file.set_len(size).expect("room for the disk");
        Self::on(Store::File(file), size)
    }

    pub fn in_memory(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self::on(Store::Memory(bytes), size)
    }

    fn on(store: Store, size: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            store,
            size,
            trace: None,
            counted: Counted::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn size(&self) -> u64 {
        self.lock().size
    }

    pub fn counted(&self) -> Counted {
        self.lock().counted
    }

    /// The bytes of a disk in memory.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.lock().store {
            Store::Memory(bytes) => bytes.clone(),
            Store::File(_) => Vec::new(),
        }
    }

    /// From now on what is done is written down.
    pub fn begin_trace(&self) {
        self.lock().trace = Some(Vec::new());
    }

    pub fn end_trace(&self) -> Vec<Event> {
        self.lock().trace.take().unwrap_or_default()
    }

    /// Writes down what is no write.
    pub fn note(&self, event: Event) {
        if let Some(trace) = &mut self.lock().trace {
            trace.push(event);
        }
    }

    /// Whether it is there at all.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let mut state = self.lock();
        if offset
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > state.size)
        {
            return false;
        }
        state.counted.read += buffer.len() as u64;
        match &state.store {
            Store::File(file) => file.read_exact_at(buffer, offset).is_ok(),
            Store::Memory(bytes) => {
                buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
                true
            }
        }
    }

    /// Whether there is room for it.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if offset
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > state.size)
        {
            return false;
        }
        state.counted.written += bytes.len() as u64;
        if let Some(trace) = &mut state.trace {
            trace.push(Event::Write(offset, bytes.to_vec()));
        }
        match &mut state.store {
            Store::File(file) => file.write_all_at(bytes, offset).is_ok(),
            Store::Memory(store) => {
                store[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                true
            }
        }
    }

    pub fn flush(&self) {
        let mut state = self.lock();
        state.counted.flushes += 1;
        if let Some(trace) = &mut state.trace {
            trace.push(Event::Flush);
        }
    }
}

/// How much of what was written since the last flush is on a disk after a power cut.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// All, in the order that it was written in: the best that a cut can do.
    All,
    /// Of each sector it is chance which of the writes to it was the last that came through.
    Some,
}

/// Puts on a disk what the power left of some events behind which no flush came.
pub fn apply(bytes: &mut [u8], events: &[Event], kept: Kept, random: &mut Random) {
    let share = random.below(5);
    for event in events {
        let Event::Write(offset, data) = event else {
            continue;
        };
        for (number, sector) in data.chunks(SECTOR).enumerate() {
            let is_there = match kept {
                Kept::All => true,
                Kept::Some => random.below(4) < share,
            };
            if is_there {
                bytes[*offset as usize + number * SECTOR..][..sector.len()].copy_from_slice(sector);
            }
        }
    }
}

/// Numbers that are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
