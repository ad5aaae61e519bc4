//! A disk's queue of requests (virtio 1.2, 2.7 and 5.2), several of which are in flight at once and end in any order.
//!
//! `virtio-drivers` finds the device and talks to its registers. Its own driver of disks is not used: it waits for a flush
//! while it holds the device, has room for five requests, and knows neither discard nor a size that changes.
//!
//! Each request has a place: descriptors that always point to the place's header, to data, to its status.

use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

use hermitage_files::disk::{Fault, PIECES, Pieces};
use virtio_drivers::transport::{DeviceStatus, SomeTransport, Transport};

use super::memory::Pages;

/// Requests in flight; who comes then waits. All that belongs to them has room in one page.
pub(super) const PLACES: usize = 16;

/// Descriptors of a request: header, data, status.
const DESCRIPTORS: usize = 2 + PIECES;

/// Entries of the queue, a power of two; QEMU offers 256.
const SIZE: usize = PLACES * DESCRIPTORS;
const _: () = assert!(SIZE.is_power_of_two() && size_of::<Rings>() <= 4096);

/// The only queue that is used.
const QUEUE: u16 = 0;

/// Features (5.2.3, 6): read-only, flush, discard, this version of virtio.
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const VERSION_1: u64 = 1 << 32;

/// Offsets in the device's configuration (5.2.4).
const CAPACITY: usize = 0;
const MAX_DISCARD_SECTORS: usize = 36;

/// Flags of descriptors (2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// What the driver says in its ring (2.7.6): it looks by itself whether something is done.
const NO_INTERRUPT: u16 = 1;
/// What the device says in its ring (2.7.8): it looks by itself whether there is something to do.
const NO_NOTIFY: u16 = 1;

/// What is asked of a disk (5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Read = 0,
    Write = 1,
    Flush = 4,
    Serial = 8,
    Discard = 11,
}

impl Kind {
    /// Whether the device fills the data.
    pub(super) fn fills(self) -> bool {
        matches!(self, Self::Read | Self::Serial)
    }
}

#[repr(C)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
struct Available {
    flags: u16,
    index: u16,
    ring: [u16; SIZE],
}

#[repr(C)]
struct UsedElement {
    id: u32,
    length: u32,
}

#[repr(C)]
struct Used {
    flags: u16,
    index: u16,
    ring: [UsedElement; SIZE],
}

#[repr(C)]
struct Place {
    kind: u32,
    reserved: u32,
    sector: u64,
    status: u8,
}

/// What driver and device share.
#[repr(C)]
struct Rings {
    descriptors: [Descriptor; SIZE],
    available: Available,
    used: Used,
    places: [Place; PLACES],
}

/// A disk and its queue.
pub(super) struct Queue {
    transport: SomeTransport<'static>,
    /// The memory of [`Rings`].
    memory: Pages,
    /// Requests made and requests seen to be done, both counted around 65536.
    made: u16,
    seen: u16,
    /// Whether the device is still to be told of what was made last.
    is_untold: bool,
    /// One bit for each place: taken; done, and not told yet.
    taken: u32,
    done: u32,
    features: u64,
}

