//! Where a guest's console goes: to its log, to those who are attached, and to the one who runs it in front.
//!
//! Only the last may slow the guest down, as a pipe's reader does any program. Who is attached and does not keep up
//! misses a part, and is told so; the log never waits.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::log;

/// How long a guest may be silent in the middle of a line before what it wrote of it is logged.
const SETTLED: Duration = Duration::from_millis(100);

/// The outputs of one instance's console, over all its restarts.
pub(crate) struct Outputs {
    log: Mutex<log::Writer>,
    attached: Mutex<Vec<Attached>>,
    front: Mutex<Box<dyn Write + Send>>,
}

/// Somebody who is attached.
struct Attached {
    stream: UnixStream,
    /// Bytes that could not be sent since the last that could.
    missed: usize,
}

impl Outputs {
    /// Outputs with a log in `folder`, and `front` as the one who runs it in front.
    pub(crate) fn new(folder: &Path, limits: log::Limits, front: Box<dyn Write + Send>) -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::new(log::Writer::new(folder, limits)),
            attached: Mutex::default(),
            front: Mutex::new(front),
        })
    }

    /// The instance's folder has another path.
    pub(crate) fn moved(&self, folder: &Path) {
        lock(&self.log).moved(folder);
    }

    /// Sends everything from here on to `stream`, too.
    pub(crate) fn attach(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        lock(&self.attached).push(Attached { stream, missed: 0 });
        Ok(())
    }

    /// Hangs up on all who are attached.
    pub(crate) fn detach_all(&self) {
        lock(&self.attached).clear();
    }

    /// Copies a console to its end. `broken` is called when the one in front does not take it any more.
    pub(crate) fn copy(&self, mut console: impl Read + AsFd, broken: impl FnOnce()) {
        let mut broken = Some(broken);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if lock(&self.log).is_open() && !is_readable_soon(&console) {
                lock(&self.log).settle();
            }
            let length = match console.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let bytes = &buffer[..length];
            lock(&self.log).write(bytes);
            lock(&self.attached).retain_mut(|attached| attached.send(bytes));
            if broken.is_some() {
                let mut front = lock(&self.front);
                let written = front.write_all(bytes).and_then(|()| front.flush());
                if written.is_err() {
                    broken.take().into_iter().for_each(|broken| broken());
                }
            }
        }
        lock(&self.log).settle();
    }
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outputs").finish_non_exhaustive()
    }
}

impl Attached {
    /// Sends what can be sent without waiting. Gives whether there is still somebody.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if self.missed > 0 {
            let notice = format!("\n[{} bytes were left out: they came too fast]\n", self.missed);
            match self.stream.write(notice.as_bytes()) {
                Ok(_) => self.missed = 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.missed = self.missed.saturating_add(bytes.len());
                    return true;
                }
                Err(_) => return false,
            }
        }
        match self.stream.write(bytes) {
            Ok(sent) => self.missed = bytes.len() - sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.missed = bytes.len(),
            Err(_) => return false,
        }
        true
    }
}

/// Waits a little until there is something to read.
fn is_readable_soon(console: &impl AsFd) -> bool {
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: SETTLED.as_nanos() as i64,
    };
    let mut fds = [PollFd::new(console, PollFlags::IN)];
    // What fails here fails in the read that follows.
    !matches!(poll(&mut fds, Some(&time)), Ok(0))
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody leaves an output half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_does_not_read_holds_up_nobody_and_is_told_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(folder.path(), log::Limits::default(), Box::new(io::sink()));
        let (console, guest) = UnixStream::pair().unwrap();
        let (attached, mut slow) = UnixStream::pair().unwrap();
        outputs.attach(attached).unwrap();
        let copier = {
            let outputs = Arc::clone(&outputs);
            std::thread::spawn(move || outputs.copy(console, || ()))
        };
        let line = [b'x'; 1023];
        let write = || {
            (&guest).write_all(&line).unwrap();
            (&guest).write_all(b"\n").unwrap();
        };
        // Far more than a socket holds; it would be waited for here if anything waited.
        (0..4096).for_each(|_| write());
        slow.set_nonblocking(true).unwrap();
        let mut seen = Vec::new();
        // Until the notice is there: it comes with the first write for which there is room again.
        while !String::from_utf8_lossy(&seen).contains("bytes were left out") {
            let _ = slow.read_to_end(&mut seen);
            write();
        }
        drop(guest);
        copier.join().unwrap();
        let entries = log::Reader::open(folder.path()).unwrap().entries().unwrap();
        assert!(entries.len() > 4096 && entries.iter().all(|entry| entry.text == line));
    }

    #[test]
    fn a_prompt_is_logged_while_the_guest_waits() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(folder.path(), log::Limits::default(), Box::new(io::sink()));
        let (console, mut guest) = UnixStream::pair().unwrap();
        let copier = {
            let outputs = Arc::clone(&outputs);
            std::thread::spawn(move || outputs.copy(console, || ()))
        };
        guest.write_all(b"name? ").unwrap();
        let mut reader = log::Reader::open(folder.path()).unwrap();
        let entry = loop {
            if let Some(entry) = reader.entries().unwrap().pop() {
                break entry;
            }
            std::thread::yield_now();
        };
        assert_eq!((entry.text.as_slice(), entry.ends_line), (&b"name? "[..], false));
        drop(guest);
        copier.join().unwrap();
    }
}
