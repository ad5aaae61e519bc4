//! What is said while something is built. Libraries never print: they tell an [`Observer`], and the command line
//! turns events into lines and progress bars.
//!
//! Each stage says [`Event::Started`], any number of [`Event::Progress`], then [`Event::Finished`]; a stage that
//! fails ends with an error instead. Stages may nest: to compile a service may first provide the toolchain.

use std::fmt;
use std::time::Duration;

use crate::manifest::Diagnostic;

/// A stage of the way from a manifest to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Finds or provides the guest toolchain.
    Toolchain,
    /// Fetches and patches the kernel's source.
    KernelSource,
    /// Builds the kernel and our glue into one archive.
    Libhermit,
    /// Builds the loader and the boot code.
    Loader,
    /// Compiles services for the guest.
    Services,
    /// Fetches a package.
    Download,
    /// Gathers what is in the image.
    Tree,
    /// Writes the image.
    Image,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toolchain => "guest toolchain",
            Self::KernelSource => "kernel source",
            Self::Libhermit => "libhermit",
            Self::Loader => "loader",
            Self::Services => "services",
            Self::Download => "download",
            Self::Tree => "tree",
            Self::Image => "image",
        })
    }
}

/// What a stage's progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes that are downloaded or written.
    Bytes,
    /// Packages that are unpacked.
    Packages,
    /// Crates that are compiled.
    Crates,
    /// Files.
    Files,
}

/// How much work a stage found to be done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The work was done now.
    Done,
    /// The result was there from an earlier run.
    Cached,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stage begins; `subject` says on what (`kv, gateway`), and may be empty.
    Started {
        /// Which stage.
        stage: Stage,
        /// What it works on.
        subject: String,
    },
    /// A stage has got so far.
    Progress {
        /// Which stage.
        stage: Stage,
        /// What is counted.
        unit: Unit,
        /// How much is done.
        done: u64,
        /// How much there is, where that is known.
        total: Option<u64>,
        /// What is worked on just now: a file, a crate.
        current: String,
    },
    /// A stage has ended well.
    Finished {
        /// Which stage.
        stage: Stage,
        /// Whether there was anything to do.
        outcome: Outcome,
        /// How long it took.
        elapsed: Duration,
    },
    /// A stage waits for another process that does the same work.
    Waiting {
        /// What is waited for.
        what: String,
        /// Who holds it: process id and command.
        holder: String,
    },
    /// What the compiler had to say about something that it compiled: warnings, as it wrote them.
    Diagnostics(String),
    /// A command is about to be run; its text is what a user would type.
    Command(String),
    /// What may be wrong with a manifest, and where.
    Warning(Diagnostic),
    /// A fact or a decision that a user may want to know.
    Note(String),
}

/// Who is told. It may be told from several threads.
pub trait Observer: Sync {
    /// Takes one event; must return soon.
    fn event(&self, event: &Event);
}

impl<F: Fn(&Event) + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// An observer that does not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event) {}
}