impl Queue {
    /// Takes a disk over.
    pub(super) fn new(mut transport: SomeTransport<'static>) -> Result<Self, Fault> {
        transport.set_status(DeviceStatus::empty());
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(known);
        let features = transport.read_device_features() & (READ_ONLY | FLUSH | DISCARD | VERSION_1);
        transport.write_driver_features(features);
        transport.set_status(known | DeviceStatus::FEATURES_OK);
        if features & VERSION_1 == 0 || !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(Fault::Old);
        }
        if (transport.max_queue_size(QUEUE) as usize) < SIZE {
            return Err(Fault::ShortQueue);
        }
        let memory = Pages::new(size_of::<Rings>()).ok_or(Fault::NoMemory)?;
        let address = memory.address();
        let rings = memory.start().cast::<Rings>().as_ptr();
        // SAFETY: the memory is zeroed, aligned to a page, as long as the rings, and nobody else's.
        unsafe { (&raw mut (*rings).available.flags).write_volatile(NO_INTERRUPT) };
        transport.queue_set(
            QUEUE,
            SIZE as u32,
            address + offset_of!(Rings, descriptors) as u64,
            address + offset_of!(Rings, available) as u64,
            address + offset_of!(Rings, used) as u64,
        );
        transport.finish_init();
        Ok(Self {
            transport,
            memory,
            made: 0,
            seen: 0,
            is_untold: false,
            taken: 0,
            done: 0,
            features,
        })
    }

    fn rings(&self) -> *mut Rings {
        self.memory.start().cast().as_ptr()
    }

    /// Size in sectors, as it is now.
    pub(super) fn capacity(&self) -> Result<u64, Fault> {
        let read = |at| self.transport.read_config_space::<u32>(at).map(u64::from);
        let capacity = self
            .transport
            .read_consistent(|| Ok(read(CAPACITY)? | read(CAPACITY + 4)? << 32));
        capacity.map_err(|_| Fault::Failed)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.features & READ_ONLY != 0
    }

    /// Whether what was written may be lost until a flush.
    pub(super) fn has_cache(&self) -> bool {
        self.features & FLUSH != 0
    }

    /// Most sectors of a discard; none where the disk knows of none.
    pub(super) fn most_discarded(&self) -> u32 {
        match self.features & DISCARD {
            0 => 0,
            _ => self
                .transport
                .read_config_space(MAX_DISCARD_SECTORS)
                .unwrap_or_default(),
        }
    }

    /// Hands a request to the device; its place, or `None` if there is none free.
    ///
    /// # Safety
    /// The data is memory that is there, and nobody else's, until [`take`](Self::take) has told that the request is done.
    pub(super) unsafe fn submit(&mut self, kind: Kind, sector: u64, data: &Pieces) -> Option<usize> {
        let place = self.taken.trailing_ones() as usize;
        if place == PLACES {
            return None;
        }
        self.taken |= 1 << place;
        let rings = self.rings();
        let header = Place {
            kind: kind as u32,
            reserved: 0,
            sector,
            status: u8::MAX,
        };
        let own = self.memory.address() + (offset_of!(Rings, places) + place * size_of::<Place>()) as u64;
        let status = own + offset_of!(Place, status) as u64;
        let filled = if kind.fills() { WRITE } else { 0 };
        let first = place * DESCRIPTORS;
        let mut at = first;
        let mut describe = |address, length: usize, flags| {
            let descriptor = Descriptor {
                address,
                length: length as u32,
                flags,
                next: at as u16 + 1,
            };
            // SAFETY: at most `DESCRIPTORS` are described, which are this request's alone since its place was free.
            unsafe { (&raw mut (*rings).descriptors[at]).write_volatile(descriptor) };
            at += 1;
        };
        describe(own, offset_of!(Place, status), NEXT);
        for piece in data.as_slice() {
            describe(piece.address, piece.length, NEXT | filled);
        }
        describe(status, 1, WRITE);
        // SAFETY: the place is this request's alone since it was free; the indexes are below the arrays' lengths.
        unsafe {
            (&raw mut (*rings).places[place]).write_volatile(header);
            let entry = &raw mut (*rings).available.ring[self.made as usize % SIZE];
            entry.write_volatile(first as u16);
            self.made = self.made.wrapping_add(1);
            // The request before its number, the number before the look whether the device wants to be told.
            fence(Ordering::SeqCst);
            (&raw mut (*rings).available.index).write_volatile(self.made);
            fence(Ordering::SeqCst);
        }
        self.is_untold = true;
        self.tell();
        Some(place)
    }

    /// Tells the device that there is something to do, unless it looks by itself.
    fn tell(&mut self) {
        // SAFETY: the rings are ours; the device changes its flags alone.
        let flags = unsafe { (&raw const (*self.rings()).used.flags).read_volatile() };
        if flags & NO_NOTIFY == 0 {
            self.transport.notify(QUEUE);
            self.is_untold = false;
        }
    }

    /// Whether the request of a place is done, and how it ended. It gives up the place then.
    pub(super) fn take(&mut self, place: usize) -> Option<Result<(), Fault>> {
        self.look();
        let bit = 1 << place;
        if self.done & bit == 0 {
            return None;
        }
        self.done &= !bit;
        self.taken &= !bit;
        // SAFETY: the place is below the array's length, and the device is done with it.
        let status = unsafe { (&raw const (*self.rings()).places[place].status).read_volatile() };
        Some(match status {
            0 => Ok(()),
            2 => Err(Fault::Unsupported),
            _ => Err(Fault::Failed),
        })
    }

    /// Notes what the device has done.
    fn look(&mut self) {
        let rings = self.rings();
        loop {
            // SAFETY: the rings are ours; the device changes its index alone while we read.
            let index = unsafe { (&raw const (*rings).used.index).read_volatile() };
            if index == self.seen {
                break;
            }
            // The number before what it counts.
            fence(Ordering::Acquire);
            // SAFETY: the index is below the array's length; the device has written this entry before it counted it.
            let id = unsafe { (&raw const (*rings).used.ring[self.seen as usize % SIZE].id).read_volatile() };
            self.seen = self.seen.wrapping_add(1);
            let place = id as usize / DESCRIPTORS;
            if place < PLACES {
                self.done |= 1 << place & self.taken;
            }
        }
        // A device that said that it looks may have stopped to do so without having seen the last request: QEMU 7.2 leaves
        // a guest's barriers out where it emulates a single CPU, and some requests of ten thousand stayed where they were.
        if self.is_untold && self.seen != self.made {
            self.tell();
        }
    }
}
