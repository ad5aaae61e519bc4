//! `cargo xtask run`. What is to run is read from the command line by [`request`].

mod env_file;
pub(crate) mod request;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use hermitage_boot::Reason;
use launcher::{Forward, GuestExit, InstanceName, Launch, Machine, RunRequest};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::printer::{Printer, Verbosity};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask run kv -f 9000:9000
  cargo xtask run -m 200M -c 1 -n vhost --mac A2:13:15:00:80:02 -e \"db 192.168.122.15:9000\" -i node-micro db
  cargo xtask run kv --ip 192.168.7.2/24 -n tap:tap0

The exit code is the guest's own; 101 after a panic, 134 after an abort, 137 out of memory, 139 after a fault, \
127 if the image has no such role, 126 if it cannot be started, 125 if the launcher cannot start or watch it.")]
pub(crate) struct Args {
    #[command(flatten)]
    request: request::Flags,

    /// Print QEMU's command line, and run nothing
    #[arg(long)]
    dry_run: bool,

    /// Print it as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let request = args.request.read(printer)?;
    let launch = launcher::plan(&request)?;
    if args.dry_run {
        show(&launch, args.json, printer);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = launch.fallback() {
        printer.note(&format!("using tcg, which is slower: {why}"));
    }
    if let Some(why) = launch.no_vhost() {
        printer.note(&format!("using a plain tap device, which is slower: {why}"));
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
        .filter(|forward| is_chosen(&request, forward))
    {
        printer.note(&format!("forwarding {forward}"));
    }
    if let Some(port) = machine.spec().gdb_port {
        printer.note(&format!(
            "waiting for gdb, which says when to start: target remote 127.0.0.1:{port}"
        ));
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

/// Shows what would be run.
fn show(launch: &Launch, json: bool, printer: &Printer) {
    let line = launch.command_line();
    if json {
        printer.json(&json!({ "program": launch.program(), "arguments": line.arguments() }));
    } else {
        printer.data(&format!("{line}\n"));
    }
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
fn is_chosen(request: &RunRequest, forward: &Forward) -> bool {
    !request.forwards.contains(forward)
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
