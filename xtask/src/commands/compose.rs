//! `cargo xtask compose`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use builder::compose::ComposeReport;
use builder::environment::Environment;
use builder::package;
use builder::session::Session;

use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::workspace;

/// Arguments of `compose`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask compose kv
  cargo xtask compose --json manifests/kv

The image is images/<name>/<name>.qcow2. It is replaced when the new one is complete;
a composition that fails or is interrupted leaves it as it was.")]
pub(crate) struct Args {
    /// Package: the name of a folder in manifests/, or a path to a folder with a package.yaml
    package: String,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let report = compose(&args.package, printer)?;
    if args.json {
        printer.json(&Json::from(&report));
    } else {
        printer.note(&summary(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// Composes the image of a package, with whatever has to be built for it.
pub(crate) fn compose(package: &str, printer: &Printer) -> Result<ComposeReport, Failure> {
    let root = workspace::root();
    let progress = Progress::new(printer);
    let session = Session {
        workspace: root.clone(),
        environment: Environment::read(),
        observer: &progress,
    };
    Ok(package::build(
        &session,
        &manifest(&root, package)?,
        &root.join("images"),
    )?)
}

/// The manifest of a package that is given by its name or by a path.
fn manifest(root: &Path, package: &str) -> Result<PathBuf, Failure> {
    let manifests = root.join("manifests");
    let folder = if package.contains('/') {
        PathBuf::from(package)
    } else {
        manifests.join(package)
    };
    if folder.is_file() {
        return Ok(folder);
    }
    let manifest = folder.join("package.yaml");
    if manifest.is_file() {
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
        .filter(|entry| entry.path().join("package.yaml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// `images/kv/kv.qcow2: 1.9 MB on disk, 1 file, 12 ms`
fn summary(report: &ComposeReport) -> String {
    let path = workspace::shown(&report.path);
    let files = if report.files == 1 { "file" } else { "files" };
    format!(
        "{}: {:.1} MB on disk, {} {files}, {} ms",
        path.display(),
        report.bytes as f64 / 1e6,
        report.files,
        report.elapsed.as_millis()
    )
}

/// The report as `--json` prints it.
#[derive(serde::Serialize)]
struct Json<'a> {
    path: &'a Path,
    bytes_on_disk: u64,
    files: usize,
    digest: &'a str,
    milliseconds: f64,
}

impl<'a> From<&'a ComposeReport> for Json<'a> {
    fn from(report: &'a ComposeReport) -> Self {
        Self {
            path: &report.path,
            bytes_on_disk: report.bytes,
            files: report.files,
            digest: &report.digest,
            milliseconds: report.elapsed.as_secs_f64() * 1e3,
        }
    }
}
