//! `cargo xtask bench compose`: composition and its updates beside the tools of file systems.
//!
//! In each round every subject does its work once, one after the other, so that what else the machine does falls on
//! all of them alike; the first round warms caches up and does not count, and peak memory is looked at in it. Ours and
//! the floor run in a process of their own, which measures itself: what is counted is the work, from a cold heap. The
//! tools are counted from their start to their end.
//!
//! [`tree`] makes the files, [`step`] is what runs in a process of its own, [`tools`] are the others.

mod chart;
pub(super) mod step;
mod tools;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use self::step::{Measured, Step};
use self::tools::Tool;
use self::tree::{LARGE_FILE, MANY, SMALL, Shape};
use super::statistics::{extremes, median};
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Memory as a file system, where Linux has one for everybody.
const TMPFS: &str = "/dev/shm";

/// How long files rest before they are composed: an update reads files again that changed just before they were
/// looked at.
const REST: Duration = Duration::from_millis(80);

/// Arguments of `bench compose`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Also 100,000 files of 1 GB, and one file of 1 GB: needs 8 GB of room
    #[arg(long)]
    large: bool,

    /// Where files and images are kept meanwhile [default: /dev/shm, or the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Draw it, too: FILE.png and FILE.svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// Walks the tree and does nothing else: what any tool that looks for changes must do.
    Walk,
    /// Walks, reads, hashes and writes one file after the other in one thread: what any composition must do.
    Floor,
    Fresh,
    /// Brings the image up to date after so many files changed.
    Update(usize),
    Tool(Tool),
}

/// Updates come in the order of their changes, right after the composition that they start from.
const SUBJECTS: [Subject; 10] = [
    Subject::Walk,
    Subject::Floor,
    Subject::Fresh,
    Subject::Update(0),
    Subject::Update(1),
    Subject::Update(10),
    Subject::Update(1000),
    Subject::Tool(Tool::Tar),
    Subject::Tool(Tool::Erofs),
    Subject::Tool(Tool::Ext4),
];

impl Subject {
    fn name(self) -> String {
        match self {
            Self::Walk => "walk alone".to_owned(),
            Self::Floor => "floor: walk, read, hash, write".to_owned(),
            Self::Fresh => "compose".to_owned(),
            Self::Update(0) => "compose --update, nothing changed".to_owned(),
            Self::Update(1) => "compose --update, 1 file".to_owned(),
            Self::Update(changed) => format!("compose --update, {changed} files"),
            Self::Tool(tool) => format!("{}, qemu-img convert", tool.name()),
        }
    }
}

/// What was found about a subject.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    of_floor: f64,
    /// Of all files that it wrote, as far as they take room.
    bytes_written: u64,
    peak_memory_bytes: u64,
}

