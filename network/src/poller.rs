//! What the loop waits for: file descriptors by name, through epoll.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Most events that are handed over at once; the rest come the next time.
const MAX_EVENTS: usize = 64;

/// What a file descriptor is to the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Token {
    /// The socket that users connect to.
    Control,
    /// A user's connection.
    Client(u32),
    /// A guest's network card.
    Port(u32),
    /// Room for frames in a network card in shared memory.
    Room(u32),
    /// QEMU, which connects to a network card in shared memory.
    Front(u32),
    /// QEMU's connection to a network card in shared memory.
    Link(u32),
    /// The host's side of a TCP connection.
    Tcp(u32),
    /// A TCP port of the host that leads to a guest.
    TcpForward(u32),
    /// The host's side of a guest's UDP flow.
    Udp(u32),
    /// A UDP port of the host that leads to a guest.
    UdpForward(u32),
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, id) = match self {
            Self::Control => (0, 0),
            Self::Client(id) => (2, id),
            Self::Port(id) => (3, id),
            Self::Link(id) => (1, id),
            Self::Tcp(id) => (4, id),
            Self::TcpForward(id) => (5, id),
            Self::Udp(id) => (6, id),
            Self::UdpForward(id) => (7, id),
            Self::Room(id) => (8, id),
            Self::Front(id) => (9, id),
        };
        (kind << 32) | u64::from(id)
    }

    fn decode(value: u64) -> Self {
        // The lower half: the truncation is meant.
        let id = value as u32;
        match value >> 32 {
            0 => Self::Control,
            1 => Self::Link(id),
            2 => Self::Client(id),
            3 => Self::Port(id),
            4 => Self::Tcp(id),
            5 => Self::TcpForward(id),
            6 => Self::Udp(id),
            8 => Self::Room(id),
            9 => Self::Front(id),
            _ => Self::UdpForward(id),
        }
    }
}

/// What is waited for at a file descriptor. Its end or an error is reported in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Self = Self {
        read: true,
        write: false,
    };

    pub(crate) const WRITE: Self = Self {
        read: false,
        write: true,
    };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// The file descriptors that are waited for. A descriptor that is closed is forgotten by the kernel.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    pub(crate) fn add(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(token.encode());
        Ok(epoll::add(&self.epoll, source, data, interest.flags())?)
    }

    pub(crate) fn change(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(token.encode());
        Ok(epoll::modify(&self.epoll, source, data, interest.flags())?)
    }

    /// Needed where the descriptor has copies elsewhere: the kernel forgets it only with the last one.
    pub(crate) fn remove(&self, source: impl AsFd) {
        // It fails only for what is not there.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits until something is ready, or the time is up.
    pub(crate) fn wait(&self, time: Option<Duration>, ready: &mut Vec<Token>) -> io::Result<()> {
        let time = time.map(|time| {
            Timespec::try_from(time).unwrap_or(Timespec {
                tv_sec: 60,
                tv_nsec: 0,
            })
        });
        let mut events: Vec<Event> = Vec::with_capacity(MAX_EVENTS);
        ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            time.as_ref(),
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        ready.extend(events.iter().map(|event| Token::decode(event.data.u64())));
        Ok(())
    }
}
