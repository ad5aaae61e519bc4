//! What `compose --json` prints: each event is an object on a line of its own, the last one says how it ended. The names
//! in them are listed in `docs/image.md`, and do not change.

use std::path::Path;

use builder::compose::ComposeReport;
use builder::event::{Event, Observer, Outcome, Stage, Unit};
use serde::Serialize;

use crate::failure::{Failure, causes};
use crate::printer::Printer;

/// Prints events as lines.
pub(super) struct Lines<'a>(pub(super) &'a Printer);

impl Lines<'_> {
    /// Says that an image was composed.
    pub(super) fn composed(&self, report: &ComposeReport) {
        self.0.json_line(&Line::Composed {
            path: &report.path,
            bytes_on_disk: report.bytes,
            files: report.files,
            digest: &report.digest,
            milliseconds: report.elapsed.as_secs_f64() * 1e3,
            updated: report.updated.map(|updated| Updated {
                changed: updated.changed,
                added: updated.added,
                removed: updated.removed,
                bytes_written: updated.written,
            }),
        });
    }

    /// Says that none was.
    pub(super) fn failed(&self, failure: &Failure) {
        self.0.json_line(&Line::Failed {
            message: failure.to_string(),
            causes: causes(failure).map(ToString::to_string).collect(),
            hint: failure.hint(),
        });
    }
}

impl Observer for Lines<'_> {
    fn event(&self, event: &Event) {
        self.0.json_line(&Line::from(event));
    }
}

/// One line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Started {
        stage: &'static str,
        subject: &'a str,
    },
    Progress {
        stage: &'static str,
        unit: &'static str,
        done: u64,
        total: Option<u64>,
        current: &'a str,
    },
    Finished {
        stage: &'static str,
        /// Whether the result of an earlier run was used.
        cached: bool,
        milliseconds: f64,
    },
    Waiting {
        what: &'a str,
        holder: &'a str,
    },
    Diagnostics {
        text: &'a str,
    },
    Command {
        command: &'a str,
    },
    Warning {
        message: &'a str,
        file: &'a Path,
        line: usize,
        column: usize,
        hint: Option<&'a str>,
    },
    Note {
        text: &'a str,
    },
    Composed {
        path: &'a Path,
        bytes_on_disk: u64,
        files: usize,
        digest: &'a str,
        milliseconds: f64,
        /// Missing after a fresh composition.
        #[serde(skip_serializing_if = "Option::is_none")]
        updated: Option<Updated>,
    },
    Failed {
        message: String,
        causes: Vec<String>,
        hint: Option<String>,
    },
}

/// What an update did.
#[derive(Serialize)]
struct Updated {
    changed: usize,
    added: usize,
    removed: usize,
    bytes_written: u64,
}

impl<'a> From<&'a Event> for Line<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Started { stage, subject } => Self::Started {
                stage: stage_name(*stage),
                subject,
            },
            Event::Progress {
                stage,
                unit,
                done,
                total,
                current,
            } => Self::Progress {
                stage: stage_name(*stage),
                unit: unit_name(*unit),
                done: *done,
                total: *total,
                current,
            },
            Event::Finished {
                stage,
                outcome,
                elapsed,
            } => Self::Finished {
                stage: stage_name(*stage),
                cached: *outcome == Outcome::Cached,
                milliseconds: elapsed.as_secs_f64() * 1e3,
            },
            Event::Waiting { what, holder } => Self::Waiting { what, holder },
            Event::Diagnostics(text) => Self::Diagnostics { text },
            Event::Command(command) => Self::Command { command },
            Event::Warning(warning) => Self::Warning {
                message: &warning.message,
                file: &warning.place.path,
                line: warning.place.line,
                column: warning.place.column,
                hint: warning.hint.as_deref(),
            },
            Event::Note(text) => Self::Note { text },
        }
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Toolchain => "toolchain",
        Stage::KernelSource => "kernel_source",
        Stage::Libhermit => "libhermit",
        Stage::Loader => "loader",
        Stage::Services => "services",
        Stage::Tree => "tree",
        Stage::Image => "image",
        Stage::Download => "download",
    }
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Packages => "packages",
        Unit::Crates => "crates",
        Unit::Files => "files",
    }
}
