//! The flags that say what is to run: from the command line to a [`RunRequest`].

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use launcher::units::Variable;
use launcher::{
    AcceleratorChoice, Cpus, Entry, Forward, InstanceName, MacAddress, Memory, Network, RunRequest,
};

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

    /// Memory, such as 200M or 1G
    #[arg(short, long, value_name = "SIZE", default_value_t = Memory::DEFAULT)]
    memory: Memory,

    /// Number of virtual CPUs
    #[arg(short, long, value_name = "N", default_value_t = Cpus::ONE)]
    cpus: Cpus,

    /// MAC address [default: derived from the instance's name]
    #[arg(long, value_name = "ADDRESS")]
    mac: Option<MacAddress>,

    /// Command: a role of the image and its arguments, split by shell rules [default: the image's own]
    #[arg(short = 'e', long, value_name = "COMMAND")]
    command: Option<String>,

    /// Boot set: one of the commands that the image has by name, with its environment [default: the image's own]
    #[arg(long, value_name = "SET")]
    boot: Option<String>,

    /// Environment variable, added to the image's own or in place of it
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<Variable>,

    /// Network; `user` is a NAT of its own for each guest and needs no rights
    #[arg(short, long, default_value = "user", value_parser = parse_network)]
    network: Network,

    /// Forward a port of this host, 127.0.0.1 unless an address is given; host port 0 is any free one
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]")]
    forward: Vec<Forward>,

    /// Way into the image: loaded by QEMU directly, or booted from the disk by the BIOS
    #[arg(long, value_enum, default_value_t)]
    entry: EntryName,

    /// Accelerator: auto is KVM where it works, else TCG
    #[arg(long, value_enum, default_value_t)]
    accel: AcceleratorName,
}

/// The ways in, as the command line names them.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum EntryName {
    #[default]
    Direct,
    Disk,
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
    /// What is asked for, as the launcher takes it.
    pub(crate) fn read(&self, printer: &Printer) -> Result<RunRequest, Failure> {
        let (image, name) = match (&self.image, &self.first, &self.second) {
            (Some(image), name, None) => (image, name.as_ref()),
            (None, Some(image), name) => (image, name.as_ref()),
            _ => return Err(Failure::Usage("the image is given twice".to_owned())),
        };
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
            environment: self.env.clone(),
            network: self.network,
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
            verbose: printer.verbosity() == Verbosity::Verbose,
            ..RunRequest::new(image, name)
        })
    }
}

fn parse_network(text: &str) -> Result<Network, &'static str> {
    match text {
        "user" => Ok(Network::User),
        "tap" | "bridge" | "vhost" | "lan" => Err("this network is not available yet; `user` is"),
        _ => Err("there is no such network; `user` is one"),
    }
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
fn composed(images: &Path) -> Vec<String> {
    let entries = fs::read_dir(images).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| images.join(name).join(format!("{name}.qcow2")).exists())
        .collect();
    names.sort_unstable();
    names
}
