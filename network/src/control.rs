//! What is said between a network's process and those who use it, over the Unix socket `control` in the network's
//! folder: a JSON object a line. With a line that attaches a guest comes one file descriptor, the switch's end of the
//! guest's network card.
//!
//! With one that dials a guest comes the end of a stream that is to lead there.
//!
//! A guest is attached as long as the connection over which it came. Who wants to keep it over a restart of the
//! network's process keeps a copy of the descriptor, and attaches it again when the connection ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, flock, unlinkat};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use serde::{Deserialize, Serialize};

use crate::file::FileError;
use crate::switch::Counters;

/// Name of the socket in a network's folder.
const SOCKET: &str = "control";

/// Name of the file whose lock is held by whoever makes the network or starts its process.
const START: &str = "start.lock";

/// Most bytes of a line: an attachment with some hundred forwards has ten thousand.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// How long an answer may take. The network's process answers within microseconds, unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a network's process that ends while it is asked is started again: it ends by itself when nobody uses
/// it, which can meet the next one who does.
const ATTEMPTS: usize = 5;

/// A port of the host that leads to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The host's address.
    pub address: IpAddr,
    /// The host's port; 0 for any.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// A guest that is to be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Its MAC address, as `a2:13:15:00:80:02`.
    pub mac: String,
    /// Names that it shares with others.
    pub aliases: Vec<String>,
    /// The address that it is to have; any if `None`.
    pub address: Option<Ipv4Addr>,
    /// Ports of the host that lead to it.
    pub forwards: Vec<Forward>,
}

/// What a guest got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// The gateway, which is also the DNS server.
    pub gateway: Ipv4Addr,
    /// The host's port of each forward, in their order.
    pub ports: Vec<u16>,
}

/// A guest of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Names that it shares with others.
    pub aliases: Vec<String>,
    /// What became of its frames.
    pub counters: Counters,
}

/// What a user wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    Attach(Attachment),
    Members,
    Find(String),
    Dial {
        guest: String,
        port: u16,
    },
    /// To end, unless it has guests.
    Retire,
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    Attached(Attached),
    Members(Vec<Member>),
    Addresses(Vec<Ipv4Addr>),
    Dialled,
    Retired,
    Error(String),
}

