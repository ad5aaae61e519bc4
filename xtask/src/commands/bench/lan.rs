//! `cargo xtask bench lan`: what a network carries between two guests, the rootless LAN - by shared memory and by sockets -
//! beside QEMU's own sockets and a bridge of the host. It is a part of `bench app`, too.
//!
//! In each round each network gets two new guests, one that serves and one that measures, so that what else the machine
//! does falls on all of them alike. The bridge needs root; it is in a network namespace of the benchmark's own, where
//! all of it runs then.

pub(super) mod probe;

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use launcher::{AcceleratorChoice, CardChoice, RunRequest};
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Figures {
    round_trip_us: f64,
    requests_per_second: f64,
    megabytes_per_second: f64,
}

/// Medians of a network's rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    network: String,
    #[serde(flatten)]
    figures: Figures,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The rootless LAN.
    Lan(CardChoice),
    /// A socket between the two QEMUs, and nothing else.
    Socket,
    /// A bridge with a tap device for each guest.
    Bridge,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Lan(CardChoice::Socket) => "rootless LAN, sockets",
            Self::Lan(_) => "rootless LAN, vhost-user",
            Self::Socket => "QEMU's own socket, no switch",
            Self::Bridge => "tap with a bridge",
        }
    }
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let rows = if args.in_namespace {
        make_bridge()?;
        measure_all(args.rounds, true, printer)?
    } else {
        rows(args.rounds, printer)?
    };
    if args.json {
        printer.json(&rows);
    } else {
        printer.data(&table(&rows).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures; as root in a network namespace of its own, where a bridge can be.
pub(super) fn rows(rounds: u32, printer: &Printer) -> Result<Vec<Row>, Failure> {
    host::ensure(&[host::QEMU], printer)?;
    if rustix::process::geteuid().is_root() {
        within_namespace(rounds)
    } else {
        printer.warn("not root: the LAN is measured without a bridge beside it");
        measure_all(rounds, false, printer)
    }
}

fn measure_all(rounds: u32, with_bridge: bool, printer: &Printer) -> Result<Vec<Row>, Failure> {
    let mut ways = vec![
        Way::Lan(CardChoice::VhostUser),
        Way::Lan(CardChoice::Socket),
        Way::Socket,
    ];
    ways.extend(with_bridge.then_some(Way::Bridge));
    printer.note("composing the guests' image");
    let image = probe::compose_probe(&workspace::root().join("target/bench"))
        .map_err(|error| Failure::Failed(format!("cannot compose the guests' image: {error}")))?;
    // Networks of its own, whose addresses are nobody's yet.
    let root = tempfile::tempdir()
        .map_err(|error| Failure::Failed(format!("cannot make a folder for the guests: {error}")))?;
    let mut samples = vec![Vec::new(); ways.len()];
    for round in 1..=rounds {
        for (way, samples) in ways.iter().zip(&mut samples) {
            printer.note(&format!("round {round} of {rounds}: {}", way.name()));
            samples.push(measure(*way, &image, root.path())?);
        }
    }
    let row = |(way, samples): (&Way, &Vec<_>)| Row {
        network: way.name().to_owned(),
        figures: medians(samples),
    };
    Ok(ways.iter().zip(&samples).map(row).collect())
}

/// Starts this command again, in a network namespace of its own; what it measured.
fn within_namespace(rounds: u32) -> Result<Vec<Row>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("cannot measure: {error}"));
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(program)
        .args(["bench", "lan", "--in-namespace", "--json", "--rounds"])
        .arg(rounds.to_string())
        .stderr(Stdio::inherit());
    let output = command.output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
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
fn measure(way: Way, image: &Path, root: &Path) -> Result<Figures, Failure> {
    let socket = root.join("socket");
    let network = |server: &str| match way {
        Way::Lan(_) => "lan".to_owned(),
        Way::Socket => {
            let path = socket.display();
            format!("qemu:stream,server={server},addr.type=unix,addr.path={path}")
        }
        Way::Bridge => "bridge".to_owned(),
    };
    let start = |role: &str, network: &str, address: &str, command: String| {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let name = format!("bench-{role}-{}", std::process::id());
        let request = RunRequest {
            command: Some(command),
            network: network.parse().map_err(|error| failed(&error))?,
            card: match way {
                Way::Lan(card) => card,
                Way::Socket | Way::Bridge => CardChoice::default(),
            },
            address: Some(address.parse().map_err(|error| failed(&error))?),
            // Comparable on every machine: what is measured is the network, and half of it is QEMU.
            accelerator: AcceleratorChoice::Tcg,
            ..RunRequest::new(image, name.parse().map_err(|error| failed(&error))?)
        };
        Ok::<_, Failure>(launcher::plan(&request)?.start(root, io::sink())?)
    };
    let (server, client) = (network("on"), network("off"));
    let command = "probe load-server".to_owned();
    let server = start("server", &server, "10.89.0.200/24", command)?;
    let command = "probe load 10.89.0.200:9000".to_owned();
    let client = start("client", &client, "10.89.0.201/24", command)?;
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

pub(super) fn table(rows: &[Row]) -> Table<4> {
    let mut table = Table::new([
        ("NETWORK", Align::Left),
        ("ROUND TRIP", Align::Right),
        ("REQUESTS/S", Align::Right),
        ("MB/S", Align::Right),
    ]);
    for Row { network, figures } in rows {
        table.row([
            network.clone(),
            format!("{:.0} us", figures.round_trip_us),
            format!("{:.0}", figures.requests_per_second),
            format!("{:.1}", figures.megabytes_per_second),
        ]);
    }
    table
}