/// One tree, and all that composed it.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    files: usize,
    bytes: u64,
    rows: Vec<Row>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    runs: u32,
    folder: PathBuf,
    tools: Vec<String>,
    trees: Vec<Section>,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&tools::NEEDED, printer)?;
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None if Path::new(TMPFS).is_dir() => TMPFS.into(),
        None => std::env::temp_dir(),
    };
    let shapes: &[Shape] = if args.large {
        &[SMALL, MANY, LARGE_FILE]
    } else {
        &[SMALL]
    };
    let mut trees = Vec::new();
    for shape in shapes {
        let section = section(shape, args.runs, &folder, printer)?;
        if !args.json {
            printer.data(&format!("{}\n{}\n", section.title(), section.table()));
        }
        trees.push(section);
    }
    let report = Report {
        runs: args.runs,
        folder,
        tools: tools::versions(),
        trees,
    };
    if let Some(path) = &args.plot {
        for path in chart::draw(&report.trees, path)? {
            printer.note(&format!("drawn: {}", path.display()));
        }
    }
    if args.json {
        printer.json(&report);
    } else {
        let Report {
            runs, folder, tools, ..
        } = &report;
        printer.data(&format!(
            "{runs} rounds in {}; {}\n",
            folder.display(),
            tools.join("; ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures everything on one tree.
fn section(shape: &Shape, runs: u32, folder: &Path, printer: &Printer) -> Result<Section, Failure> {
    let folder = tempfile::Builder::new()
        .prefix("hermitage-bench-")
        .tempdir_in(folder)
        .map_err(|error| io_failure("make a folder in", folder, &error))?;
    printer.note(&format!(
        "making {} files, {} MB",
        shape.files,
        shape.bytes / 1_000_000
    ));
    let bench = Bench {
        shape: *shape,
        folder: folder.path(),
    };
    shape
        .make(folder.path())
        .map_err(|error| bench.failed("write", &error))?;
    let subjects: Vec<_> = SUBJECTS
        .into_iter()
        // With more changes, an update would leave too many holes.
        .filter(|subject| !matches!(subject, Subject::Update(changed) if *changed > shape.files / 3))
        .collect();
    let mut times = vec![Vec::new(); subjects.len()];
    let mut measured = vec![Measured::default(); subjects.len()];
    for round in 0..=runs {
        printer.note(&match round {
            0 => "warming up".to_owned(),
            _ => format!("round {round} of {runs}"),
        });
        for (index, subject) in subjects.iter().enumerate() {
            let one = bench.measure(*subject, round)?;
            if round > 0 {
                times[index].push(one.time());
            }
            let all = &mut measured[index];
            all.written = one.written;
            all.peak = all.peak.max(one.peak);
        }
    }
    let floor = subjects.iter().position(|subject| *subject == Subject::Floor);
    let floor = floor.map_or(f64::NAN, |index| median(&times[index]));
    let rows = subjects.iter().zip(&times).zip(&measured);
    let rows = rows.map(|((subject, times), measured)| {
        let (min_ms, max_ms) = extremes(times);
        Row {
            name: subject.name(),
            median_ms: median(times),
            min_ms,
            max_ms,
            of_floor: median(times) / floor,
            bytes_written: measured.written,
            peak_memory_bytes: measured.peak,
        }
    });
    Ok(Section {
        files: shape.files,
        bytes: shape.bytes,
        rows: rows.collect(),
    })
}

/// A tree, and a folder to work in.
struct Bench<'a> {
    shape: Shape,
    folder: &'a Path,
}

impl Bench<'_> {
    /// Has a subject do its work once.
    fn measure(&self, subject: Subject, round: u32) -> Result<Measured, Failure> {
        let step = match subject {
            Subject::Walk => Step::Walk,
            Subject::Floor => Step::Floor,
            Subject::Fresh => Step::Fresh,
            Subject::Update(changed) => {
                let change = self.shape.change(self.folder, changed, round);
                change.map_err(|error| self.failed("write", &error))?;
                thread::sleep(REST);
                Step::Update
            }
            Subject::Tool(tool) => return tool.measure(self.folder, round == 0),
        };
        step.start(self.folder)
    }

    fn failed(&self, action: &str, error: &std::io::Error) -> Failure {
        io_failure(action, self.folder, error)
    }
}

fn io_failure(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot {action} `{}`: {error}", path.display()))
}

/// Removes a file that may be there.
fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_failure("remove", path, &error)),
        _ => Ok(()),
    }
}

impl Section {
    /// `3399 files, 33.4 MB`
    fn title(&self) -> String {
        let files = if self.files == 1 { "file" } else { "files" };
        format!("{} {files}, {:.1} MB", self.files, self.bytes as f64 / 1e6)
    }

    fn table(&self) -> Table<7> {
        let mut table = Table::new([
            ("", Align::Left),
            ("median ms", Align::Right),
            ("min", Align::Right),
            ("max", Align::Right),
            ("x floor", Align::Right),
            ("written, KB", Align::Right),
            ("peak memory, MB", Align::Right),
        ]);
        for row in &self.rows {
            table.row([
                row.name.clone(),
                format!("{:.1}", row.median_ms),
                format!("{:.1}", row.min_ms),
                format!("{:.1}", row.max_ms),
                format!("{:.2}", row.of_floor),
                row.bytes_written.div_ceil(1000).to_string(),
                format!("{:.1}", row.peak_memory_bytes as f64 / 1e6),
            ]);
        }
        table
    }
}
