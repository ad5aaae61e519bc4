//! `cargo xtask bench lan`: what a network carries between two guests, the rootless LAN beside a bridge of the host.
//!
//! In each round each network gets two new guests, one that serves and one that measures, so that what else the machine
//! does falls on all of them alike. The bridge needs root; it is in a network namespace of the benchmark's own, where
//! all of it runs then.

mod probe;

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use launcher::{AcceleratorChoice, RunRequest};
use serde::Serialize;

use super::statistics::middle;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::table::{Align, Table};
use crate::workspace;

/// How long a guest may measure, many times what it takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// The bridge, in the namespace.
const BRIDGE: &str = "br0";

/// Arguments of `bench lan`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// This process has a network namespace of its own
    #[arg(long, hide = true)]
    in_namespace: bool,
}

/// What two guests saw of a network.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    round_trip_us: f64,
    requests_per_second: f64,
    megabytes_per_second: f64,
}

/// Medians of a network's rounds.
#[derive(Debug, Serialize)]
struct Row {
    network: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&[host::QEMU], printer)?;
    let is_root = rustix::process::geteuid().is_root();
    if is_root && !args.in_namespace {
        return within_namespace(args);
    }
    let mut networks = vec![("lan", "rootless LAN")];
    if is_root {
        make_bridge()?;
        networks.push(("bridge", "tap with a bridge"));
    } else {
        printer.warn("not root: the LAN is measured alone, without a bridge beside it");
    }
    printer.note("composing the guests' image");
    let image = probe::compose_probe(&workspace::root().join("target/bench"))
        .map_err(|error| Failure::Failed(format!("cannot compose the guests' image: {error}")))?;
    // Networks of its own, whose addresses are nobody's yet.
    let root = tempfile::tempdir()
        .map_err(|error| Failure::Failed(format!("cannot make a folder for the guests: {error}")))?;
    let mut samples = vec![Vec::new(); networks.len()];
    for round in 1..=args.rounds {
        for ((network, name), samples) in networks.iter().zip(&mut samples) {
            printer.note(&format!("round {round} of {}: {name}", args.rounds));
            samples.push(measure(network, &image, root.path())?);
        }
    }
    let rows: Vec<_> = networks
        .iter()
        .zip(&samples)
        .map(|(&(_, network), samples)| Row {
            network,
            figures: medians(samples),
        })
        .collect();
    if args.json {
        printer.json(&rows);
    } else {
        printer.data(&table(&rows).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts this command again, in a network namespace of its own.
fn within_namespace(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("cannot run `unshare`: {error}"));
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(std::env::current_exe().map_err(failed)?)
        .args(["bench", "lan", "--in-namespace", "--rounds"])
        .arg(args.rounds.to_string())
        .args(args.json.then_some("--json"));
    let status = command.status().map_err(failed)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn make_bridge() -> Result<(), Failure> {
    for arguments in [
        format!("link add {BRIDGE} type bridge"),
        format!("link set {BRIDGE} up"),
        "link set lo up".to_owned(),
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(Failure::Failed(format!("`ip {arguments}` has failed")));
        }
    }
    Ok(())
}

/// Starts two guests on a network; what the one saw of the other.
fn measure(network: &str, image: &Path, root: &Path) -> Result<Figures, Failure> {
    let start = |role: &str, address: &str, command: String| {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let name = format!("bench-{role}-{}", std::process::id());
        let request = RunRequest {
            command: Some(command),
            network: network.parse().map_err(|error| failed(&error))?,
            address: Some(address.parse().map_err(|error| failed(&error))?),
            // Comparable on every machine: what is measured is the network, and half of it is QEMU.
            accelerator: AcceleratorChoice::Tcg,
            ..RunRequest::new(image, name.parse().map_err(|error| failed(&error))?)
        };
        Ok::<_, Failure>(launcher::plan(&request)?.start(root, io::sink())?)
    };
    let server = start("server", "10.89.0.200/24", "probe load-server".to_owned())?;
    let client = start(
        "client",
        "10.89.0.201/24",
        "probe load 10.89.0.200:9000".to_owned(),
    )?;
    let exit = client.wait_for(DEADLINE);
    let said = String::from_utf8_lossy(&client.console()?).into_owned();
    server.kill();
    if exit.is_none_or(|exit| exit.code() != 0) {
        return Err(Failure::Failed(format!(
            "guest did not measure to its end: {said}"
        )));
    }
    let figure = |name: &str| {
        let value = said
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        value.ok_or_else(|| Failure::Failed(format!("guest said no `{name}`: {said}")))
    };
    Ok(Figures {
        round_trip_us: figure("round-trip-ns")? / 1e3,
        requests_per_second: figure("requests-per-second")?,
        megabytes_per_second: figure("bytes-per-second")? / 1e6,
    })
}

fn medians(samples: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| middle(samples.iter().map(figure).collect());
    Figures {
        round_trip_us: of(|sample| sample.round_trip_us),
        requests_per_second: of(|sample| sample.requests_per_second),
        megabytes_per_second: of(|sample| sample.megabytes_per_second),
    }
}

fn table(rows: &[Row]) -> Table<4> {
    let mut table = Table::new([
        ("NETWORK", Align::Left),
        ("ROUND TRIP", Align::Right),
        ("REQUESTS/S", Align::Right),
        ("MB/S", Align::Right),
    ]);
    for Row { network, figures } in rows {
        table.row([
            (*network).to_owned(),
            format!("{:.0} us", figures.round_trip_us),
            format!("{:.0}", figures.requests_per_second),
            format!("{:.1}", figures.megabytes_per_second),
        ]);
    }
    table
}
