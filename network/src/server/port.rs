//! A guest's network card: frames come from it, and wait for it when it is slow.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::socket_type;
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send};

use crate::frame::{self, MAX_FRAME};
use crate::poller::{Interest, Poller, Token};
use crate::switch::Counters;
use crate::vhost::{Given, HEADER, SharedCard, Taken};

/// Most frames that wait for a guest: a TCP window of 256 KB and some more. What comes then is lost, as on any network.
const MAX_WAITING: usize = 256;

/// Room for a frame, the header that some cards have before it, and a byte by which one that is too long shows.
pub(super) const ROOM: usize = HEADER + MAX_FRAME + 1;

pub(super) struct Port {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) counters: Counters,
    card: Card,
    id: u32,
    waiting: VecDeque<(Vec<u8>, bool)>,
}

/// How frames go to a guest's network card and come from it.
enum Card {
    /// A datagram socket, a frame a datagram.
    Socket(OwnedFd),
    /// Memory of the guest's.
    Shared(Box<SharedCard>),
}

/// A frame on its way.
pub(super) struct Passing<'a> {
    pub(super) bytes: &'a mut [u8],
    sums: Sums,
}

/// Whose the sums of TCP and UDP in a frame are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// Its sender's. Nobody has looked at them.
    Sender,
    /// Its sender has left them to those after it.
    Nobody,
    /// Ours, and right.
    Ours,
}

impl<'a> Passing<'a> {
    /// A frame of our own.
    pub(super) fn own(bytes: &'a mut [u8]) -> Self {
        Self {
            bytes,
            sums: Sums::Ours,
        }
    }

    /// The frame with all its sums.
    pub(super) fn summed(&mut self) -> &[u8] {
        if self.sums == Sums::Nobody {
            frame::sum(self.bytes);
            self.sums = Sums::Ours;
        }
        self.bytes
    }
}

impl Port {
    /// A `card` that is a datagram socket has frames; to a stream QEMU connects, and speaks vhost-user.
    pub(super) fn new(
        card: OwnedFd,
        id: u32,
        name: String,
        aliases: Vec<String>,
        poller: &Arc<Poller>,
    ) -> io::Result<Self> {
        let card = if socket_type(&card)? == SocketType::STREAM {
            Card::Shared(Box::new(SharedCard::new(UnixListener::from(card), id, poller)?))
        } else {
            rustix::io::ioctl_fionbio(&card, true)?;
            poller.add(&card, Token::Port(id), Interest::READ)?;
            Card::Socket(card)
        };
        Ok(Self {
            name,
            aliases,
            counters: Counters::default(),
            card,
            id,
            waiting: VecDeque::new(),
        })
    }

    /// The card in shared memory, where it is one.
    pub(super) fn shared(&mut self) -> Option<&mut SharedCard> {
        match &mut self.card {
            Card::Socket(_) => None,
            Card::Shared(card) => Some(card),
        }
    }

    /// The next frame that the guest sent; one that is too long is one byte longer than it may be.
    pub(super) fn receive<'a>(&mut self, buffer: &'a mut [u8; ROOM]) -> io::Result<Option<Passing<'a>>> {
        let (place, sums) = match &mut self.card {
            Card::Socket(card) => match recv(&*card, &mut buffer[HEADER..], RecvFlags::DONTWAIT) {
                // The other end is closed; a datagram that is empty is no frame either.
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, length)) => (HEADER..(HEADER + length).min(ROOM), Sums::Sender),
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            },
            Card::Shared(card) => match card.take(buffer) {
                Taken::Frame {
                    length,
                    unsummed: true,
                } => (HEADER..length, Sums::Nobody),
                Taken::Frame { length, .. } => (HEADER..length, Sums::Sender),
                // An empty frame: it is refused with all others that are none.
                Taken::Refused => (0..0, Sums::Sender),
                Taken::Nothing => return Ok(None),
            },
        };
        let bytes = &mut buffer[place];
        self.counters.sent += 1;
        self.counters.sent_bytes += bytes.len() as u64;
        Ok(Some(Passing { bytes, sums }))
    }

    /// Gives the guest a frame, now or later.
    pub(super) fn send(&mut self, frame: &mut Passing<'_>, poller: &Poller) {
        let takes_our_word = self.takes_our_word();
        if !takes_our_word {
            frame.summed();
        }
        let vouched = takes_our_word && frame.sums != Sums::Sender;
        if self.waiting.is_empty() && self.give(frame.bytes, vouched) {
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            self.counters.dropped += 1;
            return;
        }
        self.waiting.push_back((frame.bytes.to_vec(), vouched));
        if self.waiting.len() == 1 {
            self.wait_for_room(poller, true);
        }
    }

    /// Gives the guest what waits for it.
    pub(super) fn flush(&mut self, poller: &Poller) {
        if self.waiting.is_empty() {
            return;
        }
        while let Some((frame, vouched)) = self.waiting.pop_front() {
            if !self.give(&frame, vouched) {
                self.waiting.push_front((frame, vouched));
                return;
            }
        }
        self.wait_for_room(poller, false);
    }

    /// The guest has room, and has said so.
    pub(super) fn room(&mut self, poller: &Poller) {
        if let Some(card) = self.shared() {
            card.hear_room();
        }
        self.flush(poller);
    }

    /// Wakes the guest, if there is something that it does not know of.
    pub(super) fn tell(&mut self) {
        if let Some(card) = self.shared() {
            card.tell();
        }
    }

    /// Whether the guest looks at no sums that we vouch for, so that none need be there.
    fn takes_our_word(&self) -> bool {
        match &self.card {
            Card::Socket(_) => false,
            Card::Shared(card) => card.takes_our_word(),
        }
    }

    fn wait_for_room(&self, poller: &Poller, write: bool) {
        if let Card::Socket(card) = &self.card {
            // A card that cannot be waited for reports its end with the next frame that it sends.
            let _ = poller.change(card, Token::Port(self.id), Interest { read: true, write });
        }
    }

    /// Whether the card took a frame. One that is gone took it: its end is reported elsewhere.
    fn give(&mut self, frame: &[u8], vouched: bool) -> bool {
        let given = match &mut self.card {
            Card::Socket(card) => match send(card, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::WOULDBLOCK | Errno::NOBUFS) => Given::Full,
                Ok(_) => Given::Taken,
                Err(_) => Given::Lost,
            },
            Card::Shared(card) => card.give(frame, vouched),
        };
        if given == Given::Taken {
            self.counters.received += 1;
            self.counters.received_bytes += frame.len() as u64;
        }
        given != Given::Full
    }

    /// Forgets the card, which may have a copy elsewhere.
    pub(super) fn close(self, poller: &Poller) {
        if let Card::Socket(card) = self.card {
            poller.remove(&card);
        }
    }
}
