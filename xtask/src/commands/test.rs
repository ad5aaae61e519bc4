//! `cargo xtask test`: every test of the project, in parts that run one after the other.
//!
//! Tests that boot virtual machines are ignored by a plain `cargo test` (they need QEMU, the guest toolchain and a
//! minute); here they run last, on an image that was composed just before.

use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use crate::cargo::cargo;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::workspace;

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask test

The last line of the output is `N passed, N failed`, over all parts; the exit code is 1 if a test failed or a part
did not compile.")]
pub(crate) struct Args {
    /// Leave out the tests that boot virtual machines
    #[arg(long)]
    no_vm: bool,
}

/// Tests that one command runs.
struct Part {
    name: &'static str,
    /// The folder of its workspace, from the root.
    folder: &'static str,
    arguments: &'static [&'static str],
    /// Whether images must be composed first.
    boots: bool,
}

/// With the release profile, in which `xtask` itself was built: its dependencies are not compiled a second time,
/// which on two cores takes longer than all of the tests.
const PARTS: [Part; 3] = [
    Part {
        name: "host workspace",
        folder: "",
        arguments: &["test", "--workspace", "--release", "--no-fail-fast"],
        boots: false,
    },
    Part {
        name: "guest workspace, what runs on the host",
        folder: "guest",
        arguments: &[
            "test",
            "--release",
            "--no-fail-fast",
            "--package",
            "hermitage-loader",
            "--lib",
        ],
        boots: false,
    },
    Part {
        name: "virtual machines",
        folder: "",
        // One at a time: each has its own deadline, which several on one core would share.
        arguments: &[
            "test",
            "--workspace",
            "--release",
            "--no-fail-fast",
            "--tests",
            "--",
            "--ignored",
            "--test-threads=1",
        ],
        boots: true,
    },
];

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Count {
    /// Reads the line with which a test program ends: `test result: ok. 5 passed; 0 failed; ...`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let of = |word: &str| {
            let mut counts = counts.split("; ");
            counts.find_map(|count| count.strip_suffix(word)?.trim_end().parse().ok())
        };
        Some(Self {
            passed: of("passed")?,
            failed: of("failed")?,
        })
    }
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&host::TOOLS, printer)?;
    let mut total = Count::default();
    let mut broken = Vec::new();
    for part in PARTS.iter().filter(|part| !(part.boots && args.no_vm)) {
        printer.note(&format!("\n== tests: {}", part.name));
        let begin = Instant::now();
        if part.boots && !compose(printer)? {
            broken.push(part.name);
            continue;
        }
        let (count, success) = part.run(printer)?;
        total += count;
        if !success && count.failed == 0 {
            broken.push(part.name);
        }
        printer.note(&format!(
            "== {}: {} passed, {} failed, {:.0} s",
            part.name,
            count.passed,
            count.failed,
            begin.elapsed().as_secs_f64()
        ));
    }
    for name in &broken {
        printer.warn(&format!("error: tests did not all run: {name}"));
    }
    printer.data(&format!("{} passed, {} failed\n", total.passed, total.failed));
    Ok(ExitCode::from(u8::from(total.failed > 0 || !broken.is_empty())))
}

/// Composes what the machines boot, by the command that a user types: this very program may have been replaced by
/// a part that built it anew.
fn compose(printer: &Printer) -> Result<bool, Failure> {
    for package in ["kv", "node-micro"] {
        let mut command = cargo(&workspace::root(), &["xtask", "compose", package]);
        printer.detail(&host::shown(&command));
        let failed = |error| Failure::Failed(format!("cannot run `cargo xtask compose`: {error}"));
        if !command.status().map_err(failed)?.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Part {
    /// Runs the part, passing on what it prints, and counts.
    fn run(&self, printer: &Printer) -> Result<(Count, bool), Failure> {
        let mut command = cargo(&workspace::root().join(self.folder), self.arguments);
        printer.detail(&host::shown(&command));
        let failed = |error| Failure::Failed(format!("cannot run `cargo test`: {error}"));
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut count = Count::default();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.map_err(failed)?;
                let line = String::from_utf8_lossy(&line);
                printer.data(&format!("{line}\n"));
                if let Some(one) = Count::parse(&line) {
                    count += one;
                }
            }
        }
        let status = child.wait().map_err(failed)?;
        Ok((count, status.success()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_test_program_says_of_itself() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.27s";
        assert_eq!(
            Count::parse(line),
            Some(Count {
                passed: 12,
                failed: 3
            })
        );
        for line in [
            "",
            "test result: ok",
            "test a ... ok",
            " test result: ok. 1 passed; 0 failed",
        ] {
            assert_eq!(Count::parse(line), None, "{line:?}");
        }
    }
}
