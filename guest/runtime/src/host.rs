//! On the host the request is SIGTERM.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// SIGTERM ends the process.
    Untaken,
    /// It is waited for.
    Taken,
    /// It came.
    Requested,
}

static STATE: Mutex<State> = Mutex::new(State::Untaken);
static CHANGED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn take() -> io::Result<()> {
    let mut state = state();
    if *state == State::Untaken {
        let mut signals = Signals::new([SIGTERM])?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if signals.forever().next().is_some() {
                *self::state() = State::Requested;
                CHANGED.notify_all();
            }
        })?;
        *state = State::Taken;
    }
    Ok(())
}

pub(crate) fn requested() -> bool {
    *state() == State::Requested
}

pub(crate) fn wait() {
    let waiting = CHANGED.wait_while(state(), |state| *state != State::Requested);
    drop(waiting.unwrap_or_else(PoisonError::into_inner));
}
