//! `cargo xtask bench folder`: file systems that could keep a volume's folder, beside ours. What drives them is a
//! workspace of its own (`guest/folder-candidates`): what was weighed and not taken is no dependency of what we ship.

use std::env;
use std::process::{Command, ExitCode};

use crate::failure::Failure;
use crate::workspace;

/// Arguments of `bench folder`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench folder
  cargo xtask bench folder redb redoxfs

It takes some twenty minutes: 600 power cuts, 816 damaged disks, a full disk and the speed of each.")]
pub(crate) struct Args {
    /// Of these alone: redb (ours), redoxfs, rsext4, littlefs
    #[arg(value_name = "CANDIDATE", value_parser = ["redb", "redoxfs", "rsext4", "littlefs"])]
    candidates: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let root = workspace::root();
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--release", "--locked", "--manifest-path"])
        .arg(root.join("guest/folder-candidates/Cargo.toml"))
        .arg("--target-dir")
        .arg(root.join("target/folder-candidates"))
        .arg("--")
        .args(&args.candidates)
        .status()
        .map_err(|error| Failure::Failed(format!("cannot run cargo: {error}")))?;
    match status.success() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Failure::Failed(format!(
            "the candidates were not driven to the end: {status}"
        ))),
    }
}
