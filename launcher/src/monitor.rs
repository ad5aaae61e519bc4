//! QEMU's machine protocol (QMP), as much of it as we need: three commands, one event.
//!
//! The types of the whole protocol (crate `qapi-qmp`) would cost 20 s of build for these.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// Why QEMU shut the machine down, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// The guest reset the machine; a triple fault does so, too.
    Reset,
    /// The guest switched the machine off.
    PowerOff,
}

/// Our end of the monitor's socket.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: UnixStream,
}

/// When the guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// As soon as QEMU is up.
    AtOnce,
    /// When somebody else says so.
    Held,
}

impl Monitor {
    /// Starts the protocol, and then the guest. QEMU reads this when it is up; nothing is waited for.
    pub(crate) fn open(stream: UnixStream, start: Start) -> io::Result<Self> {
        let monitor = Self { stream };
        monitor.execute("qmp_capabilities")?;
        // Before this QEMU tells of no events; a guest that ran already could end unseen.
        if start == Start::AtOnce {
            monitor.execute("cont")?;
        }
        Ok(monitor)
    }

    /// Ends QEMU in order: it writes its caches and goes.
    pub(crate) fn quit(&self) -> io::Result<()> {
        self.execute("quit")
    }

    fn execute(&self, command: &str) -> io::Result<()> {
        let line = json!({ "execute": command }).to_string() + "\n";
        (&self.stream).write_all(line.as_bytes())
    }
}

/// Reads what QEMU says until it ends; gives why it shut the machine down.
pub(crate) fn read_events(stream: UnixStream) -> Option<Shutdown> {
    let mut shutdown = None;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        shutdown = shutdown.or_else(|| parse_shutdown(&line));
    }
    shutdown
}

fn parse_shutdown(line: &str) -> Option<Shutdown> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["event"] != "SHUTDOWN" {
        return None;
    }
    match message["data"]["reason"].as_str()? {
        "guest-reset" => Some(Shutdown::Reset),
        "guest-shutdown" => Some(Shutdown::PowerOff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_reset_from_a_power_off() {
        let event = |reason: &str| {
            let data = json!({ "guest": true, "reason": reason });
            json!({ "timestamp": { "seconds": 1, "microseconds": 2 }, "event": "SHUTDOWN", "data": data })
                .to_string()
        };
        assert_eq!(parse_shutdown(&event("guest-reset")), Some(Shutdown::Reset));
        assert_eq!(parse_shutdown(&event("guest-shutdown")), Some(Shutdown::PowerOff));
        assert_eq!(parse_shutdown(&event("host-qmp-quit")), None);
        for other in ["", "{", "[]", r#"{"return": {}}"#, r#"{"event": "RESUME"}"#] {
            assert_eq!(parse_shutdown(other), None, "{other}");
        }
    }
}
