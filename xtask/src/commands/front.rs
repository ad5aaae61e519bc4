//! What runs in front: until it ends by itself, or is told to, or nobody reads what it prints.

use std::io::{self, Write};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::raise;

use crate::failure::Failure;
use crate::printer;

/// The signals that end what runs in front, from here on: none finds the default action, which would leave half of it.
pub(crate) struct Front(Signals);

impl Front {
    /// Takes them over.
    pub(crate) fn take() -> Result<Self, Failure> {
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::Failed(format!("cannot watch for Ctrl-C: {error}")))?;
        Ok(Self(signals))
    }

    /// Waits by `wait`; at the first signal calls `stop`, at a second one `kill`. Gives the first. That nobody reads stdout
    /// any more is a hang-up.
    pub(crate) fn wait<T>(
        mut self,
        wait: impl FnOnce() -> T,
        stop: impl Fn() + Sync,
        kill: impl Fn() + Sync,
    ) -> (T, Option<i32>) {
        printer::when_unread(hang_up);
        let handle = self.0.handle();
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut pending = self.0.forever();
                let first = pending.next()?;
                thread::scope(|scope| {
                    scope.spawn(&stop);
                    // A terminal that is closed may say so twice, and nobody is in a hurry then.
                    if pending.any(|signal| signal != SIGHUP) {
                        kill();
                    }
                });
                Some(first)
            });
            let waited = wait();
            handle.close();
            (waited, watcher.join().unwrap_or_default())
        })
    }
}

/// Ends what runs in front, as a terminal does that is closed.
pub(crate) fn hang_up() {
    // It fails for signals that may not be raised, which this one may.
    let _ = raise(SIGHUP);
}

/// What a guest in front writes to: where nobody takes it any more, the guest is asked to stop, and may say what it likes.
pub(crate) struct Console<W> {
    output: W,
    is_read: bool,
}

impl<W: Write> Console<W> {
    pub(crate) fn new(output: W) -> Self {
        Self {
            output,
            is_read: true,
        }
    }
}

impl<W: Write> Write for Console<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = |output: &mut W| output.write_all(bytes).and_then(|()| output.flush());
        if self.is_read && write(&mut self.output).is_err() {
            self.is_read = false;
            hang_up();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
