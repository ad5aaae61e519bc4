//! What is said of the samples: medians of rounds, ratios to Linux.

use std::time::Duration;

use launcher::qemu::Version;
use serde::Serialize;

use super::LOADS;
use super::guest::{LINUX_PC, SUBJECTS, Times};
use super::load::Seen;
use crate::commands::bench::linux::Linux;
use crate::commands::bench::statistics::{median, milliseconds};
use crate::table::{Align, Table};

/// What one round showed of a subject.
pub(super) struct Sample {
    pub(super) times: Times,
    /// From the word to the end; `None` where it cannot be asked to end.
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
    starts: Vec<Start>,
    loads: Vec<Row>,
}

/// How fast a guest comes and goes, medians of rounds, from its launch on; `null` is what it does not tell.
#[derive(Debug, Serialize)]
struct Start {
    guest: &'static str,
    main_ms: f64,
    listening_ms: f64,
    answer_ms: f64,
    /// The time to the first answer, by that of Linux on a pc.
    of_linux: f64,
    stop_ms: f64,
}

/// One load on one guest.
#[derive(Debug, Serialize)]
struct Row {
    connections: u32,
    keep_alive: bool,
    guest: &'static str,
    #[serde(flatten)]
    figures: Figures,
    /// Requests per second, by those of Linux on a pc.
    of_linux: f64,
}

/// Medians of rounds; errors and stalls are counted over all of them.
#[derive(Debug, Serialize)]
struct Figures {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    errors: usize,
    /// What the first error was.
    error: Option<String>,
    /// In how many rounds it answered nobody any more afterwards, and was started again.
    stalls: usize,
}

impl Report {
    pub(super) fn new(
        rounds: u32,
        seconds: u64,
        qemu: Version,
        linux: &Linux,
        samples: &[Vec<Sample>; SUBJECTS.len()],
    ) -> Self {
        let starts: Vec<_> = samples.iter().map(|samples| Start::new(samples)).collect();
        let yardstick = starts[LINUX_PC].answer_ms;
        let starts = starts.into_iter().zip(SUBJECTS).map(|(start, (_, guest))| Start {
            guest,
            of_linux: start.answer_ms / yardstick,
            ..start
        });
        let mut loads = Vec::new();
        for (at, load) in LOADS.iter().enumerate() {
            let yardstick = Figures::new(&samples[LINUX_PC], at, seconds).requests_per_second;
            for (samples, (_, guest)) in samples.iter().zip(SUBJECTS) {
                let figures = Figures::new(samples, at, seconds);
                loads.push(Row {
                    connections: load.connections,
                    keep_alive: load.keep_alive,
                    guest,
                    of_linux: figures.requests_per_second / yardstick,
                    figures,
                });
            }
        }
        // A guest that was left out has no figures.
        Self {
            rounds,
            seconds,
            qemu: qemu.to_string(),
            linux: linux.package.clone(),
            accelerator: "tcg",
            starts: starts.filter(|start| !start.answer_ms.is_nan()).collect(),
            loads: loads
                .into_iter()
                .filter(|row| !row.figures.requests_per_second.is_nan())
                .collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut starts = Table::new([
            ("from the launch, ms", Align::Left),
            ("main", Align::Right),
            ("listening", Align::Right),
            ("first answer", Align::Right),
            ("x Linux", Align::Right),
            ("stop", Align::Right),
        ]);
        for start in &self.starts {
            starts.row([
                start.guest.to_owned(),
                number(start.main_ms, 0),
                number(start.listening_ms, 0),
                number(start.answer_ms, 0),
                number(start.of_linux, 3),
                number(start.stop_ms, 0),
            ]);
        }
        let mut loads = Table::new([
            ("clients", Align::Right),
            ("kept", Align::Left),
            ("guest", Align::Left),
            ("req/s", Align::Right),
            ("x Linux", Align::Right),
            ("p50 ms", Align::Right),
            ("p99 ms", Align::Right),
            ("errors", Align::Right),
        ]);
        let mut remarks = String::new();
        for row in &self.loads {
            let figures = &row.figures;
            let kept = if row.keep_alive { "yes" } else { "no" };
            loads.row([
                row.connections.to_string(),
                kept.to_owned(),
                row.guest.to_owned(),
                number(figures.requests_per_second, 0),
                number(row.of_linux, 2),
                number(figures.p50_ms, 2),
                number(figures.p99_ms, 2),
                figures.errors.to_string(),
            ]);
            let load = format!("{}, {} clients, kept: {kept}", row.guest, row.connections);
            if figures.stalls > 0 {
                let (stalls, rounds) = (figures.stalls, self.rounds);
                remarks += &format!(
                    "{load}: answered nobody afterwards in {stalls} of {rounds} rounds, and was started again\n"
                );
            }
            if let Some(error) = &figures.error {
                remarks += &format!("{load}: the first error: {error}\n");
            }
        }
        format!(
            "{starts}\n{loads}\n{} rounds of {} s for each load, QEMU {}, {}, 1 vCPU; {}\n{remarks}",
            self.rounds, self.seconds, self.qemu, self.accelerator, self.linux,
        )
    }
}

/// A figure, or `-` where there is none.
fn number(figure: f64, digits: usize) -> String {
    if figure.is_finite() {
        format!("{figure:.digits$}")
    } else {
        "-".to_owned()
    }
}

impl Start {
    /// Without a name and a ratio.
    fn new(samples: &[Sample]) -> Self {
        let of = |time: fn(&Sample) -> Option<Duration>| {
            median(&samples.iter().filter_map(time).collect::<Vec<_>>())
        };
        Self {
            guest: "",
            main_ms: of(|sample| sample.times.main),
            listening_ms: of(|sample| Some(sample.times.listening)),
            answer_ms: of(|sample| Some(sample.times.answer)),
            of_linux: f64::NAN,
            stop_ms: of(|sample| sample.stop),
        }
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
            stalls: seen.iter().filter(|seen| seen.stalled).count(),
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
