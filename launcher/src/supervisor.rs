//! The threads of a running machine: QEMU's process, and what QEMU says while it runs.
//!
//! One thread, [`supervise`], starts QEMU, waits for it, and then judges how the guest ended; it must not end before
//! QEMU does (see [`process::spawn`]). Three more read console, control channel and monitor until QEMU closes them,
//! so that nothing is lost however fast a guest ends. What they find is in [`Shared`].

mod traffic;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hermitage_boot::control::{MAX_LINE, Request};
use hermitage_boot::{Ipv4Cidr, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::console::Outputs;
use crate::exit::{Evidence, GuestExit};
use crate::machine::Received;
use crate::monitor::{self, Event, Monitor, Shutdown};
use crate::process::{self, Handle, ProcessId};
use crate::qemu::Version;
use crate::usage::Traffic;
use traffic::Heard;

/// How long the rest of the console of a stopped machine is waited for.
const CONSOLE_PATIENCE: Duration = Duration::from_millis(500);

/// How long QEMU may take for a command: what the guest has under way is ended first, on a slow disk.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// Most records that are kept of a guest: a boot has ten, and a guest that never stops writing them must not fill
/// our memory. How it ends is kept in any case.
const MAX_RECORDS: usize = 4096;

/// What the threads of a machine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) process: Handle,
    /// `None` only where `/proc` cannot be read.
    pub(crate) process_id: Option<ProcessId>,
    monitor: Monitor,
    control: UnixStream,
    /// The last number that a command had.
    numbers: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) records: Vec<Received>,
    /// QEMU's version, as soon as it has told it.
    pub(crate) version: Option<Version>,
    /// Whether QEMU has made the machine.
    pub(crate) up: bool,
    /// What changes while the guest runs.
    pub(crate) news: News,
    pub(crate) stopped: bool,
    pub(crate) killed: bool,
    shutdown: Option<Shutdown>,
    /// What the guest has said of its network card.
    traffic: Heard,
    /// What became of commands that somebody waits for.
    done: BTreeMap<u64, Result<(), String>>,
    /// Whether all of the console was handed on.
    console_done: bool,
    pub(crate) exit: Option<GuestExit>,
}

/// What changes while a guest runs, and others want to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether QEMU has stopped the guest, because the host's disk is full.
    pub(crate) disk_full: bool,
    /// The address that the guest has.
    pub(crate) address: Option<Ipv4Cidr>,
    /// Whether the guest acts on [`Request::Stop`].
    pub(crate) hears_stop: bool,
}

/// Why a machine did not do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What it said.
    pub reason: String,
    /// Whether it certainly did not; otherwise nobody knows.
    pub is_certain: bool,
}

impl Refusal {
    pub(crate) fn certain(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_certain: true,
        }
    }

    fn open(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_certain: false,
        }
    }
}

