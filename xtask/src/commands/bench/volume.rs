//! `cargo xtask bench volume`: how fast a volume is beside Linux; and whether it keeps what it promised ([`cuts`]).
//!
//! In each round our guest and Linux run the same program (`guest/probe/src/measure.rs`), each on a fresh volume of the
//! same kind under the same QEMU. Ratios travel between machines, figures do not.

mod cuts;
mod yardstick;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hermitage_disk::qcow2::Qcow2;
use launcher::qemu::Qemu;
use launcher::{AcceleratorChoice, RunRequest};
use serde_json::json;

use super::lan::probe::compose_probe;
use super::linux::Linux;
use super::statistics::middle;
use crate::cargo::cargo;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::table::{Align, Table};
use crate::workspace;

/// Bytes of a volume: more than is used.
const SIZE: u64 = 128 << 20;

/// Memory of both guests, in megabytes: comfortably above the least that Linux needs.
const MEMORY: u32 = 128;

/// How long a guest may take, many times what the slowest needs.
const DEADLINE: Duration = Duration::from_secs(240);

/// What the program calls a row, what it is, and the bytes of one operation; 0 where they are not the point.
const ROWS: [(&str, &str, u64); 9] = [
    ("read-sequential", "read 4 KiB, in order", 4096),
    ("read-random", "read 4 KiB, anywhere", 4096),
    ("read-threads", "read 4 KiB, anywhere, 4 threads", 4096),
    ("read-long", "read 256 KiB, in order", 256 << 10),
    ("write-sequential", "write 4 KiB, in order", 4096),
    ("write-random", "write 4 KiB, anywhere", 4096),
    ("write-long", "write 256 KiB, in order", 256 << 10),
    ("write-flush", "write 4 KiB, flush", 0),
    ("redb-commit", "transaction of redb, safe", 0),
];

/// Arguments of `bench volume`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Instead: upload pictures to the example application, and cut the power so often
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cuts: Option<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&host::TOOLS, printer)?;
    if let Some(cuts) = args.cuts {
        return cuts::run(cuts, args.json, printer);
    }
    let folder = tempfile::tempdir().map_err(failed("make a folder"))?;
    let bench = Bench {
        image: compose_probe(&workspace::root().join("target/bench")).map_err(failed("compose the probe"))?,
        program: build_program()?,
        linux: Linux::provide(printer)?,
        qemu: Qemu::find()?,
        folder: folder.path().to_owned(),
    };
    let (mut ours, mut linux) = (Samples::default(), Samples::default());
    for round in 1..=args.rounds {
        printer.note(&format!("round {round} of {}", args.rounds));
        ours.take(&bench.ours()?)?;
        linux.take(&bench.linux()?)?;
    }
    print(args, &ours, &linux, printer);
    Ok(ExitCode::SUCCESS)
}

/// What is needed to measure each.
struct Bench {
    image: PathBuf,
    /// What Linux runs.
    program: PathBuf,
    linux: Linux,
    qemu: Qemu,
    folder: PathBuf,
}

impl Bench {
    /// A fresh volume.
    fn volume(&self) -> Result<PathBuf, Failure> {
        let path = self.folder.join("bench.qcow2");
        // The last one's, if there was one.
        let _ = std::fs::remove_file(&path);
        Qcow2::create(&path, SIZE).map_err(failed("make a volume"))?;
        Ok(path)
    }

    /// What the program writes in our guest.
    fn ours(&self) -> Result<String, Failure> {
        let invalid = |error: launcher::units::ParseError| Failure::Failed(error.to_string());
        let volume = self.volume()?.display().to_string();
        let request = RunRequest {
            command: Some("probe measure bench".to_owned()),
            memory: format!("{MEMORY}M").parse().map_err(invalid)?,
            accelerator: AcceleratorChoice::Tcg,
            volumes: vec![volume.parse().map_err(invalid)?],
            ..RunRequest::new(&self.image, "bench".parse().map_err(invalid)?)
        };
        let machine = launcher::plan(&request)?.start(&self.folder, io::sink())?;
        let end = machine.wait_for(DEADLINE);
        let console = String::from_utf8_lossy(&machine.console()?).into_owned();
        match end {
            Some(_) => Ok(console),
            None => Err(Failure::Failed(format!("no end within {DEADLINE:?}: {console}"))),
        }
    }

    /// What it writes under Linux.
    fn linux(&self) -> Result<String, Failure> {
        let volume = self.volume()?;
        self.linux
            .measure(&self.qemu.program, MEMORY, &self.program, &volume)
    }
}

/// Nanoseconds of an operation in each round, for each row.
#[derive(Default)]
struct Samples([Vec<f64>; ROWS.len()]);

impl Samples {
    fn take(&mut self, console: &str) -> Result<(), Failure> {
        for ((name, ..), samples) in ROWS.iter().zip(&mut self.0) {
            let found = console.lines().find_map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["row", row, operations, time] if row == name => {
                        Some(time.parse::<f64>().ok()? / operations.parse::<f64>().ok()?)
                    }
                    _ => None,
                }
            });
            samples.push(found.ok_or_else(|| Failure::Failed(format!("no row `{name}` in: {console}")))?);
        }
        Ok(())
    }
}

/// The program that Linux runs, which needs nothing but the kernel.
fn build_program() -> Result<PathBuf, Failure> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let folder = workspace::root().join("guest/probe");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from);
    let arguments = [
        "build",
        "--quiet",
        "--release",
        "--bin",
        "probe-linux",
        "--target",
        TARGET,
    ];
    let mut command = cargo(&folder, &arguments);
    command
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = command.status().map_err(failed("build what Linux runs"))?;
    match status.success() {
        true => Ok(target.join(TARGET).join("release/probe-linux")),
        false => Err(Failure::Failed("what Linux runs was not built".to_owned())),
    }
}

fn print(args: &Args, ours: &Samples, linux: &Samples, printer: &Printer) {
    let rows = ROWS.iter().zip(ours.0.iter().zip(&linux.0));
    let rows = rows.map(|(row, (ours, linux))| (row, middle(ours.clone()), middle(linux.clone())));
    if args.json {
        let rows = rows.map(|((name, ..), ours, linux)| {
            json!({ "row": name, "nanoseconds": ours, "linux_nanoseconds": linux, "x_linux": linux / ours })
        });
        printer.json(&json!({ "rounds": args.rounds, "rows": rows.collect::<Vec<_>>() }));
        return;
    }
    let mut table = Table::new([
        ("what", Align::Left),
        ("us", Align::Right),
        ("Linux, us", Align::Right),
        ("per s", Align::Right),
        ("MiB/s", Align::Right),
        ("x Linux", Align::Right),
    ]);
    for ((_, what, bytes), ours, linux) in rows {
        let rate = match bytes {
            0 => "-".to_owned(),
            bytes => format!("{:.0}", *bytes as f64 / f64::from(1 << 20) / (ours / 1e9)),
        };
        table.row([
            (*what).to_owned(),
            format!("{:.0}", ours / 1e3),
            format!("{:.0}", linux / 1e3),
            format!("{:.0}", 1e9 / ours),
            rate,
            format!("{:.2}", linux / ours),
        ]);
    }
    printer.table(table);
}

fn failed<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::Failed(format!("cannot {step}: {error}"))
}
