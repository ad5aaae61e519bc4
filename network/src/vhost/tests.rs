//! A card whose guest is a test: rings in memory, written as a driver writes them, and as none should.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use vhost::vhost_user::VhostUserBackendReqHandlerMut as _;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::ring::{Given, HEADER, Ring, Taken};
use super::*;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Where the test's frames lie, behind the ring.
const FRAMES: u64 = 0x8000;
const MEMORY: u64 = 0x2_0000;
const SIZE: u16 = 16;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
}

/// A ring that runs, with what its guest has made available.
fn ring(memory: &GuestMemoryMmap, parts: &[RawDescriptor], heads: &[u16]) -> Ring {
    let mock = MockSplitQueue::create(memory, GuestAddress(0), SIZE);
    for (index, part) in (0..).zip(parts) {
        mock.desc_table().store(index, *part).unwrap();
    }
    for (place, head) in heads.iter().enumerate() {
        mock.avail().ring().ref_at(place).unwrap().store(head.to_le());
    }
    mock.avail().idx().store((heads.len() as u16).to_le());
    let mut ring = Ring::new().unwrap();
    ring.queue = mock.create_queue::<Queue>().unwrap();
    ring.kick = Some(event());
    ring.call = Some(event());
    ring
}

fn event() -> File {
    File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap())
}

fn part(address: u64, length: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, length, flags, next))
}

fn taken(parts: &[RawDescriptor], heads: &[u16]) -> Result<Taken, virtio_queue::Error> {
    let memory = memory();
    memory.write_slice(&[0; HEADER], GuestAddress(FRAMES)).unwrap();
    memory
        .write_slice(b"frame", GuestAddress(FRAMES + HEADER as u64))
        .unwrap();
    ring(&memory, parts, heads).take(&memory, &mut [0; 64])
}

fn frame(length: usize) -> Taken {
    Taken::Frame {
        length: HEADER + length,
        unsummed: false,
    }
}

#[test]
fn takes_a_frame_in_one_part_or_in_several() {
    assert_eq!(taken(&[part(FRAMES, 17, 0, 0)], &[0]).unwrap(), frame(5));
    let several = [
        part(FRAMES, 3, NEXT, 2),
        part(FRAMES + 12, 5, 0, 0),
        part(FRAMES + 3, 9, NEXT, 1),
    ];
    assert_eq!(taken(&several, &[0]).unwrap(), frame(5));
    assert_eq!(taken(&[], &[]).unwrap(), Taken::Nothing);
}

