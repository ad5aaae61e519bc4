//! A ring of frames in a guest's memory (virtio 1.2, sections 2.7 and 5.1.6).

use std::fs::File;
use std::io;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT as _, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// A guest's memory.
pub(super) type Memory = GuestMemoryMmap;

/// Bytes of the header before each frame: virtio 1.0 and later.
pub(crate) const HEADER: usize = 12;

/// Flag of the header: the sums of TCP or UDP are left to the other side.
const NEEDS_CHECKSUM: u8 = 1;

/// Flag of the header: the sums need no look.
const DATA_VALID: u8 = 2;

/// Place in the header of the number of buffers that a received frame is in.
const BUFFERS: usize = 10;

/// Flag of the ring's driver: it is not to be interrupted.
const NO_INTERRUPT: u16 = 1;

/// Most entries of a ring: what QEMU lets a card have.
pub(super) const MAX_SIZE: u16 = 1024;

/// Most parts of a frame. Linux uses 19, we use one; a table that a guest made may have 65,535.
const MAX_PARTS: usize = 32;

/// What came of taking a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A frame: its length with the header, and whether it lacks the sums of TCP and UDP.
    Frame {
        /// Bytes, one more than the buffer's if it did not fit.
        length: usize,
        /// Whether it lacks the sums of TCP and UDP.
        unsummed: bool,
    },
    /// What the guest sent is no frame.
    Refused,
    /// Nothing is there. The guest will say when there is.
    Nothing,
}

/// What came of giving a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The guest has it.
    Taken,
    /// The guest has no room. It will say when it has.
    Full,
    /// The guest's card does not run, or what the guest holds ready is no room for a frame.
    Lost,
}

pub(super) struct Ring {
    pub(super) queue: Queue,
    pub(super) is_enabled: bool,
    /// What the guest wakes us with.
    pub(super) kick: Option<File>,
    /// What we wake the guest with.
    pub(super) call: Option<File>,
    /// Whether the guest knows that it need not wake us.
    is_quiet: bool,
    /// Whether there is something that the guest was not told of.
    is_untold: bool,
}

impl Ring {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            queue: Queue::new(MAX_SIZE)?,
            is_enabled: true,
            kick: None,
            call: None,
            is_quiet: false,
            is_untold: false,
        })
    }

    /// Whether frames may pass.
    pub(super) fn runs(&self) -> bool {
        self.is_enabled && self.queue.ready() && self.kick.is_some()
    }

    /// Begins as if the guest had woken us: whoever served the ring before may have heard the guest and have done nothing
    /// any more.
    pub(super) fn begin(&mut self) {
        self.is_quiet = false;
        self.kick.as_ref().inspect(|kick| notify(kick));
    }

    /// Takes a frame with its header. An error: the ring makes no sense.
    pub(super) fn take(&mut self, memory: &Memory, buffer: &mut [u8]) -> Result<Taken, Error> {
        let Some(chain) = self.next(memory)? else {
            return Ok(Taken::Nothing);
        };
        let head = chain.head_index();
        let length = read(chain, memory, buffer);
        self.queue.add_used(memory, head, 0)?;
        self.is_untold = true;
        Ok(match length {
            Some(length) if length > HEADER => Taken::Frame {
                length,
                unsummed: buffer[0] & NEEDS_CHECKSUM != 0,
            },
            _ => Taken::Refused,
        })
    }

    /// Gives a frame. An error: the ring makes no sense.
    pub(super) fn give(&mut self, memory: &Memory, frame: &[u8], vouched: bool) -> Result<Given, Error> {
        let Some(chain) = self.next(memory)? else {
            return Ok(Given::Full);
        };
        let head = chain.head_index();
        let mut header = [0; HEADER];
        header[0] = if vouched { DATA_VALID } else { 0 };
        header[BUFFERS] = 1;
        let length = write(chain, memory, [&header, frame]);
        self.queue.add_used(memory, head, length.unwrap_or(0))?;
        self.is_untold = true;
        Ok(length.map_or(Given::Lost, |_| Given::Taken))
    }

    /// What the guest holds ready next. While there is something it need not wake us; it is asked to, once there is
    /// nothing.
    fn next<'a>(&mut self, memory: &'a Memory) -> Result<Option<DescriptorChain<&'a Memory>>, Error> {
        for _ in 0..2 {
            if let Some(chain) = self.queue.iter(memory)?.next() {
                if !self.is_quiet {
                    self.queue.disable_notification(memory)?;
                    self.is_quiet = true;
                }
                return Ok(Some(chain));
            }
            self.hear();
            // What came between our look and the guest's is there at the second look.
            if !self.queue.enable_notification(memory)? {
                self.is_quiet = false;
                return Ok(None);
            }
            self.is_quiet = false;
        }
        // The ring says that it has something, and has not.
        Err(Error::InvalidAvailRingIndex)
    }

    /// Takes what the guest woke us with, if it did.
    pub(super) fn hear(&self) {
        if let Some(kick) = &self.kick {
            let _ = rustix::io::read(kick, &mut [0_u8; 8]);
        }
    }

    /// Wakes the guest, if there is something that it does not know of and wants to.
    pub(super) fn tell(&mut self, memory: &Memory) {
        if !std::mem::take(&mut self.is_untold) {
            return;
        }
        // What was written must be seen by a guest that has just said that it looks by itself.
        fence(Ordering::SeqCst);
        let flags = memory.load(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed);
        let wants = flags.map_or(true, |flags: u16| u16::from_le(flags) & NO_INTERRUPT == 0);
        if let Some(call) = self.call.as_ref().filter(|_| wants) {
            notify(call);
        }
    }
}

/// Copies the bytes of a chain that the guest wrote, as many as there is room for; `None` if they are nowhere.
fn read(chain: DescriptorChain<&Memory>, memory: &Memory, buffer: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    for part in chain.readable().take(MAX_PARTS) {
        let room = &mut buffer[length..];
        let count = room.len().min(part.len() as usize);
        memory.read_slice(&mut room[..count], part.addr()).ok()?;
        length += count;
    }
    Some(length)
}

/// Copies bytes to where a chain has room; `None` if it has less than they need, or is nowhere.
fn write(chain: DescriptorChain<&Memory>, memory: &Memory, bytes: [&[u8]; 2]) -> Option<u32> {
    let mut parts = chain.writable().take(MAX_PARTS);
    let (mut address, mut room) = (GuestAddress(0), 0);
    let mut length = 0;
    for mut bytes in bytes {
        while !bytes.is_empty() {
            if room == 0 {
                let part = parts.next()?;
                (address, room) = (part.addr(), part.len() as usize);
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            memory.write_slice(now, address).ok()?;
            address.0 = address.0.checked_add(now.len() as u64)?;
            room -= now.len();
            length += now.len() as u32;
            bytes = later;
        }
    }
    Some(length)
}

/// Wakes who waits for an eventfd. One whose count is full wakes as well.
fn notify(event: &File) {
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

/// Makes sure that an eventfd never holds us up.
pub(super) fn unblock(event: &File) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(event, true)?)
}