/// Why a network cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A file or socket of the network.
    #[error(transparent)]
    File(#[from] FileError),
    /// The network's process cannot be started, or ends at once.
    #[error("network's process does not start")]
    Start {
        /// What is known of it.
        source: io::Error,
    },
    /// The network's process went away, or does not answer.
    #[error("network's process does not answer")]
    Lost {
        /// How that was seen.
        source: io::Error,
    },
    /// The network's process refuses.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a network's process.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the process of the network in `folder`; `None` if it does not run.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn connect(folder: &Path) -> Result<Option<Self>, ControlError> {
        let socket = folder.join(SOCKET);
        let failed = |source| FileError::io("connect to", &socket)(source);
        let folder = match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let stream = match UnixStream::connect(short(&folder)) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed(error).into()),
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Some(Self {
            stream: BufReader::new(stream),
        }))
    }

    /// Connects to the process of the network in `folder`, and starts it before if it does not run. `start` starts it
    /// and returns once it listens.
    ///
    /// # Errors
    /// It cannot be started, or the socket cannot be used.
    pub fn open(folder: &Path, start: impl Fn() -> io::Result<()>) -> Result<Self, ControlError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(FileError::io("create", folder))?;
        for _ in 0..ATTEMPTS {
            if let Some(client) = Self::connect(folder)? {
                return Ok(client);
            }
            let _lock = lock(folder)?;
            if let Some(client) = Self::connect(folder)? {
                return Ok(client);
            }
            start().map_err(|source| ControlError::Start { source })?;
        }
        let source = io::ErrorKind::ConnectionRefused.into();
        Err(ControlError::Start { source })
    }

    /// Attaches a guest, as long as this connection lives. `card` is the switch's end of its network card: a datagram
    /// socket, a frame a datagram; or a stream socket that listens, to which the guest's QEMU connects to share its memory
    /// (vhost-user).
    ///
    /// # Errors
    /// The network refuses it, or its process is gone.
    pub fn attach(&mut self, guest: Attachment, card: BorrowedFd<'_>) -> Result<Attached, ControlError> {
        match self.ask(&Request::Attach(guest), Some(card))? {
            Reply::Attached(attached) => Ok(attached),
            other => Err(unexpected(&other)),
        }
    }

    /// The guests of the network.
    ///
    /// # Errors
    /// The process is gone.
    pub fn members(&mut self) -> Result<Vec<Member>, ControlError> {
        match self.ask(&Request::Members, None)? {
            Reply::Members(members) => Ok(members),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the network's process end: from now on it takes nobody. If there are guests it goes on, and they are given.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn retire(&mut self) -> Result<Vec<Member>, ControlError> {
        match self.ask(&Request::Retire, None)? {
            Reply::Retired => Ok(Vec::new()),
            Reply::Members(members) => Ok(members),
            other => Err(unexpected(&other)),
        }
    }

    /// The addresses of a name of the network; none if it is nobody's.
    ///
    /// # Errors
    /// The process is gone.
    pub fn find(&mut self, name: &str) -> Result<Vec<Ipv4Addr>, ControlError> {
        match self.ask(&Request::Find(name.to_owned()), None)? {
            Reply::Addresses(addresses) => Ok(addresses),
            other => Err(unexpected(&other)),
        }
    }

    /// Connects to a port of a guest: the stream is carried to it by the gateway. Waits until the guest is up.
    ///
    /// # Errors
    /// There is no such guest, it refuses the connection, or is not up within some seconds.
    pub fn dial(mut self, guest: &str, port: u16) -> Result<UnixStream, ControlError> {
        let (ours, theirs) = UnixStream::pair().map_err(|source| ControlError::Lost { source })?;
        let guest = guest.to_owned();
        match self.ask(&Request::Dial { guest, port }, Some(theirs.as_fd()))? {
            Reply::Dialled => Ok(ours),
            other => Err(unexpected(&other)),
        }
    }

    /// The id of the network's process, as this process sees it.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn process(&self) -> io::Result<u32> {
        let peer = sockopt::socket_peercred(self.stream.get_ref())?;
        Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Waits until the network's process is gone.
    pub fn wait(mut self) {
        // It says nothing unasked: whatever comes is the end. The time-out is not for those who want to wait.
        let _ = self.stream.get_ref().set_read_timeout(None);
        let _ = self.stream.fill_buf();
    }

    /// A handle whose `shutdown` ends [`Client::wait`], and the attachment.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn handle(&self) -> io::Result<UnixStream> {
        self.stream.get_ref().try_clone()
    }

    fn ask(&mut self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<Reply, ControlError> {
        let lost = |source| ControlError::Lost { source };
        let mut line = serde_json::to_vec(request).map_err(|error| lost(error.into()))?;
        line.push(b'\n');
        send(self.stream.get_mut(), &line, descriptor).map_err(lost)?;
        let mut reply = String::new();
        if self.stream.read_line(&mut reply).map_err(lost)? == 0 {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&reply).map_err(|error| lost(error.into()))? {
            Reply::Error(message) => Err(ControlError::Refused(message)),
            reply => Ok(reply),
        }
    }
}

fn unexpected(reply: &Reply) -> ControlError {
    let source = io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {reply:?}"));
    ControlError::Lost { source }
}

/// Sends a line, and a descriptor with its first byte.
fn send(stream: &mut UnixStream, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let descriptors = descriptor.as_slice();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let pushed = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "there is room for one");
    }
    let sent = sendmsg(
        &mut *stream,
        &[IoSlice::new(line)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    stream.write_all(&line[sent..])
}

/// The path of the socket through the folder's descriptor: a socket's path has 107 bytes at most, a home folder's may
/// have more.
fn short(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

/// Takes the lock of those who make a network or start its process, and waits for it.
pub(crate) fn lock(folder: &Path) -> Result<OwnedFd, ControlError> {
    let path = folder.join(START);
    let lock = || -> io::Result<OwnedFd> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file.into())
    };
    Ok(lock().map_err(FileError::io("lock", &path))?)
}

/// The socket of the network in `folder`, in the place of one that a process left that is gone.
pub(crate) fn listen(folder: &File) -> io::Result<UnixListener> {
    match unlinkat(folder, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let listener = UnixListener::bind(short(folder))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket, so that whoever comes from now on starts a new process. The folder is the one that was listened
/// in, not the one that has its path now: a network that was removed and made again has another process's socket there.
pub(crate) fn unlisten(folder: &File) {
    // It is ours; one that cannot be removed refuses connections, which says the same.
    let _ = unlinkat(folder, SOCKET, AtFlags::empty());
}

/// A pair of sockets for a guest's network card: QEMU's end, and the switch's.
///
/// # Errors
/// No file descriptor is left.
pub fn card() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // A burst of full frames must not wait for room in bytes; the kernel bounds their number.
    for end in [pair.0.as_fd(), pair.1.as_fd()] {
        sockopt::set_socket_send_buffer_size(end, 1 << 20)?;
    }
    Ok(pair)
}
