//! `cargo xtask network`: the rootless networks of guests.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;
use hermitage_network::control::{Client, ControlError, Member};
use hermitage_network::server::{LINGER, Server};
use hermitage_network::store::StoreError;
use hermitage_network::{NetworkName, Settings, Store, Subnet};
use serde::Serialize;

use super::instance;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Arguments of `network`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask network create node-micro
  cargo xtask run -n lan:node-micro kv
  cargo xtask network inspect node-micro

A network has a switch and a gateway of its own, which gives each guest an address by its MAC and
names through DNS, and needs no rights. Its process runs as long as guests use it. The network
`default` is always there.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the networks
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  cargo xtask network ls --json"
    )]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a network
    #[command(after_help = "Example:\n  cargo xtask network create node-micro --subnet 10.90.0.0/24")]
    Create {
        /// Its name: small letters, digits and `-`
        name: NetworkName,

        /// Its addresses; several networks can have the same, since they do not see each other
        #[arg(long, default_value_t)]
        subnet: Subnet,

        /// Let guests reach the host's 127.0.0.1 at the gateway's address
        #[arg(long)]
        host_access: bool,
    },
    /// Remove networks that nobody uses, with the addresses that they gave out
    #[command(after_help = "Example:\n  cargo xtask network rm node-micro")]
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<NetworkName>,
    },
    /// Show a network: its addresses, its guests, their names, what they sent
    #[command(after_help = "Example:\n  cargo xtask network inspect --json node-micro")]
    Inspect {
        /// Its name
        #[arg(default_value_t)]
        name: NetworkName,

        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Be a network's process, until nobody uses it
    #[command(hide = true)]
    Serve {
        /// Its name
        name: NetworkName,
    },
}

/// A line of `network ls`.
#[derive(Debug, Serialize)]
struct Listed {
    name: NetworkName,
    subnet: Subnet,
    host_access: bool,
    /// The guests; none where it does not run.
    guests: Vec<String>,
}

/// What `network inspect` shows.
#[derive(Debug, Serialize)]
struct Inspected {
    name: NetworkName,
    subnet: Subnet,
    gateway: std::net::Ipv4Addr,
    host_access: bool,
    /// The network's process; none where nobody uses it.
    process: Option<u32>,
    guests: Vec<Member>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let root = instance::root()?;
    let store = Store::new(&root);
    match &args.command {
        Command::Ls { json } => list(&store, *json, printer)?,
        Command::Create {
            name,
            subnet,
            host_access,
        } => {
            let settings = Settings {
                subnet: *subnet,
                host_access: *host_access,
            };
            store.create(name, &settings)?;
            printer.data(&format!("{name}\n"));
        }
        Command::Rm { names } => {
            for name in names {
                store.remove(name)?;
                printer.data(&format!("{name}\n"));
            }
        }
        Command::Inspect { name, json } => inspect(&store, name, *json, printer)?,
        Command::Serve { name } => serve(&store, name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The network's process and its guests, where it runs.
pub(super) fn members(store: &Store, name: &NetworkName) -> Result<(Option<u32>, Vec<Member>), StoreError> {
    let Some(mut client) = Client::connect(&store.folder(name))? else {
        return Ok((None, Vec::new()));
    };
    match client.members() {
        Ok(members) => Ok((client.process().ok(), members)),
        // It ends when nobody uses it, perhaps now.
        Err(ControlError::Lost { .. }) => Ok((None, Vec::new())),
        Err(error) => Err(error.into()),
    }
}

fn list(store: &Store, json: bool, printer: &Printer) -> Result<(), Failure> {
    let mut networks = Vec::new();
    for name in store.names()? {
        let settings = match store.settings(&name) {
            Ok(settings) => settings,
            // One that is damaged hides no other.
            Err(error) => {
                printer.warn(&format!("network `{name}`: {error}"));
                continue;
            }
        };
        let (_, members) = members(store, &name)?;
        let guests = members.into_iter().map(|member| member.name).collect();
        networks.push(Listed {
            name,
            subnet: settings.subnet,
            host_access: settings.host_access,
            guests,
        });
    }
    if json {
        printer.json(&networks);
        return Ok(());
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("SUBNET", Align::Left),
        ("HOST", Align::Left),
        ("GUESTS", Align::Left),
    ]);
    for network in networks {
        table.row([
            network.name.to_string(),
            network.subnet.to_string(),
            if network.host_access { "reachable" } else { "-" }.to_owned(),
            joined(&network.guests),
        ]);
    }
    printer.data(&table.to_string());
    Ok(())
}

fn inspect(store: &Store, name: &NetworkName, json: bool, printer: &Printer) -> Result<(), Failure> {
    let settings = store.settings(name)?;
    let (process, guests) = members(store, name)?;
    let inspected = Inspected {
        name: name.clone(),
        subnet: settings.subnet,
        gateway: settings.subnet.gateway(),
        host_access: settings.host_access,
        process,
        guests,
    };
    if json {
        printer.json(&inspected);
        return Ok(());
    }
    let access = if settings.host_access {
        "; it leads to the host's 127.0.0.1"
    } else {
        ""
    };
    let mut text = format!(
        "subnet   {}\ngateway  {}{access}\n",
        inspected.subnet, inspected.gateway
    );
    if let Some(process) = inspected.process {
        text += &format!("process  {process}\n");
    }
    if !inspected.guests.is_empty() {
        let mut table = Table::new([
            ("GUEST", Align::Left),
            ("ADDRESS", Align::Left),
            ("MAC", Align::Left),
            ("ALSO CALLED", Align::Left),
            ("SENT", Align::Right),
            ("RECEIVED", Align::Right),
            ("REFUSED", Align::Right),
            ("DROPPED", Align::Right),
        ]);
        for guest in &inspected.guests {
            table.row([
                guest.name.clone(),
                guest.address.to_string(),
                guest.mac.clone(),
                joined(&guest.aliases),
                guest.counters.sent.to_string(),
                guest.counters.received.to_string(),
                guest.counters.refused.to_string(),
                guest.counters.dropped.to_string(),
            ]);
        }
        text += &format!("\n{table}");
    }
    printer.data(&text);
    Ok(())
}

fn joined(words: &[String]) -> String {
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}

/// Says `ready` on stdout once it listens, so that whoever started it need not try.
fn serve(store: &Store, name: &NetworkName) -> Result<(), Failure> {
    let settings = store.settings(name)?;
    let server = Server::open(&store.folder(name), name.as_str(), &settings)?;
    // Who waits for it may be gone.
    let _ = io::stdout().write_all(b"ready\n");
    Ok(server.run(LINGER)?)
}
