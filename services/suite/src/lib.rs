//! What the tests of the example application share: services as processes, requests, pictures.
//!
//! The contract's tests can be pointed at other servers: `SUITE_KV`, `SUITE_DB`, `SUITE_STORAGE`, `SUITE_MASTER`,
//! `SUITE_UI` are URLs (`http://10.0.0.1:9001`) of services that run; those that are not named are started.
//!
//! - [`process`]: a service that was started, and what it prints;
//! - [`stack`]: all services, or some;
//! - [`ask`]: requests and replies;
//! - [`picture`]: pictures, judged by ImageMagick;
//! - [`fake`]: a service that a test makes up.
//!
//! This is code of tests: whatever is not as expected panics.

pub mod ask;
pub mod fake;
pub mod picture;
pub mod process;
pub mod stack;

use std::thread;
use std::time::{Duration, Instant};

/// Time for whatever is waited for; most takes milliseconds on a quiet machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something holds, and gives what it gave.
///
/// # Panics
/// It does not within [`DEADLINE`].
pub fn wait_for<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(begin.elapsed() < DEADLINE, "waited for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
