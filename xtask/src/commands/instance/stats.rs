//! `cargo xtask stats`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use hermitage_network::{NetworkName, Store};
use launcher::instance::Seen;
use launcher::network::Network;
use launcher::service;
use launcher::usage::{Traffic, Usage};
use launcher::{InstanceName, Instances};
use serde::Serialize;

use super::{instances, root};
use crate::commands::network;
use crate::failure::Failure;
use crate::printer::{self, Printer};
use crate::table::{Align, Table, mebibytes};

/// Time over which the use of CPUs is measured, and after which the table is printed anew.
const PERIOD: Duration = Duration::from_secs(1);

/// Arguments of `stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stats
  cargo xtask stats --no-stream --json kv

CPU is that of QEMU: 100% is one core of this host. RESIDENT is what it has in memory, the guest's part and its own.
RECEIVED and SENT are what this host counts, on a tap device or a LAN. QEMU counts nothing on its user network: there
it is what the guest says; of one that does not, - is shown.")]
pub(crate) struct Args {
    /// The instances [default: all that run]
    #[arg(value_name = "NAME")]
    names: Vec<InstanceName>,

    /// Print it once, over one second
    #[arg(long)]
    no_stream: bool,

    /// Print it as JSON; without --no-stream a list each second
    #[arg(long)]
    json: bool,
}

/// What an instance uses.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Cores of this host.
    cpus: f64,
    resident_bytes: u64,
    /// By the guest, where it is known.
    received_bytes: Option<u64>,
    sent_bytes: Option<u64>,
    memory_mib: u32,
    vcpus: u8,
    qemu_pid: u32,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    printer::end_when_unread();
    let instances = instances()?;
    let mut before = HashMap::new();
    look(&instances, &args.names, &mut before)?;
    // A screen is drawn over; a file or a pipe gets one table after the other.
    let clear = std::io::stdout().is_terminal() && !args.no_stream && !args.json;
    loop {
        thread::sleep(PERIOD);
        let rows = look(&instances, &args.names, &mut before)?;
        if clear {
            printer.data("\x1b[H\x1b[2J");
        }
        let is_read = if args.json {
            printer.bytes(format!("{}\n", serde_json::json!(rows)).as_bytes())
        } else {
            printer.table(table(&rows))
        };
        if args.no_stream || !is_read {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What each of them has used since the last time.
fn look(
    instances: &Instances,
    names: &[InstanceName],
    before: &mut HashMap<String, Usage>,
) -> Result<Vec<Row>, Failure> {
    let seen: Vec<Seen> = if names.is_empty() {
        // One that is gone now, or damaged, uses nothing.
        instances
            .names()?
            .iter()
            .filter_map(|name| instances.see(name).ok())
            .collect()
    } else {
        names
            .iter()
            .map(|name| instances.see(name))
            .collect::<Result<_, _>>()?
    };
    let on_lans = on_lans(&seen)?;
    let said = said(&seen);
    let mut now = HashMap::new();
    let rows = seen.iter().zip(said).filter_map(|(seen, said)| {
        let process = seen.state.qemu.as_ref()?;
        let usage = Usage::of(process).ok()?;
        let name = seen.name.to_string();
        let on_lan = || {
            let mac = seen.record.request.mac?.to_string();
            on_lans.get(&(lan(seen)?.clone(), mac)).copied()
        };
        let traffic = usage.traffic.or_else(on_lan).or(said);
        let cpus = before.get(&name).map_or(0.0, |before| usage.cpus_since(before));
        now.insert(name.clone(), usage);
        Some(Row {
            name,
            cpus,
            resident_bytes: usage.resident,
            received_bytes: traffic.map(|traffic| traffic.received),
            sent_bytes: traffic.map(|traffic| traffic.sent),
            memory_mib: seen.record.request.memory.mib(),
            vcpus: seen.record.request.cpus.get(),
            qemu_pid: process.pid,
        })
    });
    let rows = rows.collect();
    *before = now;
    Ok(rows)
}

/// The traffic of the guests on LANs, by network and MAC address: one that was renamed has its old name there.
fn on_lans(seen: &[Seen]) -> Result<BTreeMap<(NetworkName, String), Traffic>, Failure> {
    let store = Store::new(&root()?);
    let mut all = BTreeMap::new();
    let lans: BTreeSet<_> = seen.iter().filter_map(lan).collect();
    for lan in lans {
        // A process that does not answer knows nothing.
        let (_, members) = network::members(&store, lan).unwrap_or_default();
        all.extend(members.into_iter().map(|member| {
            let counters = member.counters;
            let (received, sent) = (counters.received_bytes, counters.sent_bytes);
            ((lan.clone(), member.mac), Traffic { received, sent })
        }));
    }
    Ok(all)
}

/// What guests say that went over their cards, where the host does not know it. All are asked at a time, so that those that
/// do not answer are waited for once.
fn said(seen: &[Seen]) -> Vec<Option<Traffic>> {
    let ask = |seen: &Seen| match seen.record.request.network {
        // One that runs no more, or is of another version, says nothing.
        Network::User | Network::Qemu(_) => service::traffic(seen).ok().flatten(),
        _ => None,
    };
    thread::scope(|scope| {
        let asked: Vec<_> = seen.iter().map(|seen| scope.spawn(move || ask(seen))).collect();
        // A thread that panicked has nothing to say.
        asked
            .into_iter()
            .map(|thread| thread.join().ok().flatten())
            .collect()
    })
}

/// The LAN that an instance is on.
fn lan(seen: &Seen) -> Option<&NetworkName> {
    match &seen.record.request.network {
        Network::Lan(name) => Some(name),
        _ => None,
    }
}

fn table(rows: &[Row]) -> Table<8> {
    let right = |name| (name, Align::Right);
    let mut table = Table::new([
        ("NAME", Align::Left),
        right("CPU"),
        right("RESIDENT"),
        right("RECEIVED"),
        right("SENT"),
        right("MEMORY"),
        right("VCPUS"),
        right("PID"),
    ]);
    for row in rows {
        table.row([
            row.name.clone(),
            format!("{:.1}%", row.cpus * 100.0),
            mebibytes(row.resident_bytes),
            row.received_bytes.map_or_else(|| "-".to_owned(), mebibytes),
            row.sent_bytes.map_or_else(|| "-".to_owned(), mebibytes),
            format!("{}M", row.memory_mib),
            row.vcpus.to_string(),
            row.qemu_pid.to_string(),
        ]);
    }
    table
}
