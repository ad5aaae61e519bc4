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
//! (QEMU dies with it, the folder is cleaned up by the next run of that name), the console's reader goes away
//! (the machine is stopped, as a broken pipe ends any program).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hermitage_boot::Record;
use hermitage_disk::lock::Lock;

use crate::command_line::{CommandLine, Descriptors, file};
use crate::error::Error;
use crate::exit::GuestExit;
use crate::instance::Instance;
use crate::monitor::{Monitor, Start};
use crate::spec::MachineSpec;
use crate::supervisor::{Run, Shared, supervise};

/// How long QEMU may take to go when it was told to, before it is killed: it has little to write.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);

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
    /// Last, since fields are dropped in order: the folder goes when all that uses it is gone.
    instance: Instance,
    _image: Lock,
}

/// Starts a machine: `program` with the command line that follows from `spec`, in the instance's folder, where
/// its files lie ready. The image's lock is held as long as the machine lives.
pub(crate) fn start(
    program: PathBuf,
    spec: MachineSpec,
    instance: Instance,
    image: Lock,
    tap: Option<OwnedFd>,
    console: Box<dyn Write + Send>,
) -> Result<Machine, Error> {
    let fault = |step| move |source| Error::Process { step, source };
    let (control, control_remote) = UnixStream::pair().map_err(fault("make a socket"))?;
    let (events, monitor_remote) = UnixStream::pair().map_err(fault("make a socket"))?;
    let commands = events.try_clone().map_err(fault("make a socket"))?;
    let mut remotes: Vec<OwnedFd> = vec![control_remote.into(), monitor_remote.into()];
    let descriptors = Descriptors {
        control: remotes[0].as_raw_fd(),
        monitor: remotes[1].as_raw_fd(),
        tap: tap.as_ref().map(AsRawFd::as_raw_fd),
    };
    remotes.extend(tap);
    let command_line = CommandLine::new(&spec, descriptors);
    let log = instance.folder().join(file::QEMU);
    let errors = File::create(&log).map_err(Error::io("create", &log))?;
    // Who debugs wants to see the first instruction: the debugger starts the guest.
    let start = if spec.gdb_port.is_some() {
        Start::Held
    } else {
        Start::AtOnce
    };
    let monitor = Monitor::open(commands, start).map_err(fault("talk to QEMU"))?;

    let run = Run {
        program,
        arguments: command_line.arguments().to_vec(),
        folder: instance.folder().to_owned(),
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
    Ok(Machine {
        spec,
        started,
        command_line,
        shared,
        supervisor: Some(supervisor),
        instance,
        _image: image,
    })
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
        self.instance.folder()
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
        let path = self.folder().join(file::CONSOLE);
        fs::read(&path).map_err(Error::io("read", path))
    }

    /// Stops the machine: tells QEMU to go, waits, then kills it.
    ///
    /// A guest that can be asked to stop by itself will be asked first; none can yet.
    pub fn stop(&self) -> GuestExit {
        self.shared.quit();
        match self.wait_for(QUIT_DEADLINE) {
            Some(exit) => exit,
            None => self.kill(),
        }
    }

    /// Kills QEMU at once.
    pub fn kill(&self) -> GuestExit {
        self.shared.change(|state| state.stopped = true);
        self.shared.process.kill();
        self.wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.shared.change(|state| state.stopped = true);
        self.shared.process.kill();
        if let Some(supervisor) = self.supervisor.take() {
            // It panics with us or not at all; either way it is over.
            let _ = supervisor.join();
        }
    }
}
