//! The flags that say what is to run: from the command line to a [`RunRequest`].

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hermitage_boot::Ipv4Cidr;
use launcher::cpu::CpuModel;
use launcher::units::{InterfaceName, Label, Variable};
use launcher::volume::Volume;
use launcher::{
    AcceleratorChoice, CardChoice, Cpus, Entry, Forward, InstanceName, MacAddress, MachineType, Memory,
    Network, RunRequest,
};

use super::env_file;
use crate::failure::Failure;
use crate::printer::{Printer, Verbosity};
use crate::workspace;

/// What is to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Image: the name of a composed one, or a path; with --image, the instance's name
    #[arg(value_name = "IMAGE", required_unless_present = "image")]
    first: Option<String>,

    /// Name of the instance [default: the image's name]
    #[arg(value_name = "NAME", conflicts_with = "name")]
    second: Option<String>,

    /// Image: the name of a composed one, or a path
    #[arg(short, long, value_name = "IMAGE")]
    image: Option<String>,

    /// Name of the instance
    #[arg(long)]
    name: Option<InstanceName>,

    /// What you note about the instance, for `ps --filter`; it means nothing to the guest
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Label>,

    /// Command: a role of the image and its arguments, split by shell rules [default: the image's own]
    #[arg(short = 'e', long, value_name = "COMMAND", help_heading = GUEST)]
    command: Option<String>,

    /// Boot set: one of the commands that the image has by name, with its environment [default: the image's own]
    #[arg(long, value_name = "SET", help_heading = GUEST)]
    boot: Option<String>,

    /// Environment variable, added to the image's own or in place of it
    #[arg(long, value_name = "NAME=VALUE", help_heading = GUEST)]
    env: Vec<Variable>,

    /// File with a variable on each line; what --env says counts more
    #[arg(long, value_name = "FILE", help_heading = GUEST)]
    env_file: Vec<PathBuf>,

    /// Disk that outlives the instance: the name of a volume, or a path. The guest finds it by that name, or by LABEL
    #[arg(long, value_name = "VOLUME[:LABEL][:ro]", help_heading = GUEST)]
    volume: Vec<Volume>,

    /// Network: `user`, a NAT of its own for each guest; `lan`, a network of guests that see each other by name, the one
    /// that is named or `default`; these need no rights. `tap` or `bridge`, a port of a bridge of
    /// this host, or the tap device that is named; `vhost`, the same with frames moved by the host's kernel
    #[arg(short, long, value_name = "user|lan|tap|bridge|vhost[:NAME]", default_value_t, help_heading = NETWORK)]
    network: Network,

    /// Bridge for tap, bridge or vhost [default: br0 or virbr0]
    #[arg(short, long, value_name = "DEVICE", help_heading = NETWORK)]
    bridge: Option<InterfaceName>,

    /// Forward a port of this host, 127.0.0.1 unless an address is given; host port 0 is any free one
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]", help_heading = NETWORK)]
    forward: Vec<Forward>,

    /// How frames get to a lan: vhost-user is memory that its switch shares with the guest; auto is a socket where QEMU
    /// has no way to share it
    #[arg(long, value_enum, default_value_t, help_heading = NETWORK)]
    card: CardName,

    /// Name that it shares with others on a lan, beside its own
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    alias: Vec<String>,

    /// MAC address [default: derived from the instance's name]
    #[arg(long, value_name = "ADDRESS", help_heading = NETWORK)]
    mac: Option<MacAddress>,

    /// The guest's own address [default: leased by DHCP]
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = parse_cidr, help_heading = NETWORK)]
    ip: Option<Ipv4Cidr>,

    /// Router to other networks, with --ip
    #[arg(long, value_name = "ADDRESS", help_heading = NETWORK)]
    gateway: Option<Ipv4Addr>,

    /// Name server, up to three [default: those of the lease]
    #[arg(long, value_name = "ADDRESS", help_heading = NETWORK)]
    dns: Vec<Ipv4Addr>,

    /// Memory, such as 200M or 1G
    #[arg(short, long, value_name = "SIZE", default_value_t = Memory::DEFAULT, help_heading = MACHINE)]
    memory: Memory,

    /// Number of virtual CPUs
    #[arg(short, long, value_name = "N", default_value_t = Cpus::ONE, help_heading = MACHINE)]
    cpus: Cpus,

    /// Machine that QEMU emulates; microvm starts fastest, and has no PCI
    #[arg(short = 'M', long, value_enum, default_value_t, help_heading = MACHINE)]
    machine: MachineName,

    /// CPU model with its features, as QEMU writes it, such as qemu64 or max,-avx2 [default: all that there is]
    #[arg(long, value_name = "MODEL", help_heading = MACHINE)]
    cpu: Option<CpuModel>,

    /// Accelerator: auto is KVM where it works, else TCG
    #[arg(long, value_enum, default_value_t, help_heading = MACHINE)]
    accel: AcceleratorName,

    /// Way into the image: loaded by QEMU directly, or booted from the disk by the BIOS
    #[arg(long, value_enum, default_value_t, help_heading = MACHINE)]
    entry: EntryName,

    /// Wait for gdb on this port of 127.0.0.1 before the first instruction; port 0 is any free one
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = GDB_PORT,
          help_heading = MACHINE)]
    gdb: Option<u16>,

    /// One more argument for QEMU, behind ours
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, help_heading = MACHINE)]
    qemu_arg: Vec<String>,
}

const GUEST: &str = "Guest";
const NETWORK: &str = "Network";
const MACHINE: &str = "Machine";

/// Where QEMU's documentation, and so everybody's habit, has gdb connect.
const GDB_PORT: &str = "1234";

