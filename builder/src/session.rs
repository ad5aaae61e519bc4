//! What every stage is given: where to work, what it may do, whom to tell.

use std::path::PathBuf;

use crate::environment::Environment;
use crate::event::{Event, Observer, Outcome, Stage};

/// One use of the builder.
#[derive(Clone)]
pub struct Session<'a> {
    /// The root of the workspace: `guest/`, `services/` and `target/` lie there.
    pub workspace: PathBuf,
    /// The environment variables that matter.
    pub environment: Environment,
    /// Who is told what happens.
    pub observer: &'a dyn Observer,
}

impl Session<'_> {
    /// The folder for what is built for guests, `target/guest`.
    pub(crate) fn guest_target(&self) -> PathBuf {
        self.workspace.join("target/guest")
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.observer.event(&Event::Note(text.into()));
    }

    /// Runs a stage between its `Started` and `Finished` events.
    pub(crate) fn stage<T, E>(
        &self,
        stage: Stage,
        subject: &str,
        work: impl FnOnce() -> Result<(T, Outcome), E>,
    ) -> Result<T, E> {
        let begin = std::time::Instant::now();
        self.observer.event(&Event::Started {
            stage,
            subject: subject.to_owned(),
        });
        let (value, outcome) = work()?;
        self.observer.event(&Event::Finished {
            stage,
            outcome,
            elapsed: begin.elapsed(),
        });
        Ok(value)
    }
}
