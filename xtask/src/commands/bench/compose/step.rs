//! One piece of work in a process of its own, which says how long it took and how much memory it needed.
//!
//! The process is this very program, with a command that is not shown.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use builder::compose::{ComposeRequest, Mode, compose};
use builder::event::Silent;
use builder::image::LoaderArtifacts;
use builder::manifest::Manifest;
use builder::package::PackageError;
use builder::resolve::Resolution;
use serde::{Deserialize, Serialize};

use super::tree::FILES;
use super::{io_failure, remove};
use crate::failure::Failure;
use crate::printer::Printer;

/// Bytes that the floor collects before it writes: what composition does.
const CHUNK: usize = 1 << 20;

/// Arguments of the command that is not shown.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    step: Step,
    folder: PathBuf,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Step {
    Walk,
    Floor,
    Fresh,
    Update,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) written: u64,
    /// The most memory that was in use, in bytes: `VmHWM`.
    pub(super) peak: u64,
}

impl Measured {
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

impl Step {
    /// Has a process do it.
    pub(super) fn start(self, folder: &Path) -> Result<Measured, Failure> {
        let failed = |error: io::Error| Failure::Failed(format!("cannot measure: {error}"));
        let name = clap::ValueEnum::to_possible_value(&self);
        // By this name the program is the one that runs, even if its file was replaced meanwhile.
        let output = Command::new("/proc/self/exe")
            .args(["bench", "compose-step"])
            .args(name.iter().map(clap::builder::PossibleValue::get_name))
            .arg(folder)
            .stderr(Stdio::inherit())
            .output()
            .map_err(failed)?;
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.into()))
    }
}

/// Does it, in the process that was started for it.
pub(in crate::commands) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let folder = &args.folder;
    let failed = |error: io::Error| io_failure("use", folder, &error);
    let out = folder.join("floor");
    remove(&out)?;
    let begin = Instant::now();
    let (elapsed, written) = match args.step {
        Step::Walk => {
            walk(&folder.join(FILES), &mut |_| Ok(())).map_err(failed)?;
            (begin.elapsed(), 0)
        }
        Step::Floor => {
            let written = floor(&folder.join(FILES), &out).map_err(failed)?;
            (begin.elapsed(), written)
        }
        Step::Fresh => ours(folder, Mode::Fresh)?,
        Step::Update => ours(folder, Mode::Update { checksum: false })?,
    };
    remove(&out)?;
    let measured = Measured {
        seconds: elapsed.as_secs_f64(),
        written,
        peak: peak("self").unwrap_or(0),
    };
    printer.json(&measured);
    Ok(ExitCode::SUCCESS)
}

fn ours(folder: &Path, mode: Mode) -> Result<(Duration, u64), Failure> {
    let manifest = Manifest::read(&folder.join("package.yaml")).map_err(PackageError::from)?;
    let resolution = &Resolution::alone(manifest).map_err(PackageError::from)?;
    // Any bytes will do: nothing is booted.
    let loader = &LoaderArtifacts {
        elf: vec![0x90; 100_000],
        boot_code: [0x90; 440],
    };
    let request = ComposeRequest {
        resolution,
        out_dir: &folder.join("images"),
        loader,
        binaries: &BTreeMap::new(),
        mode,
    };
    let begin = Instant::now();
    let report = compose(&request, &Silent).map_err(PackageError::from)?;
    let elapsed = begin.elapsed();
    let written = match (mode, report.updated) {
        (Mode::Update { .. }, None) => {
            return Err(Failure::Failed("an update was composed afresh".to_owned()));
        }
        (_, Some(updated)) => updated.written,
        (_, None) => report.bytes,
    };
    Ok((elapsed, written))
}

/// Reads, hashes and writes all files, one behind another; bytes that were written.
fn floor(files: &Path, out: &Path) -> io::Result<u64> {
    let mut out = File::create(out)?;
    let mut buffer = Vec::with_capacity(2 * CHUNK);
    let mut hash = blake3::Hasher::new();
    let mut written = 0;
    walk(files, &mut |path| {
        let mut file = File::open(path)?;
        let mut content = blake3::Hasher::new();
        loop {
            let from = buffer.len();
            let more = (&mut file).take(CHUNK as u64).read_to_end(&mut buffer)?;
            content.update(&buffer[from..]);
            written += more as u64;
            if buffer.len() >= CHUNK {
                out.write_all(&buffer)?;
                buffer.clear();
            }
            if more < CHUNK {
                break;
            }
        }
        hash.update(content.finalize().as_bytes());
        Ok(())
    })?;
    out.write_all(&buffer)?;
    std::hint::black_box(hash.finalize());
    Ok(written)
}

/// Goes through a folder as any tool must that wants to know kind, size and times of everything.
fn walk(folder: &Path, file: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        std::hint::black_box((metadata.size(), metadata.mtime()));
        if metadata.is_dir() {
            walk(&entry.path(), file)?;
        } else {
            file(&entry.path())?;
        }
    }
    Ok(())
}

/// The most memory that a process had in use until now, in bytes.
pub(super) fn peak(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
