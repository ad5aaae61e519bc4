//! What is said of the samples: medians of rounds, ratios to Linux.

use std::time::Duration;

use launcher::qemu::Version;
use serde::Serialize;

use super::LOADS;
use super::load::Seen;
use crate::commands::bench::linux::Linux;
use crate::commands::bench::statistics::{median, milliseconds};
use crate::table::{Align, Table};

/// What one round showed of a subject.
pub(super) struct Sample {
    /// From the launch to `main`.
    pub(super) main: Option<Duration>,
    /// From the launch to the first answer.
    pub(super) answer: Option<Duration>,
    /// From the word to the end.
    pub(super) stop: Option<Duration>,
    /// In the order of [`LOADS`].
    pub(super) seen: [Seen; LOADS.len()],
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rounds: u32,
    seconds: u64,
    qemu: String,
    linux: String,
    accelerator: &'static str,
    launch_to_main_ms: f64,
    launch_to_answer_ms: f64,
    stop_ms: f64,
    loads: Vec<Row>,
}

/// One load, on both.
#[derive(Debug, Serialize)]
struct Row {
    connections: u32,
    keep_alive: bool,
    ours: Figures,
    linux: Figures,
    /// Requests per second, ours by Linux's.
    of_linux: f64,
}

/// Medians of rounds; errors are counted over all of them.
#[derive(Debug, Serialize)]
struct Figures {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    errors: usize,
    /// What the first error was.
    error: Option<String>,
}

impl Report {
    pub(super) fn new(
        rounds: u32,
        seconds: u64,
        qemu: Version,
        linux: &Linux,
        ours: &[Sample],
        theirs: &[Sample],
    ) -> Self {
        let of =
            |time: fn(&Sample) -> Option<Duration>| median(&ours.iter().filter_map(time).collect::<Vec<_>>());
        let loads = LOADS.iter().enumerate().map(|(at, load)| {
            let (ours, linux) = (Figures::new(ours, at, seconds), Figures::new(theirs, at, seconds));
            Row {
                connections: load.connections,
                keep_alive: load.keep_alive,
                of_linux: ours.requests_per_second / linux.requests_per_second,
                ours,
                linux,
            }
        });
        Self {
            rounds,
            seconds,
            qemu: qemu.to_string(),
            linux: linux.package.clone(),
            accelerator: "tcg",
            launch_to_main_ms: of(|sample| sample.main),
            launch_to_answer_ms: of(|sample| sample.answer),
            stop_ms: of(|sample| sample.stop),
            loads: loads.collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new([
            ("connections", Align::Right),
            ("kept", Align::Left),
            ("kv, req/s", Align::Right),
            ("Linux, req/s", Align::Right),
            ("x Linux", Align::Right),
            ("p50 ms", Align::Right),
            ("Linux", Align::Right),
            ("p99 ms", Align::Right),
            ("Linux", Align::Right),
            ("errors", Align::Right),
            ("Linux", Align::Right),
        ]);
        for row in &self.loads {
            let (ours, linux) = (&row.ours, &row.linux);
            table.row([
                row.connections.to_string(),
                if row.keep_alive { "yes" } else { "no" }.to_owned(),
                format!("{:.0}", ours.requests_per_second),
                format!("{:.0}", linux.requests_per_second),
                format!("{:.2}", row.of_linux),
                format!("{:.2}", ours.p50_ms),
                format!("{:.2}", linux.p50_ms),
                format!("{:.2}", ours.p99_ms),
                format!("{:.2}", linux.p99_ms),
                ours.errors.to_string(),
                linux.errors.to_string(),
            ]);
        }
        let mut text = format!(
            "{table}\nkv: launch to main {:.0} ms, to the first answer {:.0} ms; stop {:.0} ms\n\
             {} rounds of {} s for each load, QEMU {}, {}, 1 vCPU; {}\n",
            self.launch_to_main_ms,
            self.launch_to_answer_ms,
            self.stop_ms,
            self.rounds,
            self.seconds,
            self.qemu,
            self.accelerator,
            self.linux,
        );
        for (name, error) in self
            .loads
            .iter()
            .flat_map(|row| [("kv", &row.ours.error), ("Linux", &row.linux.error)])
        {
            if let Some(error) = error {
                text += &format!("an error of {name}: {error}\n");
            }
        }
        text
    }
}

impl Figures {
    /// Of the load at `at`, which took `seconds` in each round.
    fn new(samples: &[Sample], at: usize, seconds: u64) -> Self {
        let seen: Vec<_> = samples.iter().map(|sample| &sample.seen[at]).collect();
        let mut rates: Vec<_> = seen
            .iter()
            .map(|seen| seen.latencies.len() as f64 / seconds as f64)
            .collect();
        rates.sort_by(f64::total_cmp);
        let mut latencies: Vec<_> = seen
            .iter()
            .flat_map(|seen| seen.latencies.iter().copied())
            .collect();
        latencies.sort_unstable();
        Self {
            requests_per_second: rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN),
            p50_ms: percentile(&latencies, 50),
            p99_ms: percentile(&latencies, 99),
            errors: seen.iter().map(|seen| seen.errors.len()).sum(),
            error: seen.iter().find_map(|seen| seen.errors.first().cloned()),
        }
    }
}

/// The time within which `percent` of all were, in milliseconds.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |time| milliseconds(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_time_that_so_many_kept() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), 100.0);
        assert_eq!(percentile(&times, 99), 198.0);
        assert_eq!(percentile(&times[..1], 99), 1.0);
        assert!(percentile(&[], 50).is_nan());
    }
}
