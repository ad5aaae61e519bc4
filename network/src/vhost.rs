//! A guest's network card in memory that the switch shares with the guest: vhost-user, of which we are the back end
//! (QEMU's `docs/interop/vhost-user.rst`) and QEMU is the front end.
//!
//! The front end connects to a Unix socket and says where the guest's memory and the card's rings are ([`device`]). From
//! then on frames are taken out of the guest's memory and put into another's ([`ring`]) without QEMU, and either side
//! wakes the other one through an eventfd. When we are gone QEMU connects to the next back end, and tells that one how
//! far the rings are.
//!
//! All that a guest can write - rings, descriptors, headers, frames - is outside input: each is copied before it is
//! judged, and a ring that makes no sense is stopped. QEMU itself is trusted as far as its owner is ours.

mod device;
mod ring;

use std::io::{self, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use vhost::vhost_user::{BackendReqHandler, Error};

use crate::poller::{Interest, Poller, Token};
use device::Device;
pub(crate) use ring::{Given, HEADER, Taken};

/// How long the rest of a message, or room for an answer, may be waited for. QEMU writes a message at once, and waits for
/// its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of a message's header: request, flags, length of what follows.
const MESSAGE_HEADER: usize = 12;

/// Flag of a message: it is to be answered.
const NEED_REPLY: u8 = 1 << 3;

/// Flags of an answer: the protocol's version, and that it is one.
const REPLY: u8 = 1 | 1 << 2;

/// A connection of QEMU's.
struct Link {
    handler: BackendReqHandler<Mutex<Device>>,
    /// The handler's, to look ahead.
    stream: UnixStream,
}

impl Link {
    /// Answers the next message.
    fn converse(&mut self) -> Result<(), Error> {
        let mut header = [0; MESSAGE_HEADER];
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&self.stream, &mut header, peek).map_err(|errno| Error::SocketBroken(errno.into()))?;
        match self.handler.handle_request() {
            // QEMU enables the rings before it says which features it takes. The crate finds that too early, and answers
            // nobody; our rings are enabled anyway, until QEMU disables them.
            Err(Error::InactiveFeature(_)) if header[4] & NEED_REPLY != 0 => {
                let mut answer = [0; MESSAGE_HEADER + 8];
                (answer[0], answer[4], answer[8]) = (header[0], REPLY, 8);
                self.stream.write_all(&answer).map_err(Error::SocketBroken)
            }
            Err(Error::InactiveFeature(_)) => Ok(()),
            handled => handled,
        }
    }
}

/// A guest's network card.
pub(crate) struct SharedCard {
    id: u32,
    poller: Arc<Poller>,
    listener: UnixListener,
    link: Option<Link>,
    /// The handler's too: it changes the card between frames, on our own thread.
    device: Arc<Mutex<Device>>,
}

impl SharedCard {
    /// A card whose QEMU connects to `listener`. That it does is [`Token::Front`], what it says then is [`Token::Link`],
    /// the guest's frames are [`Token::Port`], and that it has room for others is [`Token::Room`].
    pub(crate) fn new(listener: UnixListener, id: u32, poller: &Arc<Poller>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poller.add(&listener, Token::Front(id), Interest::READ)?;
        Ok(Self {
            id,
            poller: Arc::clone(poller),
            listener,
            link: None,
            device: Arc::new(Mutex::new(Device::new(id, Arc::clone(poller)))),
        })
    }

    /// Takes QEMU's connection, in the place of the one before.
    pub(crate) fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?.0,
        };
        self.hang_up();
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let link = Link {
            stream: stream.try_clone()?,
            handler: BackendReqHandler::from_stream(stream, Arc::clone(&self.device)),
        };
        self.poller
            .add(&link.stream, Token::Link(self.id), Interest::READ)?;
        self.link = Some(link);
        Ok(())
    }

    fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            self.poller.remove(&link.stream);
        }
        self.device().stop();
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        // There is one thread: nobody else has it, and nobody has left it half changed.
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears QEMU out. One that is gone, or says what makes no sense, may connect again.
    pub(crate) fn converse(&mut self) {
        if self.link.as_mut().is_some_and(|link| link.converse().is_err()) {
            self.hang_up();
        }
    }

    /// The next frame that the guest sent, with the header before it.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> Taken {
        self.device().take(buffer)
    }

    /// Gives the guest a frame; `vouched`: it need not look at the sums of TCP and UDP, which may be left out.
    pub(crate) fn give(&mut self, frame: &[u8], vouched: bool) -> Given {
        self.device().give(frame, vouched)
    }

    /// Takes note that the guest has room, or says so.
    pub(crate) fn hear_room(&mut self) {
        self.device().hear_room();
    }

    /// Whether the guest takes our word for the sums of TCP and UDP.
    pub(crate) fn takes_our_word(&self) -> bool {
        self.device().takes_our_word()
    }

    /// Wakes the guest, if there is something that it does not know of.
    pub(crate) fn tell(&mut self) {
        self.device().tell();
    }
}

impl Drop for SharedCard {
    fn drop(&mut self) {
        self.hang_up();
        // Whoever started the guest has a copy.
        self.poller.remove(&self.listener);
    }
}

#[cfg(test)]
mod tests;
