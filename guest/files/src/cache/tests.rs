use alloc::vec;
use alloc::vec::Vec;
use core::task::Poll;

use super::{AHEAD, Cache, Device, Failed, SLOTS, WINDOW};

/// A disk in memory that answers when it is told to, the last request first.
struct Fake {
    bytes: Vec<u8>,
    queue: Vec<(u64, usize, Vec<u8>)>,
    requests: usize,
    most_in_flight: usize,
    holds_back: bool,
    fails: bool,
    buffers_left: usize,
}

const QUEUE: usize = 5;

impl Fake {
    fn new(length: usize) -> Self {
        Self {
            bytes: (0..length).map(|at| (at / 7 % 251) as u8).collect(),
            queue: Vec::new(),
            requests: 0,
            most_in_flight: 0,
            holds_back: false,
            fails: false,
            buffers_left: usize::MAX,
        }
    }
}

impl Device for Fake {
    type Buffer = Vec<u8>;

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn allocate(&mut self) -> Option<Vec<u8>> {
        self.buffers_left = self.buffers_left.checked_sub(1)?;
        Some(vec![0xaa; WINDOW])
    }

    fn begin(&mut self, offset: u64, length: usize, buffer: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.queue.len() == QUEUE {
            return Err(buffer);
        }
        assert!(offset + length as u64 <= self.size() && buffer.len() == WINDOW);
        self.requests += 1;
        self.queue.push((offset, length, buffer));
        self.most_in_flight = self.most_in_flight.max(self.queue.len());
        Ok(())
    }

    fn finished(&mut self) -> Option<(u64, Vec<u8>, bool)> {
        if self.holds_back {
            return None;
        }
        let (offset, length, mut buffer) = self.queue.pop()?;
        buffer[..length].copy_from_slice(&self.bytes[offset as usize..][..length]);
        Some((offset, buffer, !self.fails))
    }
}

fn read(cache: &mut Cache<Fake>, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Failed> {
    let mut asked = 0;
    while !buffer.is_empty() {
        match cache.copy(offset, buffer) {
            Poll::Ready(Ok(length)) => {
                offset += length as u64;
                buffer = &mut buffer[length..];
            }
            Poll::Ready(Err(failed)) => return Err(failed),
            Poll::Pending => asked += 1,
        }
        assert!(asked < 1000, "it never comes");
    }
    Ok(())
}

fn check(cache: &mut Cache<Fake>, offset: usize, length: usize) {
    let mut buffer = vec![0; length];
    read(cache, offset as u64, &mut buffer).unwrap();
    assert!(
        buffer == cache.device.bytes[offset..][..length],
        "{offset} {length}"
    );
}

#[test]
fn any_range_reads_as_it_lies_on_the_disk() {
    let size = 40 * WINDOW + 777;
    let mut cache = Cache::new(Fake::new(size));
    let mut random = 1_u64;
    for _ in 0..500 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let offset = (random >> 33) as usize % size;
        let length = (random >> 20) as usize % (size - offset).min(3 * WINDOW);
        check(&mut cache, offset, length.max(1));
    }
    check(&mut cache, 0, size);
    assert!(cache.slots.len() <= SLOTS);
}

#[test]
fn a_reader_that_goes_on_finds_what_follows_already_asked_for() {
    let mut cache = Cache::new(Fake::new(64 * WINDOW));
    check(&mut cache, 10, 100);
    assert_eq!(cache.device.requests, 1, "nobody goes on yet");
    check(&mut cache, WINDOW, 1);
    assert_eq!(cache.device.requests, 2 + AHEAD as usize);
    // What is near is read once.
    for at in 0..100 {
        check(&mut cache, 5 + at, 7);
    }
    assert_eq!(cache.device.requests, 2 + AHEAD as usize);
}

#[test]
fn a_long_request_is_in_flight_as_several() {
    let mut cache = Cache::new(Fake::new(64 * WINDOW));
    check(&mut cache, 20 * WINDOW + 1, 8 * WINDOW);
    assert_eq!(cache.device.most_in_flight, 1 + AHEAD as usize);
    assert!(cache.device.requests <= 9 + AHEAD as usize);
}

#[test]
fn who_waits_does_not_keep_others_from_what_is_here() {
    let mut cache = Cache::new(Fake::new(64 * WINDOW));
    check(&mut cache, 0, 1);
    cache.device.holds_back = true;
    let mut byte = [0];
    for _ in 0..3 {
        assert_eq!(cache.copy(30 * WINDOW as u64, &mut byte), Poll::Pending);
    }
    check(&mut cache, 1, 1);
    assert_eq!(cache.device.requests, 2, "it is asked for once");
    cache.device.holds_back = false;
    check(&mut cache, 30 * WINDOW, 1);
}

#[test]
fn a_full_queue_and_little_memory_are_waited_for() {
    let mut cache = Cache::new(Fake::new(64 * WINDOW));
    cache.device.buffers_left = 2;
    check(&mut cache, 3, 9 * WINDOW);
    assert_eq!(cache.slots.len(), 2);

    let mut cache = Cache::new(Fake::new(64 * WINDOW));
    cache.device.buffers_left = 0;
    assert_eq!(read(&mut cache, 0, &mut [0]), Err(Failed));
}

#[test]
fn what_failed_is_said_and_asked_for_again() {
    let mut cache = Cache::new(Fake::new(64 * WINDOW));
    cache.device.fails = true;
    for _ in 0..2 * SLOTS {
        assert_eq!(read(&mut cache, 3, &mut [0; 10]), Err(Failed));
    }
    cache.device.fails = false;
    check(&mut cache, 3, 2 * WINDOW);
}

#[test]
fn what_lies_beyond_the_end_is_refused() {
    let mut cache = Cache::new(Fake::new(WINDOW + 10));
    check(&mut cache, WINDOW + 9, 1);
    for (offset, length) in [(WINDOW as u64 + 10, 1), (WINDOW as u64, 11), (u64::MAX, 2)] {
        let read = cache.copy(offset, &mut vec![0; length]);
        assert_eq!(read, Poll::Ready(Err(Failed)), "{offset} {length}");
    }
}
