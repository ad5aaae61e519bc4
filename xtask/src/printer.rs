//! The one place that prints. stdout is data; stderr is everything else.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::tcgetwinsize;

use crate::failure::{Failure, causes};
use crate::table::Table;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors alone.
    Quiet,
    /// What a user wants to know.
    Normal,
    /// The commands that are run and the guest's boot log, too.
    Verbose,
}

/// Decides what is printed, and how.
#[derive(Debug)]
pub(crate) struct Printer {
    verbosity: Verbosity,
}

impl Printer {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }

    /// How much is said.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// A line about progress or a decision, on stderr, unless quiet.
    pub(crate) fn note(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            say(text);
        }
    }

    /// A line for who asked for more, on stderr.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbosity >= Verbosity::Verbose {
            say(text);
        }
    }

    /// A line that is always printed, on stderr: how something ended that was expected to end otherwise.
    pub(crate) fn warn(&self, text: &str) {
        say(text);
    }

    /// Data, on stdout. A reader that has seen enough may close it.
    pub(crate) fn data(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// A table, on stdout; cut to fit, if that is a terminal. Gives whether somebody reads it.
    pub(crate) fn table<const N: usize>(&self, table: Table<N>) -> bool {
        let size = io::stdout().is_terminal().then(|| tcgetwinsize(io::stdout()));
        let table = match size {
            // Some terminals say that they have no columns.
            Some(Ok(size)) if size.ws_col > 0 => table.within(usize::from(size.ws_col)),
            _ => table,
        };
        self.bytes(table.to_string().as_bytes())
    }

    /// Whether stdout shows colours: a terminal, and nobody who wants none (<https://no-color.org>).
    pub(crate) fn has_colours(&self) -> bool {
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// Bytes, on stdout. Gives whether somebody reads them.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> bool {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).is_ok()
    }

    /// Data as JSON, on stdout.
    pub(crate) fn json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.data(&format!("{text}\n")),
            Err(error) => self.warn(&format!("cannot write JSON: {error}")),
        }
    }

    /// An event as JSON, on a line of stdout.
    pub(crate) fn json_line(&self, value: &impl serde::Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.data(&format!("{text}\n")),
            Err(error) => self.warn(&format!("cannot write JSON: {error}")),
        }
    }

    /// An error with all its causes, and what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        if matches!(failure, Failure::Said(_)) {
            return;
        }
        let mut text = format!("error: {failure}");
        for cause in causes(failure) {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
        if let Some(hint) = failure.hint() {
            text.push_str(&format!("\n  hint: {hint}"));
        }
        say(&text);
    }
}

/// A line on stderr. Its reader, too, may have seen enough; `eprintln!` would panic then, in the middle of the work.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Calls `then` when the reader of stdout has gone: a pipe's, or a terminal. Who waits for what is to be printed would
/// learn of it when there is something, and that may be never.
pub(crate) fn when_unread(then: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let stdout = io::stdout();
        loop {
            // These come unasked, and nothing else is of interest.
            let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => return then(),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
}

/// Ends this process when nobody reads stdout any more, as if all had been read: for commands that change nothing.
pub(crate) fn end_when_unread() {
    when_unread(|| std::process::exit(0));
}
