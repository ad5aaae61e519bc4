//! What the builder says, on stderr: bars while a stage works, a line when one has done something.
//!
//! Without a terminal there are no bars, and the lines are the same. A stage that found its work done says nothing,
//! unless more was asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use builder::event::{Event, Observer, Outcome, Stage, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printer::{Printer, Verbosity};

/// How often a bar is redrawn while nothing happens, so that one sees that it lives.
const TICK: Duration = Duration::from_millis(120);

/// How long a stage works before a bar is shown for it: a shorter one would only flicker.
const PATIENCE: Duration = Duration::from_millis(150);

/// Shows events.
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    bars: MultiProgress,
    stages: Mutex<HashMap<Stage, Running>>,
}

/// A stage that works.
struct Running {
    subject: String,
    bar: ProgressBar,
    since: std::time::Instant,
    unit: Option<Unit>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        let target = match printer.verbosity() {
            // Verbose output is a log, which bars would cut to pieces.
            Verbosity::Quiet | Verbosity::Verbose => ProgressDrawTarget::hidden(),
            Verbosity::Normal => ProgressDrawTarget::stderr(),
        };
        let bars = MultiProgress::with_draw_target(target);
        Self {
            printer,
            bars,
            stages: Mutex::new(HashMap::new()),
        }
    }

    /// Prints lines above the bars.
    fn print(&self, text: &str, print: fn(&Printer, &str)) {
        self.bars.suspend(|| print(self.printer, text));
    }
}

impl Observer for Progress<'_> {
    fn event(&self, event: &Event) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { stage, subject } => {
                let running = Running {
                    subject: subject.clone(),
                    bar: self.bars.add(ProgressBar::hidden()),
                    since: std::time::Instant::now(),
                    unit: None,
                };
                stages.insert(*stage, running);
            }
            Event::Progress {
                stage,
                unit,
                done,
                total,
                current,
            } => {
                let Some(running) = stages.get_mut(stage) else {
                    return;
                };
                if running.since.elapsed() < PATIENCE {
                    return;
                }
                if running.unit != Some(*unit) {
                    running.unit = Some(*unit);
                    running.bar = self.bars.add(bar(*stage, &running.subject, *unit, *total));
                }
                if let Some(total) = total {
                    running.bar.set_length(*total);
                }
                running.bar.set_position(*done);
                running.bar.set_message(current.clone());
            }
            Event::Finished {
                stage,
                outcome,
                elapsed,
            } => {
                let Some(running) = stages.remove(stage) else {
                    return;
                };
                running.bar.finish_and_clear();
                self.bars.remove(&running.bar);
                let name = Named {
                    stage: *stage,
                    subject: &running.subject,
                };
                match outcome {
                    Outcome::Cached => self.print(&format!("{name}: nothing to do"), Printer::detail),
                    Outcome::Done if is_noise(*stage) => {
                        self.print(&format!("{name}: done in {elapsed:.2?}"), Printer::detail);
                    }
                    Outcome::Done => self.print(&format!("{name}: done in {elapsed:.2?}"), Printer::note),
                }
            }
            Event::Waiting { what, holder } => {
                self.print(
                    &format!("waiting for {what}, which {holder} is making"),
                    Printer::note,
                );
            }
            Event::Command(command) => self.print(&format!("$ {command}"), Printer::detail),
            Event::Diagnostics(text) => self.print(text.trim_end(), Printer::note),
            Event::Warning(warning) => {
                let hint = warning.hint.as_ref();
                let hint = hint.map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
                self.print(&format!("warning: {warning}{hint}"), Printer::warn);
            }
            Event::Note(text) => self.print(text, Printer::note),
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        // A stage that failed leaves its bar behind.
        let _ = self.bars.clear();
    }
}

/// A stage whose line would only repeat the summary of the command.
fn is_noise(stage: Stage) -> bool {
    matches!(stage, Stage::Tree | Stage::Image)
}

/// A stage and what it works on.
struct Named<'a> {
    stage: Stage,
    subject: &'a str,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            "" => write!(f, "{}", self.stage),
            subject => write!(f, "{} {subject}", self.stage),
        }
    }
}

fn bar(stage: Stage, subject: &str, unit: Unit, total: Option<u64>) -> ProgressBar {
    let counts = match (unit, total) {
        (Unit::Bytes, Some(_)) => "{bytes}/{total_bytes} {bytes_per_sec}",
        (Unit::Bytes, None) => "{bytes}",
        (_, Some(_)) => "{pos}/{len}",
        (_, None) => "{pos}",
    };
    let template = match total {
        Some(_) => format!("{{prefix}} [{{bar:30}}] {counts} {{wide_msg}}"),
        None => format!("{{prefix}} {{spinner}} {counts} {{wide_msg}}"),
    };
    // Only a template that is wrong here fails; a plain bar serves then.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total.unwrap_or(0)).with_style(style.progress_chars("=> "));
    bar.set_prefix(Named { stage, subject }.to_string());
    bar.enable_steady_tick(TICK);
    bar
}
