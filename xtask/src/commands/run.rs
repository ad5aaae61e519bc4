//! `cargo xtask run`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;
use hermitage_boot::Reason;
use launcher::units::Variable;
use launcher::{
    AcceleratorChoice, Cpus, Entry, Forward, GuestExit, InstanceName, MacAddress, Machine, Memory, Network,
    RunRequest,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::printer::{Printer, Verbosity};
use crate::workspace;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask run kv -f 9000:9000
  cargo xtask run -m 200M --mac A2:13:15:00:80:02 -e \"db 10.0.2.2:9000\" -i node-micro db

The exit code is the guest's own; 101 after a panic, 134 after an abort, 137 out of memory, 139 after a fault, \
127 if the image has no such role, 126 if it cannot be started, 125 if the launcher cannot start or watch it.")]
pub(crate) struct Args {
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

    /// Print QEMU's command line, and run nothing
    #[arg(long)]
    dry_run: bool,
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

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let request = request(args, printer)?;
    let launch = launcher::plan(&request)?;
    if args.dry_run {
        printer.data(&format!("{}\n", launch.command_line()));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = launch.fallback() {
        printer.note(&format!("using tcg, which is slower: {why}"));
    }
    let root = launcher::environment::root().ok_or_else(|| {
        Failure::Usage("neither HERMITAGE_ROOT nor HOME says where instances are kept".to_owned())
    })?;
    // Before the start, so that no signal finds the default action and leaves the instance behind.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Failure::Failed(format!("cannot watch for Ctrl-C: {error}")))?;
    let machine = launch.start(&root, console(printer))?;
    printer.detail(&format!(
        "$ cd {} && {}",
        machine.folder().display(),
        machine.command_line()
    ));
    for forward in machine
        .spec()
        .forwards
        .iter()
        .filter(|forward| is_chosen(args, forward))
    {
        printer.note(&format!("forwarding {forward}"));
    }

    let handle = signals.handle();
    let (exit, signal) = thread::scope(|scope| {
        let watcher = scope.spawn(|| stop_on_signal(&mut signals, &machine));
        let exit = machine.wait();
        handle.close();
        (exit, watcher.join().unwrap_or_default())
    });
    Ok(report(&request.name, &exit, signal, printer))
}

/// Says how the guest ended, unless it is what every program does, and gives its exit code.
fn report(name: &InstanceName, exit: &GuestExit, signal: Option<i32>, printer: &Printer) -> ExitCode {
    match (exit, signal) {
        // As a shell has it for a program that a signal ended.
        (GuestExit::Stopped, Some(signal)) => {
            printer.note(&format!("{name}: stopped"));
            ExitCode::from(128 + u8::try_from(signal).unwrap_or_default())
        }
        (GuestExit::Ended(end), _) if end.reason == Reason::Exit => ExitCode::from(end.code),
        (GuestExit::Status(code), _) => ExitCode::from(*code),
        (exit, _) => {
            printer.warn(&format!("{name}: {exit}"));
            ExitCode::from(exit.code())
        }
    }
}

/// Stops the machine at the first signal, kills it at the second. Gives the first.
fn stop_on_signal(signals: &mut Signals, machine: &Machine) -> Option<i32> {
    let mut pending = signals.forever();
    let first = pending.next()?;
    thread::scope(|scope| {
        scope.spawn(|| machine.stop());
        if pending.next().is_some() {
            machine.kill();
        }
    });
    Some(first)
}

/// Whether the user left the choice of this forward's port to us, and so does not know it yet.
fn is_chosen(args: &Args, forward: &Forward) -> bool {
    !args.forward.contains(forward)
}

fn request(args: &Args, printer: &Printer) -> Result<RunRequest, Failure> {
    let (image, name) = match (&args.image, &args.first, &args.second) {
        (Some(image), name, None) => (image, name.as_ref()),
        (None, Some(image), name) => (image, name.as_ref()),
        _ => return Err(Failure::Usage("the image is given twice".to_owned())),
    };
    let (image, default_name) = find_image(image)?;
    let name = match (&args.name, name) {
        (Some(name), None) => name.clone(),
        (None, Some(name)) => parse_name(name)?,
        (None, None) => parse_name(&default_name)?,
        (Some(_), Some(_)) => return Err(Failure::Usage("the instance's name is given twice".to_owned())),
    };
    Ok(RunRequest {
        memory: args.memory,
        cpus: args.cpus,
        mac: args.mac,
        command: args.command.clone(),
        environment: args.env.clone(),
        network: args.network,
        forwards: args.forward.clone(),
        entry: match args.entry {
            EntryName::Direct => Entry::Direct,
            EntryName::Disk => Entry::Disk,
        },
        accelerator: match args.accel {
            AcceleratorName::Auto => AcceleratorChoice::Auto,
            AcceleratorName::Kvm => AcceleratorChoice::Kvm,
            AcceleratorName::Tcg => AcceleratorChoice::Tcg,
        },
        verbose: printer.verbosity() == Verbosity::Verbose,
        ..RunRequest::new(image, name)
    })
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
    let path = images.join(image).join(image).with_extension("qcow2");
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
        .filter(|name| images.join(name).join(name).with_extension("qcow2").exists())
        .collect();
    names.sort_unstable();
    names
}

/// The console on our stdout: byte for byte, or with times for who asked for more.
fn console(printer: &Printer) -> Box<dyn Write + Send> {
    match printer.verbosity() {
        Verbosity::Verbose => Box::new(Timed::new(io::stdout())),
        _ => Box::new(io::stdout()),
    }
}

/// Puts the milliseconds since its making before each line.
#[derive(Debug)]
struct Timed<W> {
    output: W,
    started: Instant,
    at_line_start: bool,
}

impl<W: Write> Timed<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            started: Instant::now(),
            at_line_start: true,
        }
    }
}

impl<W: Write> Write for Timed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.at_line_start {
                write!(self.output, "{:6} ", self.started.elapsed().as_millis())?;
            }
            self.output.write_all(line)?;
            self.at_line_start = line.ends_with(b"\n");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_one_time_before_each_line_however_it_arrives() {
        let mut timed = Timed::new(Vec::new());
        for part in ["one", " line\ntwo", "\n", "three\nfour"] {
            timed.write_all(part.as_bytes()).unwrap();
        }
        let text = String::from_utf8(timed.output).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.trim_start().split_once(' ').unwrap())
            .collect();
        let texts: Vec<_> = lines.iter().map(|(_, text)| *text).collect();
        assert_eq!(texts, ["one line", "two", "three", "four"]);
        assert!(lines.iter().all(|(time, _)| time.parse::<u64>().is_ok()));
    }
}
