//! A machine that runs: from a plan to how the guest ended.
//!
//! ```text
//! plan() -> Launch -- start() --> Machine -- wait(), stop() --> GuestExit
//!                      |            |
//!                      |            +- dropped: QEMU is killed, the instance's folder removed
//!                      +- fails: the folder is removed
//! ```
//!
//! What runs behind a machine is in `supervisor`.
//!
//! Failures: QEMU ends early or is killed (the guest's exit says so, with QEMU's words), the launcher is killed
//! (QEMU dies with it, the folder is removed by the next run of that name), the console's reader goes away
//! (the machine is stopped, as a broken pipe ends any program).
//!
//! A machine lives as long as this value. An instance that outlives the process which started it, and its machine, is
//! [`crate::lifecycle`]'s.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hermitage_boot::Record;
use hermitage_disk::lock::Lock;
use serde::{Deserialize, Serialize};

use crate::command_line::{CommandLine, Descriptors, file};
use crate::console::Outputs;
use crate::error::Error;
use crate::exit::GuestExit;
use crate::forward::{Forward, Protocol};
use crate::instance::Instance;
use crate::log;
use crate::monitor::{Monitor, Start};
use crate::network::lan::Place;
use crate::network::{Link, backlog};
use crate::process::ProcessId;
use crate::qemu::Qemu;
use crate::spec::MachineSpec;
use crate::supervisor::{Run, Shared, supervise};

/// How long QEMU may take to go when it was told to, before it is killed: it has little to write.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);

/// How long a guest may take to end that was asked to, unless a user says otherwise: that of other container tools.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How a machine was brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopped {
    /// The guest ended by itself: it was asked to, or was about to anyway.
    ByItself,
    /// QEMU was told to go: the guest does not hear requests, or did not end in time.
    Quit,
    /// QEMU was killed.
    Killed,
}

/// A record of the control channel, and when it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When the launcher had read it.
    pub at: Instant,
    /// What it says.
    pub record: Record,
}

/// A point of the boot that a guest reached.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When the launcher had read it.
    pub at: Instant,
    /// The guest's time-stamp counter.
    pub tsc: u64,
}

/// A machine that runs. Dropping it kills QEMU and removes the instance's folder.
#[derive(Debug)]
pub struct Machine {
    spec: MachineSpec,
    started: Instant,
    command_line: CommandLine,
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<()>>,
    folder: PathBuf,
    /// The name by which QEMU knows a volume's file, by label, where that is not the file's at the start.
    volume_names: Mutex<BTreeMap<String, PathBuf>>,
    /// What is removed with the machine.
    instance: Option<Instance>,
    _image: Arc<Lock>,
    /// Its place on a rootless LAN.
    _place: Option<Place>,
}

/// Starts a machine: QEMU, with the command line that follows from `spec`, in `folder`, where an instance's files lie
/// ready. The image's lock is held as long as the machine lives.
///
/// When this returns, QEMU has made the machine, and the guest runs, unless a debugger is to start it.
pub(crate) fn start(
    qemu: &Qemu,
    spec: MachineSpec,
    folder: &Path,
    image: Arc<Lock>,
    (card, place): (Option<OwnedFd>, Option<Place>),
    console: Arc<Outputs>,
) -> Result<Machine, Error> {
    let fault = |step| move |source| Error::Process { step, source };
    let (control, control_remote) = UnixStream::pair().map_err(fault("make a socket"))?;
    let (events, monitor_remote) = UnixStream::pair().map_err(fault("make a socket"))?;
    let commands = events.try_clone().map_err(fault("make a socket"))?;
    let mut remotes: Vec<OwnedFd> = vec![control_remote.into(), monitor_remote.into()];
    let descriptors = Descriptors {
        control: remotes[0].as_raw_fd(),
        monitor: remotes[1].as_raw_fd(),
        card: card.as_ref().map(AsRawFd::as_raw_fd),
    };
    remotes.extend(card);
    let command_line = CommandLine::new(&spec, descriptors);
    let log = folder.join(file::QEMU);
    let errors = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&log)
        .map_err(Error::io("create", &log))?;
    // Who debugs wants to see the first instruction: the debugger starts the guest.
    let start = if spec.gdb_port.is_some() {
        Start::Held
    } else {
        Start::AtOnce
    };
    let monitor = Monitor::open(commands, start).map_err(fault("talk to QEMU"))?;

    let run = Run {
        program: qemu.program.clone(),
        arguments: command_line.arguments().to_vec(),
        folder: folder.to_owned(),
        errors,
        remotes,
        console,
        control,
        events,
        monitor,
    };
    let started = Instant::now();
    let (send, receive) = sync_channel(1);
    let supervisor = thread::spawn(move || supervise(run, &send));
    let shared = match receive.recv() {
        Ok(spawned) => spawned.map_err(fault("start QEMU"))?,
        Err(_) => return Err(fault("start QEMU")(io::ErrorKind::BrokenPipe.into())),
    };
    let machine = Machine {
        spec,
        started,
        command_line,
        shared,
        supervisor: Some(supervisor),
        folder: folder.to_owned(),
        volume_names: Mutex::default(),
        instance: None,
        _image: image,
        _place: place,
    };
    machine.wait_until_it_is_up(qemu)?;
    machine.let_clients_wait();
    Ok(machine)
}

