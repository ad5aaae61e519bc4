//! What takes long, or many: fifty clients for a minute, fifty machines at once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use hermitage_boot::control::mark;
use launcher::Machine;
use launcher::command_line::file;
use serde::Serialize;

use super::guest::{Bench, server_of};
use super::load::{self, Load};
use super::report::percentile;
use super::resident::resident;
use super::{DEADLINE, WARM_UP};
use crate::commands::bench::probe;
use crate::failure::Failure;
use crate::printer::Printer;

/// Clients of a soak.
const CLIENTS: u32 = 50;

/// Parts of a soak; memory is looked at after each.
const PARTS: u32 = 4;

/// How long one of many machines may take to answer: they share the host's CPUs.
const CROWD_DEADLINE: Duration = Duration::from_secs(120);

/// What a soak showed.
#[derive(Debug, Serialize)]
pub(super) struct Soak {
    seconds: u64,
    clients: u32,
    requests: usize,
    errors: Vec<String>,
    /// QEMU's resident megabytes after each part.
    resident_mb: Vec<f64>,
}

/// Loads one machine for a long time.
pub(super) fn soak(bench: &Bench, seconds: u64, printer: &Printer) -> Result<Soak, Failure> {
    let machine = bench.start(&format!("soak-{}", std::process::id()))?;
    machine.wait_mark(mark::LISTEN, DEADLINE)?;
    let server = server_of(&machine)?;
    let part = Duration::from_secs(seconds) / PARTS;
    let mut soak = Soak {
        seconds,
        clients: CLIENTS,
        requests: 0,
        errors: Vec::new(),
        resident_mb: Vec::new(),
    };
    for number in 1..=PARTS {
        printer.note(&format!("part {number} of {PARTS}"));
        let load = Load {
            connections: CLIENTS,
            keep_alive: true,
        };
        let warm_up = if number == 1 { WARM_UP } else { Duration::ZERO };
        let seen = load::run(server, load, warm_up, part)
            .map_err(|error| Failure::Failed(format!("cannot load the guest: {error}")))?;
        soak.requests += seen.latencies.len();
        soak.errors.extend(seen.errors);
        soak.resident_mb.push(megabytes(&machine));
    }
    Ok(soak)
}

impl Soak {
    pub(super) fn text(&self) -> String {
        let memory: Vec<_> = self.resident_mb.iter().map(|size| format!("{size:.1}")).collect();
        let mut text = format!(
            "{} clients for {} s: {} requests, {} errors; QEMU's memory {} MB\n",
            self.clients,
            self.seconds,
            self.requests,
            self.errors.len(),
            memory.join(", ")
        );
        for error in &self.errors {
            text += &format!("{error}\n");
        }
        text
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }
}

/// What many machines at once showed.
#[derive(Debug, Serialize)]
pub(super) struct Crowd {
    machines: usize,
    /// From the first launch to the last answer.
    all_answered_ms: f64,
    /// From a machine's launch to its answer.
    p50_ms: f64,
    p99_ms: f64,
    /// QEMU's resident size, the mean of all.
    resident_mb: f64,
    /// What an instance's own disk takes on the host's, the mean of all.
    overlay_kb: f64,
}

/// Starts machines as fast as it goes, then waits for an answer of each.
pub(super) fn crowd(bench: &Bench, count: u32) -> Result<Crowd, Failure> {
    let begin = Instant::now();
    let machines: Vec<Machine> = (0..count)
        .map(|number| bench.start(&format!("crowd-{}-{number}", std::process::id())))
        .collect::<Result<_, _>>()?;
    let mut times = Vec::new();
    for machine in &machines {
        machine.wait_mark(mark::LISTEN, CROWD_DEADLINE)?;
        let over = || machine.wait_for(Duration::ZERO).is_some();
        let answered = probe::first_answer(server_of(machine)?, begin + CROWD_DEADLINE, over)
            .ok_or_else(|| Failure::Failed(format!("`{}` did not answer", machine.spec().name)))?;
        times.push(answered - machine.started());
    }
    let all_answered_ms = begin.elapsed().as_secs_f64() * 1e3;
    let mean = |of: fn(&Machine) -> f64| machines.iter().map(of).sum::<f64>() / machines.len() as f64;
    let (resident_mb, overlay_kb) = (mean(megabytes), mean(overlay));
    times.sort_unstable();
    Ok(Crowd {
        machines: machines.len(),
        all_answered_ms,
        p50_ms: percentile(&times, 50),
        p99_ms: percentile(&times, 99),
        resident_mb,
        overlay_kb,
    })
}

impl Crowd {
    pub(super) fn text(&self) -> String {
        format!(
            "{} machines at once: all have answered after {:.0} ms; from a launch to its answer p50 {:.0} ms, p99 \
             {:.0} ms; each takes {:.1} MB of memory, with QEMU's own, and {:.0} KB for its disk\n",
            self.machines, self.all_answered_ms, self.p50_ms, self.p99_ms, self.resident_mb, self.overlay_kb
        )
    }
}

/// Kilobytes that the instance's disk takes.
fn overlay(machine: &Machine) -> f64 {
    let disk = fs::metadata(machine.folder().join(file::DISK));
    // POSIX counts in blocks of 512 bytes.
    disk.map_or(f64::NAN, |disk| disk.blocks() as f64 * 512.0 / 1e3)
}

fn megabytes(machine: &Machine) -> f64 {
    resident(machine.folder()).map_or(f64::NAN, |bytes| bytes as f64 / 1e6)
}
