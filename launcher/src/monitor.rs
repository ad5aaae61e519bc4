//! QEMU's machine protocol (QMP), as much of it as we need: a few commands, a few events.
//!
//! The types of the whole protocol (crate `qapi-qmp`) would cost 20 s of build for these.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::qemu::Version;

/// Why QEMU shut the machine down, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// The guest reset the machine; a triple fault does so, too.
    Reset,
    /// The guest switched the machine off.
    PowerOff,
}

/// What QEMU says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its first words: which version it is.
    Greeting(Version),
    /// It answers: the machine is made.
    Up,
    /// The guest runs: for the first time, or again.
    Running,
    /// The guest wrote to its disk, and the host's has no room. QEMU stopped it, and does that write again when it goes
    /// on: the guest sees no error.
    DiskFull,
    /// The machine was shut down.
    Shutdown(Shutdown),
    /// What became of a command that was given a number; its words, if it failed.
    Done(u64, Result<(), String>),
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
            monitor.go_on()?;
        }
        Ok(monitor)
    }

    /// Lets the guest run.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.execute("cont")
    }

    /// Ends QEMU in order: it writes its caches and goes.
    pub(crate) fn quit(&self) -> io::Result<()> {
        self.execute("quit")
    }

    /// Gives a command a number, under which QEMU tells what became of it.
    pub(crate) fn ask(&self, number: u64, command: &str, arguments: &Value) -> io::Result<()> {
        self.send(&json!({ "execute": command, "arguments": arguments, "id": number }))
    }

    fn execute(&self, command: &str) -> io::Result<()> {
        self.send(&json!({ "execute": command }))
    }

    fn send(&self, message: &Value) -> io::Result<()> {
        // In one piece: others may write, too.
        (&self.stream).write_all((message.to_string() + "\n").as_bytes())
    }
}

/// Reads what QEMU says until it ends.
pub(crate) fn read_events(stream: UnixStream, mut take: impl FnMut(Event)) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter_map(|line| parse(&line)).for_each(&mut take);
}

fn parse(line: &str) -> Option<Event> {
    let message: Value = serde_json::from_str(line).ok()?;
    if let Some(version) = message.pointer("/QMP/version/qemu") {
        let number = |name| u32::try_from(version.get(name)?.as_u64()?).ok();
        return Some(Event::Greeting(Version {
            major: number("major")?,
            minor: number("minor")?,
        }));
    }
    if let Some(number) = message["id"].as_u64() {
        let words = message.pointer("/error/desc").map(|words| words.as_str());
        let words = words.map(|words| words.unwrap_or_default().to_owned());
        return Some(Event::Done(number, words.map_or(Ok(()), Err)));
    }
    if message.get("return").is_some() {
        return Some(Event::Up);
    }
    let data = &message["data"];
    match message["event"].as_str()? {
        "RESUME" => Some(Event::Running),
        "BLOCK_IO_ERROR" if data["nospace"] == true && data["action"] == "stop" => Some(Event::DiskFull),
        "SHUTDOWN" => match data["reason"].as_str()? {
            "guest-reset" => Some(Event::Shutdown(Shutdown::Reset)),
            "guest-shutdown" => Some(Event::Shutdown(Shutdown::PowerOff)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &Value) -> Option<Event> {
        let time = json!({ "seconds": 1, "microseconds": 2 });
        parse(&json!({ "timestamp": time, "event": name, "data": data }).to_string())
    }

    #[test]
    fn tells_a_reset_from_a_power_off() {
        let shutdown = |reason: &str| event("SHUTDOWN", &json!({ "guest": true, "reason": reason }));
        assert_eq!(shutdown("guest-reset"), Some(Event::Shutdown(Shutdown::Reset)));
        assert_eq!(
            shutdown("guest-shutdown"),
            Some(Event::Shutdown(Shutdown::PowerOff))
        );
        assert_eq!(shutdown("host-qmp-quit"), None);
        for other in ["", "{", "[]", r#"{"event": "STOP"}"#] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn reads_the_version_out_of_the_greeting() {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"},
            "capabilities": ["oob"]}}"#;
        assert_eq!(
            parse(greeting),
            Some(Event::Greeting(Version { major: 7, minor: 2 }))
        );
    }

    #[test]
    fn tells_what_became_of_a_command() {
        let refused = r#"{"id": 7, "error": {"class": "GenericError", "desc": "no"}}"#;
        assert_eq!(parse(refused), Some(Event::Done(7, Err("no".to_owned()))));
        let done = r#"{"return": {}, "id": 8}"#;
        assert_eq!(parse(done), Some(Event::Done(8, Ok(()))));
        assert_eq!(parse(r#"{"return": {}}"#), Some(Event::Up));
    }

    #[test]
    fn tells_a_full_disk_from_other_errors() {
        let data = |action: &str, nospace: bool| {
            json!({ "device": "", "node-name": "#block1", "reason": "No space left on device",
                    "operation": "write", "action": action, "nospace": nospace })
        };
        let event = |data: &Value| event("BLOCK_IO_ERROR", data);
        assert_eq!(event(&data("stop", true)), Some(Event::DiskFull));
        assert_eq!(event(&data("report", true)), None);
        assert_eq!(event(&data("stop", false)), None);
    }
}
