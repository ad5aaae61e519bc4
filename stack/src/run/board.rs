//! Which services are ready, for those that wait for them.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many instances of each service are not ready yet, and whether one never will be.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<String, usize>,
    failed: bool,
}

impl Board {
    /// None of these is ready; a service is there once for each of its instances.
    pub(super) fn new(services: impl Iterator<Item = String>) -> Self {
        let board = Self::default();
        for service in services {
            *board.state().waiting.entry(service).or_default() += 1;
        }
        board
    }

    /// Waits until all instances of some services are ready; one that the board does not know is. Gives `false` if that
    /// will never be.
    pub(super) fn wait_for(&self, services: &[String]) -> bool {
        let is_ready = |state: &State| {
            let left = |service| state.waiting.get(service).copied().unwrap_or(0);
            services.iter().all(|service| left(service) == 0)
        };
        let waits = |state: &mut State| !state.failed && !is_ready(state);
        let state = self.changed.wait_while(self.state(), waits);
        !state.unwrap_or_else(PoisonError::into_inner).failed
    }

    /// One more instance of a service is ready.
    pub(super) fn ready(&self, service: &str) {
        if let Some(left) = self.state().waiting.get_mut(service) {
            *left = left.saturating_sub(1);
        }
        self.changed.notify_all();
    }

    /// An instance will never be ready.
    pub(super) fn fail(&self) {
        self.state().failed = true;
        self.changed.notify_all();
    }

    /// Fails the board, should this thread panic before the guard is dropped: nobody waits for it for ever.
    pub(super) fn unless_done(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Board);

        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.fail();
                }
            }
        }
        Guard(self)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No thread leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_service_whose_thread_panics() {
        let board = &Board::new(["storage".to_owned()].into_iter());
        thread::scope(|scope| {
            let starts = scope.spawn(|| {
                let _guard = board.unless_done();
                panic!("on purpose");
            });
            assert!(!board.wait_for(&["storage".to_owned()]));
            assert!(starts.join().is_err());
        });
    }
}
