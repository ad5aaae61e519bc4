//! How other processes talk to the one that supervises an instance: over a Unix socket in the instance's folder, which
//! none but its owner can enter.
//!
//! A client sends one line of JSON, a [`Question`]. The answer is one line, an [`Answer`], when there is one; for
//! [`Question::Attach`] it comes at once, and the guest's console follows it, byte for byte, to the instance's end.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::Shutdown;
use serde::{Deserialize, Serialize};

use crate::error::{Error, with_causes};
use crate::exit::End;
use crate::instance::{Pinned, SOCKET, Seen};
use crate::lifecycle::Control;
use crate::machine::Stopped;
use crate::supervisor::Refusal;
use crate::units::InstanceName;
use crate::usage::Traffic;

/// Most bytes of a question; they have 40, and a path or a name.
const MAX_QUESTION: u64 = 16 << 10;

/// How long a client may take to ask: it does so at once, or never will.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Stop it; the guest has so many milliseconds to end by itself.
    Stop {
        /// Milliseconds.
        patience: u64,
    },
    /// Kill it.
    Kill,
    /// Say how it ended, when it has.
    Wait,
    /// Send its console.
    Attach,
    /// Ask its guest what went over the network card.
    Traffic,
    /// Give it another name.
    Rename(InstanceName),
    /// Put a file, an empty overlay, on top of a volume.
    Overlay {
        /// The volume's label.
        label: String,
        /// The file, by an absolute path.
        file: PathBuf,
    },
    /// Give a volume another size.
    Resize {
        /// The volume's label.
        label: String,
        /// Bytes.
        size: u64,
    },
}

/// What the supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It has ended.
    Ended {
        /// How it was brought to that, if it was.
        stopped: Option<Stopped>,
        /// How it ended.
        end: End,
    },
    /// Its console follows.
    Attached,
    /// What went over its network card, if the guest says so.
    Traffic(Option<Traffic>),
    /// There is an instance of that name.
    Exists,
    /// It is done.
    Done,
    /// It is not done.
    Refused(Refusal),
}

impl From<Result<(), Refusal>> for Answer {
    fn from(done: Result<(), Refusal>) -> Self {
        done.map_or_else(Self::Refused, |()| Self::Done)
    }
}

/// The server of one instance, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Service {
    listener: Arc<UnixListener>,
    thread: JoinHandle<()>,
}

/// The socket, before it is served: who connects waits.
#[derive(Debug)]
pub(crate) struct Listener(UnixListener);

impl Service {
    /// Makes the socket in `folder`, whose owner calls this.
    pub(crate) fn listen(folder: &Path) -> Result<Listener, Error> {
        let fault = |error| Error::io("listen on", folder.join(SOCKET))(error);
        Self::remove_socket(folder).map_err(fault)?;
        let listen = || UnixListener::bind(Pinned::new(folder)?.path().join(SOCKET));
        listen().map(Listener).map_err(fault)
    }

    /// Removes the socket. Who connects after this finds nobody; who did before is answered.
    pub(crate) fn remove_socket(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until all who asked have their answer. The instance has to have ended.
    pub(crate) fn finish(self) {
        // It is what ends `accept`.
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
        let _ = self.thread.join();
    }
}

impl Listener {
    /// Begins to answer.
    pub(crate) fn serve(self, control: &Arc<Control>) -> Service {
        let listener = Arc::new(self.0);
        let thread = {
            let (listener, control) = (Arc::clone(&listener), Arc::clone(control));
            thread::spawn(move || {
                thread::scope(|scope| {
                    while let Ok((stream, _)) = listener.accept() {
                        let control = &control;
                        // One who asked and went away is no matter.
                        scope.spawn(move || answer(stream, control));
                    }
                });
            })
        };
        Service { listener, thread }
    }
}

/// Answers one client.
fn answer(stream: UnixStream, control: &Control) -> io::Result<()> {
    stream.set_read_timeout(Some(QUESTION_DEADLINE))?;
    let mut line = Vec::new();
    BufReader::new((&stream).take(MAX_QUESTION)).read_until(b'\n', &mut line)?;
    let ended = |stopped, exit| Answer::Ended {
        stopped,
        end: End::from(&exit),
    };
    let answer = match serde_json::from_slice(&line)? {
        Question::Stop { patience } => {
            let (stopped, exit) = control.stop(Duration::from_millis(patience));
            ended(Some(stopped), exit)
        }
        Question::Kill => ended(Some(Stopped::Killed), control.kill()),
        Question::Wait => ended(None, control.wait()),
        Question::Attach => {
            send(&stream, &Answer::Attached)?;
            return control.outputs.attach(stream);
        }
        Question::Traffic => Answer::Traffic(control.traffic()),
        Question::Rename(to) => match control.rename(to) {
            // Who asks hears no more: it has ended.
            None => return Ok(()),
            Some(Ok(())) => Answer::Done,
            Some(Err(Error::Exists { .. })) => Answer::Exists,
            Some(Err(error)) => Answer::Refused(Refusal::certain(with_causes(&error))),
        },
        Question::Overlay { label, file } => control
            .with_machine(|machine| machine.overlay_volume(&label, &file))
            .into(),
        Question::Resize { label, size } => control
            .with_machine(|machine| machine.resize_volume(&label, size))
            .into(),
    };
    send(&stream, &answer)
}

fn send(mut stream: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value)? + "\n";
    stream.write_all(line.as_bytes())
}

