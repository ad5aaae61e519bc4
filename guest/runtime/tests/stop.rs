//! A process of its own, since a signal is the whole process's.
#![cfg(unix)]

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use hermitage_runtime::{Stop, on_stop};

#[test]
fn sigterm_is_the_request_to_stop() {
    let stop = Stop::take().unwrap();
    let (sender, receiver) = channel();
    on_stop(move || sender.send(()).unwrap()).unwrap();
    assert!(!stop.requested());
    let this = std::process::id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &this])
            .status()
            .unwrap()
            .success()
    );
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(stop.requested());
    stop.wait();
}
