//! A machine that runs: from a plan to how the guest ended.
//!
//! ```text
//! plan() -> Launch -- start() --> Machine -- wait(), stop() --> GuestExit
//!                      |            |
//!                      |            +- dropped: QEMU is killed, the instance's folder removed
//!                      +- fails: the folder is removed
//! ```
//!
//! One thread starts QEMU, waits for it, and then judges how the guest ended; it must not end before QEMU does
//! (see [`crate::process`]). Three more read console, control channel and monitor until QEMU closes them, so that
//! nothing is lost however fast a guest ends.
//!
//! Failures: QEMU ends early or is killed (the guest's exit says so, with QEMU's words), the launcher is killed
//! (QEMU dies with it, the folder is cleaned up by the next run of that name), the console's reader goes away
//! (the machine is stopped, as a broken pipe ends any program).

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hermitage_boot::Record;
use hermitage_boot::control::MAX_LINE;

use crate::command_line::{CommandLine, Sockets, file};
use crate::error::Error;
use crate::exit::{Evidence, GuestExit};
use crate::instance::Instance;
use crate::monitor::{self, Monitor};
use crate::process::{self, Handle};
use crate::spec::MachineSpec;

/// How long QEMU may take to go when it was told to, before it is killed: it has little to write.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);

/// How long the rest of the console of a stopped machine is waited for.
const CONSOLE_PATIENCE: Duration = Duration::from_millis(500);

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
}

/// What the threads of a machine share.
#[derive(Debug)]
struct Shared {
    process: Handle,
    monitor: Monitor,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Received>,
    stopped: bool,
    /// Whether all of the console was handed on.
    console_done: bool,
    exit: Option<GuestExit>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No thread leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `found` gives something, or the deadline has passed.
    fn wait_until<T>(
        &self,
        deadline: Option<Instant>,
        mut found: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(value) = found(&state) {
                return Some(value);
            }
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Asks QEMU to go.
    fn quit(&self) {
        self.change(|state| state.stopped = true);
        // Where the socket is closed, QEMU is gone already.
        let _ = self.monitor.quit();
    }
}

/// Starts a machine: `program` with the command line that follows from `spec`, in the instance's folder, where
/// its files lie ready.
pub(crate) fn start(
    program: PathBuf,
    spec: MachineSpec,
    instance: Instance,
    console: Box<dyn Write + Send>,
) -> Result<Machine, Error> {
    let fault = |step| move |source| Error::Process { step, source };
    let (control, control_remote) = UnixStream::pair().map_err(fault("make a socket"))?;
    let (events, monitor_remote) = UnixStream::pair().map_err(fault("make a socket"))?;
    let commands = events.try_clone().map_err(fault("make a socket"))?;
    let remotes: [OwnedFd; 2] = [control_remote.into(), monitor_remote.into()];
    let sockets = Sockets {
        control: remotes[0].as_raw_fd(),
        monitor: remotes[1].as_raw_fd(),
    };
    let command_line = CommandLine::new(&spec, sockets);
    let log = instance.folder().join(file::QEMU);
    let errors = File::create(&log).map_err(Error::io("create", &log))?;
    let monitor = Monitor::open(commands).map_err(fault("talk to QEMU"))?;

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
    })
}

/// What a run of QEMU needs.
struct Run {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    errors: File,
    remotes: [OwnedFd; 2],
    console: Box<dyn Write + Send>,
    control: UnixStream,
    events: UnixStream,
    monitor: Monitor,
}

/// Runs QEMU to its end, and judges it.
fn supervise(run: Run, started: &SyncSender<io::Result<Arc<Shared>>>) {
    let spawned = process::spawn(
        &run.program,
        &run.arguments,
        &run.folder,
        run.errors,
        &run.remotes,
    );
    // QEMU has its own copies now; ours would keep the sockets open when it ends.
    drop(run.remotes);
    let (mut child, process) = match spawned.and_then(|child| Ok((Handle::of(&child)?, child))) {
        Ok((process, child)) => (child, process),
        Err(error) => {
            // The receiver waits for this one message.
            let _ = started.send(Err(error));
            return;
        }
    };
    let shared = Arc::new(Shared {
        process,
        monitor: run.monitor,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    if let Some(output) = child.stdout.take() {
        let shared = Arc::clone(&shared);
        // Not joined: whoever reads the console may have stopped to, and then it does not end.
        thread::spawn(move || {
            copy_console(output, run.console, &shared);
            shared.change(|state| state.console_done = true);
        });
    }
    let _ = started.send(Ok(Arc::clone(&shared)));

    let (status, shutdown) = thread::scope(|scope| {
        let events = scope.spawn(|| monitor::read_events(run.events));
        scope.spawn(|| read_control(run.control, &shared));
        let status = child.wait();
        (status, events.join().unwrap_or_default())
    });
    // However slow its reader is, a console is handed on to its end; but nobody waits for it who wants to stop.
    shared.wait_until(None, |state| (state.console_done || state.stopped).then_some(()));
    let patience = Instant::now().checked_add(CONSOLE_PATIENCE);
    shared.wait_until(patience, |state| state.console_done.then_some(()));
    let words = fs::read(run.folder.join(file::QEMU)).unwrap_or_default();
    shared.change(|state| {
        let end = state
            .records
            .iter()
            .rev()
            .find_map(|received| match &received.record {
                Record::End(end) => Some(end.clone()),
                _ => None,
            });
        let evidence = Evidence {
            end,
            code: status.as_ref().ok().and_then(std::process::ExitStatus::code),
            signal: status.as_ref().ok().and_then(std::process::ExitStatus::signal),
            stopped: state.stopped,
            shutdown,
            words: String::from_utf8_lossy(&words).into_owned(),
        };
        state.exit = Some(evidence.judge());
    });
}

/// Hands the console on, byte for byte.
fn copy_console(mut output: impl Read, mut console: Box<dyn Write + Send>, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let mut broken = false;
    loop {
        let length = match output.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if broken {
            continue;
        }
        let written = console
            .write_all(&buffer[..length])
            .and_then(|()| console.flush());
        if written.is_err() {
            broken = true;
            shared.quit();
        }
    }
}

/// Collects the records of the control channel.
fn read_control(stream: UnixStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let mut at_line_start = true;
    loop {
        line.clear();
        // A guest can write what it likes; no line may fill our memory.
        match (&mut reader).take(MAX_LINE as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let at = Instant::now();
        // A line that is too long, or cut off by the end of the guest, could be taken for another.
        let whole = at_line_start && line.ends_with(b"\n");
        at_line_start = line.ends_with(b"\n");
        let text = std::str::from_utf8(&line).ok().filter(|_| whole);
        if let Some(record) = text.and_then(Record::parse) {
            shared.change(|state| state.records.push(Received { at, record }));
        }
    }
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