impl Machine {
    /// What the machine is. A forward whose port was any has the port that was chosen.
    #[must_use]
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// QEMU's command line.
    #[must_use]
    pub fn command_line(&self) -> &CommandLine {
        &self.command_line
    }

    /// When QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The instance's folder, where QEMU runs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// QEMU's process; `None` only where `/proc` cannot be read.
    #[must_use]
    pub fn process(&self) -> Option<ProcessId> {
        self.shared.process_id.clone()
    }

    /// Lets the instance end with the machine.
    pub(crate) fn owning(mut self, instance: Instance) -> Self {
        self.instance = Some(instance);
        self
    }

    /// By which name QEMU knows the files of volumes, by label.
    pub(crate) fn volume_names(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        // Nobody leaves it half changed.
        self.volume_names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the threads of the machine find out.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits until QEMU has made the machine: before, it may find that it cannot.
    fn wait_until_it_is_up(&self, qemu: &Qemu) -> Result<(), Error> {
        let found = self.shared.wait_until(None, |state| {
            (state.up || state.exit.is_some()).then(|| (state.version, state.up, state.exit.clone()))
        });
        match found {
            Some((Some(version), true, _)) => qemu.accept(version).map(drop),
            Some((version, false, Some(exit))) => {
                // That QEMU is too old, or is none, says more than how it failed.
                match version {
                    Some(version) => qemu.accept(version)?,
                    None => qemu.version()?,
                };
                Err(Error::NotStarted(exit))
            }
            _ => Ok(()),
        }
    }

    /// Lets a burst of clients wait at the forwards of QEMU's user network. Where that is not allowed, fewer wait.
    fn let_clients_wait(&self) {
        let is_tcp = |forward: &Forward| forward.protocol == Protocol::Tcp;
        if let (Link::User(_), Some(process)) = (&self.spec.link, self.process()) {
            if self.spec.forwards.iter().any(is_tcp) {
                let _ = backlog::widen(&self.shared.process, process.pid);
            }
        }
    }

    /// Waits until the guest has ended; its console is complete then, unless the machine was stopped and nobody
    /// reads the console.
    #[must_use]
    pub fn wait(&self) -> GuestExit {
        let exit = self.shared.wait_until(None, |state| state.exit.clone());
        exit.unwrap_or_else(|| unreachable!("without a deadline the wait ends with an exit"))
    }

    /// Waits until the guest has ended; `None` if it has not when the time is up.
    #[must_use]
    pub fn wait_for(&self, time: Duration) -> Option<GuestExit> {
        let deadline = Instant::now().checked_add(time);
        self.shared.wait_until(deadline, |state| state.exit.clone())
    }

    /// Waits until the guest has reached `name`.
    ///
    /// # Errors
    /// The guest ended before, or the time is up.
    pub fn wait_mark(&self, name: &str, time: Duration) -> Result<Mark, Error> {
        let deadline = Instant::now().checked_add(time);
        let found = self.shared.wait_until(deadline, |state| {
            let mark = state.records.iter().find_map(|received| match &received.record {
                Record::Mark { name: reached, tsc } if reached == name => Some(Mark {
                    at: received.at,
                    tsc: *tsc,
                }),
                _ => None,
            });
            match (mark, &state.exit) {
                (Some(mark), _) => Some(Ok(mark)),
                (None, Some(exit)) => Some(Err(exit.clone())),
                (None, None) => None,
            }
        });
        match found {
            Some(Ok(mark)) => Ok(mark),
            Some(Err(exit)) => Err(Error::EndedBefore {
                mark: name.to_owned(),
                exit,
            }),
            None => Err(Error::NotReached {
                mark: name.to_owned(),
                time,
            }),
        }
    }

    /// All records of the control channel so far.
    #[must_use]
    pub fn records(&self) -> Vec<Received> {
        self.shared.state().records.clone()
    }

    /// What the guest has written to its console so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn console(&self) -> Result<Vec<u8>, Error> {
        let read = || log::Reader::open(&self.folder)?.entries();
        let entries = read().map_err(Error::io("read", self.folder.join(log::FILE)))?;
        Ok(entries.iter().flat_map(log::Entry::raw).collect())
    }

    /// Stops the machine, with [`STOP_PATIENCE`].
    pub fn stop(&self) -> GuestExit {
        self.stop_within(STOP_PATIENCE);
        self.wait()
    }

    /// Stops the machine: asks the guest to end, if it hears that, and waits; then tells QEMU to go, and waits; then kills
    /// it.
    pub fn stop_within(&self, patience: Duration) -> Stopped {
        if self.shared.ask_to_stop() && self.wait_for(patience).is_some() {
            return Stopped::ByItself;
        }
        self.shared.quit();
        match self.wait_for(QUIT_DEADLINE) {
            Some(GuestExit::Stopped) => Stopped::Quit,
            Some(_) => Stopped::ByItself,
            None => {
                self.kill();
                Stopped::Killed
            }
        }
    }

    /// Kills QEMU at once.
    pub fn kill(&self) -> GuestExit {
        self.shared.kill();
        self.wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.shared.kill();
        if let Some(supervisor) = self.supervisor.take() {
            // It panics with us or not at all; either way it is over.
            let _ = supervisor.join();
        }
        if let Some(instance) = self.instance.take() {
            // What cannot be removed is removed by the next run of this name.
            let _ = instance.remove();
        }
    }
}