impl State {
    fn keep(&mut self, received: Received) {
        match received.record {
            Record::Address(address) => self.news.address = Some(address),
            Record::Hears(Request::Stop) => self.news.hears_stop = true,
            Record::Hears(Request::Traffic) => self.traffic.answers = true,
            // It is asked again and again: only the last answer is kept.
            Record::Traffic { received, sent } => return self.traffic.take(Traffic { received, sent }),
            _ => {}
        }
        if self.records.len() == MAX_RECORDS {
            if !matches!(received.record, Record::End(_)) {
                return;
            }
            self.records.pop();
        }
        self.records.push(received);
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // No thread leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `found` gives something, or the deadline has passed.
    pub(crate) fn wait_until<T>(
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

    /// Asks the guest to end, if it has said that it hears that. Gives whether it was asked.
    pub(crate) fn ask_to_stop(&self) -> bool {
        if !self.state().news.hears_stop {
            return false;
        }
        self.change(|state| state.stopped = true);
        (&self.control)
            .write_all(Request::Stop.to_string().as_bytes())
            .is_ok()
    }

    /// Asks QEMU to go.
    pub(crate) fn quit(&self) {
        self.change(|state| state.stopped = true);
        // Where the socket is closed, QEMU is gone already.
        let _ = self.monitor.quit();
    }

    /// Kills QEMU.
    pub(crate) fn kill(&self) {
        self.change(|state| state.killed = true);
        self.process.kill();
    }

    /// Lets a guest go on that stands still since the disk was full. If it still is, the guest stops again.
    pub(crate) fn go_on(&self) {
        // Where the socket is closed, QEMU is gone already.
        let _ = self.monitor.go_on();
    }

    /// A number that nothing else in this machine has.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives QEMU a command, and waits until it is done.
    pub(crate) fn ask_qemu(&self, command: &str, arguments: &Value) -> Result<(), Refusal> {
        let number = self.next_number();
        let asked = self.monitor.ask(number, command, arguments);
        asked.map_err(|error| Refusal::open(error.to_string()))?;
        let deadline = Instant::now().checked_add(COMMAND_PATIENCE);
        let done = self.wait_until(deadline, |state| match state.done.get(&number) {
            None if state.exit.is_some() => Some(Err(Refusal::open("QEMU has ended"))),
            done => done.cloned().map(|done| done.map_err(Refusal::certain)),
        });
        self.change(|state| {
            state.done.remove(&number);
        });
        done.unwrap_or_else(|| Err(Refusal::open(format!("no answer within {COMMAND_PATIENCE:?}"))))
    }

    fn take(&self, event: Event) {
        self.change(|state| match event {
            Event::Greeting(version) => state.version = Some(version),
            Event::Up => state.up = true,
            Event::Running => state.news.disk_full = false,
            Event::DiskFull => state.news.disk_full = true,
            Event::Done(number, done) => drop(state.done.insert(number, done)),
            Event::Shutdown(shutdown) => state.shutdown = state.shutdown.or(Some(shutdown)),
        });
    }
}

/// What a run of QEMU needs.
pub(crate) struct Run {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: PathBuf,
    /// Takes QEMU's own words.
    pub(crate) errors: File,
    pub(crate) remotes: Vec<OwnedFd>,
    pub(crate) console: Arc<Outputs>,
    pub(crate) control: UnixStream,
    pub(crate) events: UnixStream,
    pub(crate) monitor: Monitor,
}

/// Runs QEMU to its end, and judges it.
pub(crate) fn supervise(run: Run, started: &SyncSender<io::Result<Arc<Shared>>>) {
    let spawn = || {
        let errors = run.errors.try_clone()?;
        process::spawn(&run.program, &run.arguments, &run.folder, errors, &run.remotes)
    };
    let spawned = spawn();
    // QEMU has its own copies now; ours would keep the sockets open, and the tap device alive, when it ends.
    drop(run.remotes);
    let (mut child, process) = match spawned.and_then(|child| Ok((Handle::of(&child)?, child))) {
        Ok((process, child)) => (child, process),
        Err(error) => {
            // The receiver waits for this one message.
            let _ = started.send(Err(error));
            return;
        }
    };
    let control = match run.control.try_clone() {
        Ok(control) => control,
        Err(error) => {
            process.kill();
            let _ = child.wait();
            let _ = started.send(Err(error));
            return;
        }
    };
    let shared = Arc::new(Shared {
        process,
        process_id: ProcessId::of(child.id()).ok(),
        monitor: run.monitor,
        control,
        numbers: AtomicU64::new(0),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    if let Some(output) = child.stdout.take() {
        let shared = Arc::clone(&shared);
        // Not joined: whoever reads the console may have stopped to, and then it does not end.
        thread::spawn(move || {
            run.console.copy(output, || shared.quit());
            shared.change(|state| state.console_done = true);
        });
    }
    let _ = started.send(Ok(Arc::clone(&shared)));

    let status = thread::scope(|scope| {
        scope.spawn(|| monitor::read_events(run.events, |event| shared.take(event)));
        scope.spawn(|| read_control(run.control, &shared));
        child.wait()
    });
    // However slow its reader is, a console is handed on to its end; but nobody waits for it who wants to stop.
    shared.wait_until(None, |state| {
        (state.console_done || state.stopped || state.killed).then_some(())
    });
    let patience = Instant::now().checked_add(CONSOLE_PATIENCE);
    shared.wait_until(patience, |state| state.console_done.then_some(()));
    let mut words = Vec::new();
    let mut errors = run.errors;
    // Not by its path, which may be another one by now.
    let _ = errors.rewind().and_then(|()| errors.read_to_end(&mut words));
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
            code: status.as_ref().ok().and_then(ExitStatus::code),
            signal: status.as_ref().ok().and_then(ExitStatus::signal),
            stopped: state.stopped,
            killed: state.killed,
            shutdown: state.shutdown,
            words: String::from_utf8_lossy(&words).into_owned(),
        };
        state.exit = Some(evidence.judge());
    });
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
            shared.change(|state| state.keep(Received { at, record }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hermitage_boot::{GuestEnd, Reason};

    #[test]
    fn keeps_the_end_of_a_guest_that_writes_too_many_records() {
        let mut state = State::default();
        let at = Instant::now();
        for tsc in 0..10_000 {
            let name = "again".to_owned();
            state.keep(Received {
                at,
                record: Record::Mark { name, tsc },
            });
        }
        let record = Record::End(GuestEnd::because(Reason::Panic, String::new()));
        state.keep(Received {
            at,
            record: record.clone(),
        });
        assert_eq!(state.records.len(), MAX_RECORDS);
        assert_eq!(
            state.records.last().map(|received| &received.record),
            Some(&record)
        );
    }
}
