//! `cargo xtask check`: format, lints, documentation and dependencies; lists every failure, not the first alone.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use builder::cache::Cache;
use builder::environment::Environment;

use crate::cargo::cargo;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::workspace;

/// The version of cargo-deny that `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask check

cargo-deny is compiled into the cache on its first use, which takes some minutes. It looks at licenses, sources and
duplicates, and at security advisories where their database can be fetched.")]
pub(crate) struct Args {}

/// Something that must hold.
struct Check {
    name: &'static str,
    command: Command,
}

pub(crate) fn run(_args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let mut checks = checks();
    let mut failed = Vec::new();
    match dependencies(printer) {
        Ok(more) => checks.extend(more),
        Err(failure) => failed.push(format!("dependencies: {failure}")),
    }
    for mut check in checks {
        let begin = Instant::now();
        printer.note(&format!("== {}", check.name));
        printer.detail(&host::shown(&check.command));
        let status = check.command.status();
        match status {
            Ok(status) if status.success() => {
                printer.note(&format!(
                    "== {}: ok, {:.0} s",
                    check.name,
                    begin.elapsed().as_secs_f64()
                ));
            }
            Ok(status) => failed.push(format!("{}: {status}", check.name)),
            Err(error) => failed.push(format!("{}: {error}", check.name)),
        }
    }
    if failed.is_empty() {
        printer.note("all checks hold");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(format!(
        "{} failed\n  {}",
        plural(failed.len()),
        failed.join("\n  ")
    )))
}

fn plural(count: usize) -> String {
    format!("{count} check{}", if count == 1 { "" } else { "s" })
}

/// The checks of both workspaces. Distributions package no clippy for the guest's Rust: what runs on the bare machine
/// alone is judged by its compiler, when the image is composed, and the rest by the host's clippy.
fn checks() -> Vec<Check> {
    let root = workspace::root();
    let guest = root.join("guest");
    let documented = |mut command: Command| {
        command.env("RUSTDOCFLAGS", "-D warnings");
        command
    };
    let format = |name, folder: &str| Check {
        name,
        command: cargo(&root.join(folder), &["fmt", "--check"]),
    };
    vec![
        format("format", ""),
        format("format of the loader", "guest"),
        format("format of libhermit", "guest/libhermit"),
        format("format of the tests' guest", "guest/probe"),
        format("format of the stock kernel", "guest/kernel"),
        Check {
            name: "lints",
            command: cargo(
                &root,
                &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
            ),
        },
        Check {
            name: "lints of the loader, what runs on the host",
            command: cargo(
                &guest,
                &[
                    "clippy",
                    "--package",
                    "hermitage-loader",
                    "--lib",
                    "--tests",
                    "--",
                    "-D",
                    "warnings",
                ],
            ),
        },
        Check {
            name: "guest programs",
            command: cargo(&root, &["xtask", "compose", "kv"]),
        },
        Check {
            name: "documentation",
            command: documented(cargo(
                &root,
                &["doc", "--workspace", "--no-deps", "--document-private-items"],
            )),
        },
    ]
}

/// `cargo deny` for each lock file, from the `PATH` or else compiled into the cache. Advisories are left out where
/// their database cannot be reached: a check that fails for the network's sake would soon be ignored.
fn dependencies(printer: &Printer) -> Result<Vec<Check>, Failure> {
    let program = match host::find("cargo-deny", &host::search_path()) {
        Some(program) => program,
        None => provide_deny(printer)?,
    };
    let root = workspace::root();
    let deny = |arguments: &[&str]| {
        let mut command = cargo(&root, &["deny"]);
        if let Some(folder) = program.parent() {
            let folders = std::env::split_paths(&host::search_path()).collect::<Vec<_>>();
            let path = std::env::join_paths(std::iter::once(folder.to_owned()).chain(folders));
            command.env("PATH", path.unwrap_or_else(|_| host::search_path()));
        }
        command.args(arguments);
        command
    };
    let fetched = deny(&["fetch", "db"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let mut kinds = vec!["bans", "licenses", "sources"];
    if fetched.is_ok_and(|status| status.success()) {
        kinds.push("advisories");
    } else {
        printer.warn(
            "warning: the database of security advisories cannot be fetched; advisories are not checked",
        );
    }
    let check = |name, manifest: &str| {
        let mut command = deny(&["--manifest-path", manifest, "--config", "deny.toml", "check"]);
        command.args(&kinds);
        Check { name, command }
    };
    Ok(vec![
        check("dependencies", "Cargo.toml"),
        check("dependencies of the loader", "guest/Cargo.toml"),
        check("dependencies of libhermit", "guest/libhermit/Cargo.toml"),
    ])
}

fn provide_deny(printer: &Printer) -> Result<PathBuf, Failure> {
    let cache = Cache::new(&Environment::read()).map_err(|error| Failure::Failed(error.to_string()))?;
    let folder = cache.path(format!("tools/cargo-deny-{DENY_VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    printer.note(&format!(
        "compiling cargo-deny {DENY_VERSION} into the cache, once"
    ));
    let mut command = cargo(
        &workspace::root(),
        &[
            "install",
            "--quiet",
            "--locked",
            "--version",
            DENY_VERSION,
            "cargo-deny",
            "--root",
        ],
    );
    command.arg(&folder).env_remove("CARGO_TARGET_DIR");
    printer.detail(&host::shown(&command));
    match command.status() {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(Failure::Failed(format!("cannot install cargo-deny: {status}"))),
        Err(error) => Err(Failure::Failed(format!("cannot install cargo-deny: {error}"))),
    }
}
