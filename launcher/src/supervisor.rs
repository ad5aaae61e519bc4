//! The threads of a running machine: QEMU's process, and what QEMU says while it runs.
//!
//! One thread, [`supervise`], starts QEMU, waits for it, and then judges how the guest ended; it must not end before
//! QEMU does (see [`process::spawn`]). Three more read console, control channel and monitor until QEMU closes them,
//! so that nothing is lost however fast a guest ends. What they find is in [`Shared`].

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hermitage_boot::Record;
use hermitage_boot::control::MAX_LINE;

use crate::command_line::file;
use crate::exit::{Evidence, GuestExit};
use crate::machine::Received;
use crate::monitor::{self, Monitor};
use crate::process::{self, Handle};

/// How long the rest of the console of a stopped machine is waited for.
const CONSOLE_PATIENCE: Duration = Duration::from_millis(500);

/// Most records that are kept of a guest: a boot has ten, and a guest that never stops writing them must not fill
/// our memory. How it ends is kept in any case.
const MAX_RECORDS: usize = 4096;

/// What the threads of a machine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) process: Handle,
    monitor: Monitor,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) records: Vec<Received>,
    pub(crate) stopped: bool,
    /// Whether all of the console was handed on.
    console_done: bool,
    pub(crate) exit: Option<GuestExit>,
}

impl State {
    fn keep(&mut self, received: Received) {
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

    /// Asks QEMU to go.
    pub(crate) fn quit(&self) {
        self.change(|state| state.stopped = true);
        // Where the socket is closed, QEMU is gone already.
        let _ = self.monitor.quit();
    }
}

/// What a run of QEMU needs.
pub(crate) struct Run {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: PathBuf,
    pub(crate) errors: File,
    pub(crate) remotes: Vec<OwnedFd>,
    pub(crate) console: Box<dyn Write + Send>,
    pub(crate) control: UnixStream,
    pub(crate) events: UnixStream,
    pub(crate) monitor: Monitor,
}

/// Runs QEMU to its end, and judges it.
pub(crate) fn supervise(run: Run, started: &SyncSender<io::Result<Arc<Shared>>>) {
    let spawned = process::spawn(
        &run.program,
        &run.arguments,
        &run.folder,
        run.errors,
        &run.remotes,
    );
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
            code: status.as_ref().ok().and_then(ExitStatus::code),
            signal: status.as_ref().ok().and_then(ExitStatus::signal),
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