#[test]
fn what_is_no_frame_is_given_back_and_the_next_one_is_taken() {
    let nowhere = part(MEMORY - 4, 100, 0, 0);
    let far = part(u64::MAX - 4, 100, 0, 0);
    let huge = part(FRAMES, u32::MAX, 0, 0);
    let circle = part(FRAMES, 1, NEXT, 0);
    let beyond = part(FRAMES, 1, NEXT, SIZE);
    let table_nowhere = part(MEMORY, 0x100, INDIRECT, 0);
    let odd_table = part(FRAMES, 17, INDIRECT, 0);
    let header = part(FRAMES, HEADER as u32, 0, 0);
    let for_writing = part(FRAMES, 17, WRITE, 0);
    for (bad, expected) in [
        (nowhere, Taken::Refused),
        (far, Taken::Refused),
        // Longer than any frame: it is cut off at the end of the buffer, by which the switch knows it.
        (huge, frame(64 - HEADER)),
        (circle, frame(SIZE as usize - HEADER)),
        (beyond, Taken::Refused),
        (table_nowhere, Taken::Refused),
        (odd_table, Taken::Refused),
        (header, Taken::Refused),
        (for_writing, Taken::Refused),
    ] {
        let memory = memory();
        let good = part(FRAMES, 17, 0, 0);
        let mut ring = ring(&memory, &[bad, good], &[0, 1]);
        assert_eq!(ring.take(&memory, &mut [0; 64]).unwrap(), expected, "{bad:?}");
        assert_eq!(ring.take(&memory, &mut [0; 64]).unwrap(), frame(5), "{bad:?}");
        assert_eq!(ring.take(&memory, &mut [0; 64]).unwrap(), Taken::Nothing);
        let used = ring.queue.used_idx(&memory, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(used.unwrap().0, 2);
    }
}

#[test]
fn a_ring_that_makes_no_sense_is_an_error_and_no_end() {
    // A head that the table does not have.
    assert!(taken(&[], &[SIZE]).is_err());
    // More heads than the ring has.
    let memory = memory();
    let mut all = ring(&memory, &[], &[0; SIZE as usize]);
    MockSplitQueue::create(&memory, GuestAddress(0), SIZE)
        .avail()
        .idx()
        .store(SIZE + 1);
    assert!(all.take(&memory, &mut [0; 64]).is_err());
    // A ring of which only the head is in the memory.
    let memory = self::memory();
    let mut cut = ring(&memory, &[], &[]);
    let at = GuestAddress(MEMORY - 4);
    memory.write_obj([0_u16, 1_u16.to_le()], at).unwrap();
    cut.queue.try_set_avail_ring_address(at).unwrap();
    assert!(cut.take(&memory, &mut [0; 64]).is_err());
    // A ring outside of the memory.
    let mut nowhere = ring(&memory, &[], &[]);
    nowhere
        .queue
        .try_set_avail_ring_address(GuestAddress(MEMORY))
        .unwrap();
    assert!(nowhere.take(&memory, &mut [0; 64]).is_err());
}

#[test]
fn gives_a_frame_with_its_header_where_there_is_room() {
    let memory = memory();
    let parts = [
        part(FRAMES, 4, WRITE | NEXT, 1),
        part(FRAMES + 4, 100, WRITE, 0),
        part(FRAMES, 16, WRITE, 0),
        part(MEMORY - 4, 100, WRITE, 0),
    ];
    let mut ring = ring(&memory, &parts, &[0, 2, 3]);
    assert_eq!(ring.give(&memory, b"frame", true).unwrap(), Given::Taken);
    let mut written = [0; HEADER + 5];
    memory.read_slice(&mut written, GuestAddress(FRAMES)).unwrap();
    assert_eq!(&written, b"\x02\0\0\0\0\0\0\0\0\0\x01\0frame");
    assert_eq!(
        ring.give(&memory, b"frame", false).unwrap(),
        Given::Lost,
        "too small"
    );
    assert_eq!(
        ring.give(&memory, b"frame", false).unwrap(),
        Given::Lost,
        "nowhere"
    );
    assert_eq!(ring.give(&memory, b"frame", false).unwrap(), Given::Full);
}

#[test]
fn neither_side_wakes_the_other_for_nothing() {
    let memory = memory();
    let mut ring = ring(&memory, &[part(FRAMES, 17, 0, 0)], &[0]);
    let available = GuestAddress(ring.queue.avail_ring());
    let used = GuestAddress(ring.queue.used_ring());
    let kicks = || memory.read_obj::<u16>(used).unwrap() == 0;
    let heard = |event: &Option<File>| event.as_ref().unwrap().read(&mut [0; 8]).is_ok();
    ring.begin();
    assert!(ring.take(&memory, &mut [0; 64]).is_ok());
    assert!(!kicks(), "there is work, the guest need not say so");
    ring.tell(&memory);
    assert!(heard(&ring.call), "the guest has its buffer back");
    assert_eq!(ring.take(&memory, &mut [0; 64]).unwrap(), Taken::Nothing);
    assert!(kicks(), "there is none, the guest is to say when there is");
    assert!(!heard(&ring.kick), "what woke us was heard");
    ring.tell(&memory);
    assert!(!heard(&ring.call), "nothing is new");
    // The guest looks by itself.
    memory.write_obj([1_u16, 2].map(u16::to_le), available).unwrap();
    assert!(ring.take(&memory, &mut [0; 64]).is_ok());
    ring.tell(&memory);
    assert!(!heard(&ring.call));
}

/// Any bytes as a ring, its descriptors and frames: what comes is a frame, none, or an error, and it comes at once.
#[test]
fn no_ring_holds_the_switch_up() {
    // Marsaglia's xorshift: the same bytes in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2_000 {
        let memory = memory();
        for word in 0..0x400 {
            // Small numbers more often than large ones: they lead somewhere.
            let shift = random() % 64;
            memory
                .write_obj(random() >> shift, GuestAddress(word * 8))
                .unwrap();
        }
        let mut ring = ring(&memory, &[], &[]);
        let mock = MockSplitQueue::create(&memory, GuestAddress(0), SIZE);
        mock.avail().idx().store(random() as u16 % (SIZE + 2));
        for _ in 0..SIZE {
            let (taken, given) = (
                ring.take(&memory, &mut [0; 1600]),
                ring.give(&memory, &[7; 1514], false),
            );
            ring.tell(&memory);
            if taken.is_err() || given.is_err() {
                break;
            }
        }
    }
}

#[test]
fn memory_that_could_shrink_is_refused() {
    let mut device = Device::new(1, Arc::new(Poller::new().unwrap()));
    let region = vhost::vhost_user::message::VhostUserMemoryRegion::new(0, 0x1000, 0x7000, 0);
    let file = |sealed| {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        let file = memfd_create("guest", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 0x1000).unwrap();
        if sealed {
            fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        }
        File::from(file)
    };
    assert!(device.set_mem_table(&[region], vec![file(false)], None).is_err());
    assert!(device.set_mem_table(&[region], vec![file(true)], None).is_ok());
}

#[test]
fn a_front_end_that_goes_away_may_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card");
    let poller = Arc::new(Poller::new().unwrap());
    let mut card = SharedCard::new(UnixListener::bind(&path).unwrap(), 1, &poller).unwrap();
    card.accept().unwrap();
    for _ in 0..2 {
        let mut front = UnixStream::connect(&path).unwrap();
        card.accept().unwrap();
        // Enables a ring before all else and wants an answer, as QEMU 8.2 does.
        let mut message = [0; 20];
        (message[0], message[4], message[8], message[16]) = (18, 1 | NEED_REPLY, 8, 1);
        front.write_all(&message).unwrap();
        card.converse();
        let mut answer = [1; 20];
        front.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[4], &answer[12..]), (18, REPLY, &[0; 8][..]));
        // What is no message ends the connection, not the card.
        front.write_all(&[0xff; 12]).unwrap();
        card.converse();
        assert_eq!(front.read(&mut [0; 1]).unwrap(), 0);
    }
}
