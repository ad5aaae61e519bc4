//! What a service asks of the machine that it runs in: the same functions for a guest and for a process of the host.
//!
//! A service is asked to stop by its launcher's `stop`, or on the host by SIGTERM. If it does nothing about that, it ends
//! at once, with code 143. A service that has something to finish takes the request over:
//!
//! ```no_run
//! # fn finish_what_is_begun() {}
//! hermitage_runtime::on_stop(|| {
//!     finish_what_is_begun();
//!     std::process::exit(0);
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! It has as much time as the launcher gives it (`stop -t`); then it is killed.
//!
//! What is to outlive the machine is kept on a [`Volume`], or in files, in a `folder` on one.

#[cfg(feature = "redb")]
pub mod folder;
#[cfg(feature = "redb")]
pub mod sum;
#[cfg_attr(target_os = "hermit", path = "guest.rs")]
#[cfg_attr(not(target_os = "hermit"), path = "host.rs")]
mod system;
pub mod volume;

pub use volume::Volume;

use std::io;
use std::thread;

/// Stack of the thread that [`on_stop`] starts: in a guest stacks are memory that is taken.
const STACK: usize = 128 * 1024;

/// The request to stop, taken over from the system: from now on it is the program's to act on.
#[derive(Clone, Copy, Debug)]
pub struct Stop(());

impl Stop {
    /// Takes the request over. To take it again changes nothing.
    ///
    /// # Errors
    /// On the host, SIGTERM cannot be caught.
    pub fn take() -> io::Result<Self> {
        system::take()?;
        Ok(Self(()))
    }

    /// Whether the program was asked to stop.
    #[must_use]
    pub fn requested(self) -> bool {
        system::requested()
    }

    /// Returns when the program was asked to stop; the thread sleeps until then.
    pub fn wait(self) {
        system::wait();
    }
}

/// Takes the request to stop over, and calls `then` in a thread of its own when it comes. What `then` does not end goes
/// on.
///
/// # Errors
/// On the host, SIGTERM cannot be caught; the thread cannot be started.
pub fn on_stop(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let stop = Stop::take()?;
    thread::Builder::new()
        .name("stop".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            stop.wait();
            then();
        })?;
    Ok(())
}
