//! A network of a test's own: a namespace with a bridge. It is that of the test's thread, and goes with it and with
//! what the thread started: nothing is left on the host, however the test ends.

use std::fs;
use std::panic;
use std::process::Command;
use std::thread;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The bridge.
pub(crate) const BRIDGE: &str = "br0";

/// Its address, with its prefix.
pub(crate) const BRIDGE_ADDRESS: &str = "10.77.0.1/24";

/// Runs a story there. It needs root, and is not run, loudly, where it is not.
pub(crate) fn within(story: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: making a network namespace needs root");
        return;
    }
    let run = || {
        // SAFETY: a new network namespace, and nothing else, for this thread: no memory and no descriptor is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        ip("link set lo up");
        ip(&format!("link add {BRIDGE} type bridge"));
        ip(&format!("address add {BRIDGE_ADDRESS} dev {BRIDGE}"));
        ip(&format!("link set {BRIDGE} up"));
        story();
    };
    // A thread of its own, so that the namespace ends with it; its panic is the test's.
    let ended = thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|cause| panic::resume_unwind(cause));
}

/// Runs `ip`, and gives what it says.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names of the network devices there.
pub(crate) fn devices() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}
