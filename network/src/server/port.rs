//! A guest's network card: frames come from it, and wait for it when it is slow.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::poller::{Interest, Poller, Token};
use crate::switch::Counters;

/// Most frames that wait for a guest: a TCP window of 256 KB and some more. What comes then is lost, as on any network.
const MAX_WAITING: usize = 256;

#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) counters: Counters,
    card: OwnedFd,
    id: u32,
    waiting: VecDeque<Vec<u8>>,
}

impl Port {
    pub(super) fn new(
        card: OwnedFd,
        id: u32,
        name: String,
        aliases: Vec<String>,
        poller: &Poller,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&card, true)?;
        poller.add(&card, Token::Port(id), Interest::READ)?;
        Ok(Self {
            name,
            aliases,
            counters: Counters::default(),
            card,
            id,
            waiting: VecDeque::new(),
        })
    }

    /// The next frame that the guest sent: its length, which is one more than a frame may have where it was cut off.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(&self.card, buffer, RecvFlags::DONTWAIT) {
            // The other end is closed; a datagram that is empty is no frame either.
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, length)) => {
                self.counters.sent += 1;
                self.counters.sent_bytes += length as u64;
                Ok(Some(length))
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the guest a frame, now or later.
    pub(super) fn send(&mut self, frame: &[u8], poller: &Poller) {
        if self.waiting.is_empty() && self.give(frame) {
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            self.counters.dropped += 1;
            return;
        }
        self.waiting.push_back(frame.to_vec());
        if self.waiting.len() == 1 {
            self.wait_for(poller, true);
        }
    }

    /// Gives the guest what waits for it.
    pub(super) fn flush(&mut self, poller: &Poller) {
        if self.waiting.is_empty() {
            return;
        }
        while let Some(frame) = self.waiting.pop_front() {
            if !self.give(&frame) {
                self.waiting.push_front(frame);
                return;
            }
        }
        self.wait_for(poller, false);
    }

    fn wait_for(&self, poller: &Poller, write: bool) {
        // A card that cannot be waited for reports its end with the next frame that it sends.
        let _ = poller.change(&self.card, Token::Port(self.id), Interest { read: true, write });
    }

    /// Whether the card took a frame. One that is gone took it: its end is reported elsewhere.
    fn give(&mut self, frame: &[u8]) -> bool {
        match send(&self.card, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::WOULDBLOCK | Errno::NOBUFS) => false,
            Ok(_) => {
                self.counters.received += 1;
                self.counters.received_bytes += frame.len() as u64;
                true
            }
            Err(_) => true,
        }
    }

    /// Forgets the card, which has a copy elsewhere.
    pub(super) fn close(self, poller: &Poller) {
        poller.remove(&self.card);
    }
}
