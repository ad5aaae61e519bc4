//! `cargo xtask run`. What is to run is read from the command line by [`request`].

mod env_file;
pub(crate) mod request;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use hermitage_boot::Reason;
use launcher::instance::{Options, RestartPolicy};
use launcher::lifecycle;
use launcher::machine::STOP_PATIENCE;
use launcher::{Error, GuestExit, Instance, InstanceName, Launch, RunRequest, log};
use serde_json::json;

use crate::commands::front::{Console, Front};
use crate::commands::instance::facts::Facts;
use crate::commands::instance::{self, start};
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

    #[command(flatten)]
    keep: Keep,

    /// Print QEMU's command line, and run nothing
    #[arg(long)]
    dry_run: bool,

    /// Print as JSON what `--detach` started, as `ps --json` has it, or what `--dry-run` shows
    #[arg(long)]
    json: bool,
}

/// How the instance is run and kept.
#[derive(Debug, clap::Args)]
struct Keep {
    /// Run it in the background, and print its name
    #[arg(short, long)]
    detach: bool,

    /// Remove the instance when it has ended
    #[arg(long)]
    rm: bool,

    /// Start it again by itself: no, on-failure, on-failure:N or always
    #[arg(long, value_name = "POLICY", default_value_t)]
    restart: RestartPolicy,

    /// Remove an instance of that name first, if it does not run
    #[arg(long)]
    replace: bool,

    /// Size of the console's log after which the next file is begun, such as 500K or 10M
    #[arg(long, value_name = "SIZE", default_value = "10M", value_parser = log_size)]
    log_size: u64,

    /// Number of files that the console's log has at most
    #[arg(long, value_name = "N", default_value_t = log::Limits::default().files,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    log_files: u32,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    if args.keep.rm && args.keep.restart != RestartPolicy::No {
        return Err(Failure::Usage(
            "`--rm` removes an instance at its end, `--restart` starts it again: one of the two".to_owned(),
        ));
    }
    if args.json && !args.keep.detach && !args.dry_run {
        return Err(Failure::Usage(
            "`--json` goes with `--detach` or `--dry-run`: in front there is the guest's console".to_owned(),
        ));
    }
    let mut request = args.request.read(printer)?;
    if args.dry_run {
        show(&launcher::plan(&request)?, args.json, printer);
        return Ok(ExitCode::SUCCESS);
    }
    let (launch, instance) = create(args, &mut request)?;
    start::say_fallbacks(&launch, printer);
    let name = request.name.clone();
    if args.keep.detach {
        drop(launch);
        start::detach(instance, printer)?;
        if !args.json {
            printer.data(&format!("{name}\n"));
        } else if let Ok(seen) = instance::instances()?.see(&name) {
            printer.json(&Facts::of(&seen));
        } else {
            // With `--rm` it may be gone.
            printer.json(&json!({ "name": name.as_str() }));
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Before the start, so that no signal leaves the instance behind.
    let front = Front::take()?;
    printer.detail(&format!(
        "$ cd {} && {}",
        instance.folder().display(),
        launch.command_line()
    ));
    let supervised = lifecycle::supervise(instance, launch, console(printer))?;
    start::say_socket(supervised.spec(), printer);
    start::say_ports(
        &request,
        &supervised.spec().forwards,
        supervised.spec().gdb_port,
        printer,
    );
    let (_, signal) = front.wait(
        || supervised.wait(),
        || drop(supervised.stop(STOP_PATIENCE)),
        || drop(supervised.kill()),
    );
    Ok(report(&name, &supervised.finish(), signal, printer))
}

/// Makes the instance. One that was given no name takes the first that is free.
fn create(args: &Args, request: &mut RunRequest) -> Result<(Launch, Instance), Failure> {
    let instances = instance::instances()?;
    let base = request.name.clone();
    let has_name = args.request.has_name();
    let options = Options {
        restart: args.keep.restart,
        remove: args.keep.rm,
        log: log::Limits {
            size: args.keep.log_size,
            files: args.keep.log_files,
        },
    };
    loop {
        if !has_name && !args.keep.replace {
            request.name = instances.free_name(&base);
        }
        let launch = launcher::plan(request)?;
        if args.keep.replace {
            instances.make_room(&request.name)?;
        }
        match instances.create(&launch, options) {
            // Another one took the name just now.
            Err(Error::Exists { .. } | Error::Running { .. }) if !has_name && !args.keep.replace => {}
            created => return Ok((launch, created?)),
        }
    }
}

fn log_size(text: &str) -> Result<u64, String> {
    log::Limits::parse_size(text).map_err(|error| error.to_string())
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
        (GuestExit::Stopped | GuestExit::Killed, Some(signal)) => {
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

/// The console on our stdout: byte for byte, or with times for who asked for more.
fn console(printer: &Printer) -> Box<dyn Write + Send> {
    match printer.verbosity() {
        Verbosity::Verbose => Box::new(Console::new(Timed::new(io::stdout()))),
        _ => Box::new(Console::new(io::stdout())),
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
