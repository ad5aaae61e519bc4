//! What is known of an instance, as JSON says it and tables show it.

use std::collections::BTreeMap;
use std::time::Duration;

use launcher::instance::{Phase, Seen};
use serde::Serialize;

use crate::workspace;

/// What is known of an instance.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) role: String,
    pub(super) state: &'static str,
    pub(super) address: Option<String>,
    pub(super) hears_stop: bool,
    pub(super) mac: Option<String>,
    pub(super) forwards: Vec<String>,
    pub(super) memory_mib: u32,
    pub(super) cpus: u8,
    pub(super) created: String,
    pub(super) started: Option<String>,
    pub(super) ended: Option<String>,
    pub(super) exit: Option<launcher::exit::End>,
    pub(super) restarts: u32,
    pub(super) restart_policy: String,
    pub(super) remove: bool,
    pub(super) qemu_pid: Option<u32>,
    pub(super) supervisor_pid: Option<u32>,
    pub(super) folder: String,
    /// What the user noted; of a key that is there twice, the last.
    pub(super) labels: BTreeMap<String, String>,
    /// Seconds since it was created.
    pub(super) age: u64,
}

impl Facts {
    pub(crate) fn of(seen: &Seen) -> Self {
        let Seen {
            record,
            state,
            name,
            folder,
        } = seen;
        let request = &record.request;
        let supervised = state.phase.is_supervised();
        // What was chosen at the last start; before it, what was asked for.
        let forwards = match state.phase {
            Phase::Created => &request.forwards,
            _ => &state.forwards,
        };
        Self {
            name: name.to_string(),
            image: workspace::shown(&request.image).display().to_string(),
            role: record.role.clone(),
            state: state.phase.word(),
            address: state.address.clone(),
            hears_stop: state.hears_stop,
            mac: request.mac.map(|mac| mac.to_string()),
            forwards: forwards.iter().map(ToString::to_string).collect(),
            memory_mib: request.memory.mib(),
            cpus: request.cpus.get(),
            created: record.created.to_string(),
            started: state.started.map(|time| time.to_string()),
            ended: state.ended.map(|time| time.to_string()),
            exit: state.end.clone(),
            restarts: state.restarts,
            restart_policy: record.options.restart.to_string(),
            remove: record.options.remove,
            qemu_pid: state.qemu.as_ref().map(|process| process.pid),
            supervisor_pid: state
                .supervisor
                .as_ref()
                .filter(|_| supervised)
                .map(|process| process.pid),
            folder: folder.display().to_string(),
            labels: request
                .labels
                .iter()
                .map(|label| (label.key.clone(), label.value.clone()))
                .collect(),
            age: record.created.age().as_secs(),
        }
    }

    /// The exit code, with the reason where it is not the guest's own exit.
    pub(super) fn exit(&self) -> String {
        match &self.exit {
            Some(end) if end.reason == "exit" => end.code.to_string(),
            Some(end) => format!("{} {}", end.code, end.reason),
            None => String::new(),
        }
    }
}

/// A duration in its largest unit, as a table has room for.
pub(super) fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_its_largest_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (90_000, "25h"),
            (172_800, "2d"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