/// Asks the supervisor of an instance, and waits for the answer.
///
/// # Errors
/// Nobody supervises it; its supervisor was killed meanwhile, or cannot be talked to.
pub fn ask(seen: &Seen, question: &Question) -> Result<Answer, Error> {
    let (_, answer) = converse(seen, question)?;
    Ok(answer)
}

/// Stops an instance: the guest has `patience` to end by itself.
///
/// # Errors
/// As [`ask`].
pub fn stop(seen: &Seen, patience: Duration) -> Result<(Stopped, End), Error> {
    let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    ended(ask(seen, &Question::Stop { patience })?)
}

/// Kills an instance.
///
/// # Errors
/// As [`ask`].
pub fn kill(seen: &Seen) -> Result<(Stopped, End), Error> {
    ended(ask(seen, &Question::Kill)?)
}

/// Waits for an instance's end.
///
/// # Errors
/// As [`ask`].
pub fn wait(seen: &Seen) -> Result<End, Error> {
    ended(ask(seen, &Question::Wait)?).map(|(_, end)| end)
}

/// Attaches to an instance's console.
///
/// # Errors
/// As [`ask`].
pub fn attach(seen: &Seen) -> Result<impl io::Read + use<>, Error> {
    let (stream, _) = converse(seen, &Question::Attach)?;
    Ok(stream)
}

/// What went over the network card of an instance that runs, by its guest's own account. `None`: the guest is not asked
/// that, or does not answer within half a second.
///
/// # Errors
/// As [`ask`].
pub fn traffic(seen: &Seen) -> Result<Option<Traffic>, Error> {
    match ask(seen, &Question::Traffic)? {
        Answer::Traffic(traffic) => Ok(traffic),
        _ => Err(not_understood()),
    }
}

/// Gives an instance that runs another name. Its MAC address and its log stay; on a LAN it has the old name until it is
/// started again.
///
/// # Errors
/// As [`ask`]; the name is taken, or the instance's folder cannot be renamed.
pub fn rename(seen: &Seen, to: &InstanceName) -> Result<(), Error> {
    match ask(seen, &Question::Rename(to.clone()))? {
        Answer::Done => Ok(()),
        Answer::Exists => Err(Error::Exists { name: to.clone() }),
        Answer::Refused(refusal) => Err(Error::Process {
            step: "rename the instance",
            source: io::Error::other(refusal.reason),
        }),
        _ => Err(not_understood()),
    }
}

fn ended(answer: Answer) -> Result<(Stopped, End), Error> {
    match answer {
        Answer::Ended { stopped, end } => Ok((stopped.unwrap_or(Stopped::ByItself), end)),
        _ => Err(not_understood()),
    }
}

/// It is of another version.
fn not_understood() -> Error {
    Error::Process {
        step: "understand the supervisor",
        source: io::ErrorKind::InvalidData.into(),
    }
}

fn converse(seen: &Seen, question: &Question) -> Result<(BufReader<UnixStream>, Answer), Error> {
    let not_running = || Error::NotRunning {
        name: seen.name.clone(),
    };
    if !seen.state.phase.is_supervised() {
        return Err(not_running());
    }
    let talk = || {
        let stream = UnixStream::connect(Pinned::new(&seen.folder)?.path().join(SOCKET))?;
        send(&stream, question)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let answer = serde_json::from_str(&line).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        Ok((reader, answer))
    };
    talk().map_err(|source: io::Error| match source.kind() {
        // It ended just now.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => not_running(),
        _ => Error::Process {
            step: "talk to the instance's supervisor",
            source,
        },
    })
}
