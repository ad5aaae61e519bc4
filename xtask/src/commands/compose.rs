//! `cargo xtask compose`.

mod events;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use builder::compose::{ComposeError, ComposeReport, Mode};
use builder::environment::Environment;
use builder::event::Observer;
use builder::manifest::{Manifest, PackageName};
use builder::package::{self, PackageError};
use builder::repository::Repository;
use builder::resolve::PackageSource;
use builder::session::Session;
use builder::update::Updated;

use self::events::Lines;
use super::image::in_use;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::workspace;

/// Arguments of `compose`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask compose kv
  cargo xtask compose --update kv
  cargo xtask compose --json manifests/kv

The image is images/<name>/<name>.qcow2. It is replaced when the new one is complete;
a composition that fails or is interrupted leaves it as it was. With --update, what changed is
written into the image that is there, which holds the old files or the new ones at any moment.")]
pub(crate) struct Args {
    /// Package: the name of a folder in manifests/, or else of a package in the repository; or a path to a folder
    /// with a package.yaml
    package: String,

    /// Write only what changed into the image that is there
    #[arg(long)]
    update: bool,

    /// Read every file, even if its size, times and inode are those of the last time
    #[arg(long, requires = "update")]
    checksum: bool,

    /// Print what happens as JSON, an object a line; the last one says how it ended
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let mode = match args.update {
        true => Mode::Update {
            checksum: args.checksum,
        },
        false => Mode::Fresh,
    };
    if args.json {
        let lines = Lines(printer);
        let result = compose_as(mode, &args.package, &lines);
        match &result {
            Ok(report) => lines.composed(report),
            Err(failure) => lines.failed(failure),
        }
        result?;
    } else {
        let report = compose_as(mode, &args.package, &Progress::new(printer))?;
        printer.note(&summary(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// Composes the image of a package, with whatever has to be built for it.
pub(crate) fn compose(package: &str, printer: &Printer) -> Result<ComposeReport, Failure> {
    compose_as(Mode::Fresh, package, &Progress::new(printer))
}

fn compose_as(mode: Mode, package: &str, observer: &dyn Observer) -> Result<ComposeReport, Failure> {
    let root = workspace::root();
    let session = Session {
        workspace: root.clone(),
        environment: Environment::read(),
        observer,
    };
    let repository = super::package::repository(&session.environment);
    let manifest = match manifest(&root, package) {
        Ok(path) => Manifest::read(&path).map_err(PackageError::from)?,
        // Composed from its archive, without its sources.
        Err(missing) => stored(repository.as_ref(), package, observer)?.ok_or(missing)?,
    };
    let sources: Vec<_> = repository
        .iter()
        .map(|repository| repository as &dyn PackageSource)
        .collect();
    package::build(&session, manifest, &sources, &root.join("images"), mode).map_err(|error| match error {
        PackageError::Compose(ComposeError::InUse { path }) => in_use(&path, "updated"),
        error => error.into(),
    })
}

/// The newest version of a package in the repository, if it is there, with its files unpacked.
fn stored(
    repository: Option<&Repository>,
    package: &str,
    observer: &dyn Observer,
) -> Result<Option<Manifest>, Failure> {
    match (repository, PackageName::new(package)) {
        (Some(repository), Some(name)) => Ok(repository.composed(&name, observer)?),
        _ => Ok(None),
    }
}

/// Whether a package is given by a path, not by its name.
pub(super) fn is_path(package: &str) -> bool {
    package.contains('/') || matches!(package, "." | "..")
}

/// The manifest of a package that is given by its name or by a path.
pub(super) fn manifest(root: &Path, package: &str) -> Result<PathBuf, Failure> {
    let manifests = root.join("manifests");
    let folder = if is_path(package) {
        PathBuf::from(package)
    } else {
        manifests.join(package)
    };
    if folder.is_file() {
        return Ok(folder);
    }
    if let Some(manifest) = Manifest::find(&folder) {
        return Ok(workspace::shown(&manifest));
    }
    Err(Failure::NoPackage {
        name: package.to_owned(),
        known: packages(&manifests),
    })
}

/// Names of the packages in `manifests/`.
fn packages(manifests: &Path) -> Vec<String> {
    let entries = fs::read_dir(manifests).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| Manifest::find(&entry.path()).is_some())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// `images/kv/kv.qcow2: 1.9 MB on disk, 1 file, 12 ms`, or
/// `images/kv/kv.qcow2: 3 changed, 1 added, 2 removed, 189 KB written in 21 ms`
fn summary(report: &ComposeReport) -> String {
    let path = workspace::shown(&report.path);
    let path = path.display();
    let milliseconds = report.elapsed.as_millis();
    if let Some(Updated {
        changed,
        added,
        removed,
        written,
    }) = report.updated
    {
        let written = amount(written);
        return format!(
            "{path}: {changed} changed, {added} added, {removed} removed, {written} written in {milliseconds} ms"
        );
    }
    let files = if report.files == 1 { "file" } else { "files" };
    format!(
        "{path}: {:.1} MB on disk, {} {files}, {milliseconds} ms",
        report.bytes as f64 / 1e6,
        report.files,
    )
}

/// `nothing`, `189 KB`, `3.4 MB`
fn amount(bytes: u64) -> String {
    match bytes {
        0 => "nothing".to_owned(),
        1..1_000_000 => format!("{} KB", bytes.div_ceil(1000)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