/// The ways to a lan, as the command line names them.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum CardName {
    #[default]
    Auto,
    VhostUser,
    Socket,
}

/// The ways in, as the command line names them.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum EntryName {
    #[default]
    Direct,
    Disk,
}

/// The machines, as the command line names them.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum MachineName {
    #[default]
    Pc,
    Q35,
    Microvm,
}

/// The accelerators, as the command line names them.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AcceleratorName {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

impl Flags {
    /// Whether the user gave the instance a name.
    pub(crate) fn has_name(&self) -> bool {
        let positional = if self.image.is_some() {
            &self.first
        } else {
            &self.second
        };
        self.name.is_some() || positional.is_some()
    }

    /// What is asked for, as the launcher takes it.
    pub(crate) fn read(&self, printer: &Printer) -> Result<RunRequest, Failure> {
        let (image, name) = match (&self.image, &self.first, &self.second) {
            (Some(image), name, None) => (image, name.as_ref()),
            (None, Some(image), name) => (image, name.as_ref()),
            _ => return Err(Failure::Usage("the image is given twice".to_owned())),
        };
        self.check_gdb_port()?;
        let (image, default_name) = find_image(image)?;
        let name = match (&self.name, name) {
            (Some(name), None) => name.clone(),
            (None, Some(name)) => parse_name(name)?,
            (None, None) => parse_name(&default_name)?,
            (Some(_), Some(_)) => {
                return Err(Failure::Usage("the instance's name is given twice".to_owned()));
            }
        };
        Ok(RunRequest {
            memory: self.memory,
            cpus: self.cpus,
            mac: self.mac,
            command: self.command.clone(),
            boot_set: self.boot.clone(),
            environment: self.environment()?,
            network: self.network.clone(),
            forwards: self.forward.clone(),
            entry: match self.entry {
                EntryName::Direct => Entry::Direct,
                EntryName::Disk => Entry::Disk,
            },
            accelerator: match self.accel {
                AcceleratorName::Auto => AcceleratorChoice::Auto,
                AcceleratorName::Kvm => AcceleratorChoice::Kvm,
                AcceleratorName::Tcg => AcceleratorChoice::Tcg,
            },
            cpu_model: self.cpu.clone(),
            machine: match self.machine {
                MachineName::Pc => MachineType::Pc,
                MachineName::Q35 => MachineType::Q35,
                MachineName::Microvm => MachineType::Microvm,
            },
            bridge: self.bridge.clone(),
            address: self.ip,
            aliases: self.alias.clone(),
            card: match self.card {
                CardName::Auto => CardChoice::Auto,
                CardName::VhostUser => CardChoice::VhostUser,
                CardName::Socket => CardChoice::Socket,
            },
            gateway: self.gateway,
            name_servers: self.dns.clone(),
            volumes: self.volumes()?,
            labels: self.label.clone(),
            gdb_port: self.gdb,
            qemu_arguments: self.qemu_arg.clone(),
            verbose: printer.verbosity() == Verbosity::Verbose,
            ..RunRequest::new(image, name)
        })
    }

    /// `--gdb 4000` would wait on another port, with an image or an instance called `4000`.
    fn check_gdb_port(&self) -> Result<(), Failure> {
        let is_port = |word: &&String| word.parse::<u16>().is_ok();
        let word = [&self.first, &self.second].into_iter().flatten().find(is_port);
        match word.filter(|_| self.gdb == GDB_PORT.parse().ok()) {
            None => Ok(()),
            Some(port) => Err(Failure::Usage(format!(
                "gdb's port is given as `--gdb={port}`; with a space between, `{port}` is the name of something else"
            ))),
        }
    }

    /// The variables of the files, then those of the command line: the last of a name counts.
    fn environment(&self) -> Result<Vec<Variable>, Failure> {
        let mut variables = Vec::new();
        for file in &self.env_file {
            variables.extend(env_file::read(file)?);
        }
        variables.extend(self.env.iter().cloned());
        Ok(variables)
    }

    /// The volumes, for whoever starts the instance again from another folder.
    fn volumes(&self) -> Result<Vec<Volume>, Failure> {
        let absolute = |volume: &Volume| volume.clone().absolute();
        let volumes: Result<_, _> = self.volume.iter().map(absolute).collect();
        volumes.map_err(|error| Failure::Failed(format!("there is no current folder: {error}")))
    }
}

fn parse_cidr(text: &str) -> Result<Ipv4Cidr, String> {
    let parsed = text.parse::<Ipv4Cidr>();
    parsed.map_err(|fault| format!("`{text}` {fault}; it has the form `192.168.7.2/24`"))
}

fn parse_name(text: &str) -> Result<InstanceName, Failure> {
    text.parse()
        .map_err(|error: launcher::units::ParseError| Failure::Usage(error.to_string()))
}

/// The image's file, and the name that an instance of it has unless another is given.
pub(crate) fn find_image(image: &str) -> Result<(PathBuf, String), Failure> {
    let path = Path::new(image);
    if image.contains('/') || path.extension().is_some_and(|extension| extension == "qcow2") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        return Ok((path.to_owned(), name.into_owned()));
    }
    let images = workspace::root().join("images");
    let path = images.join(image).join(format!("{image}.qcow2"));
    if path.exists() {
        return Ok((path, image.to_owned()));
    }
    Err(Failure::NoImage {
        name: image.to_owned(),
        composed: composed(&images),
    })
}

/// Names of the images that were composed.
pub(crate) fn composed(images: &Path) -> Vec<String> {
    let entries = fs::read_dir(images).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| images.join(name).join(format!("{name}.qcow2")).exists())
        .collect();
    names.sort_unstable();
    names
}
