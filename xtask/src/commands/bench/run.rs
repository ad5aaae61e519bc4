//! `cargo xtask bench run`: requests per second, and how fast a guest comes and goes, beside Linux.
//!
//! In each round every guest is started once and sees every load, one after the other, so that what else the machine
//! does falls on all of them alike. Client and guest share the machine: ratios to Linux travel, figures do not.
//!
//! - [`load`]: the clients;
//! - [`report`]: what is said of it;
//! - [`many`]: instead of all that, a long load, or many machines; [`resident`]: the memory that they take.

mod load;
mod many;
mod report;
mod resident;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hermitage_boot::control::mark;
use launcher::qemu::Qemu;
use launcher::{AcceleratorChoice, Forward, InstanceName, Machine, Memory, RunRequest};

use self::load::{Load, Seen};
use self::report::{Report, Sample};
use super::linux::Linux;
use super::probe;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;

/// Port of kv in the guest.
const KV_PORT: u16 = 9000;

/// Memory of our guests, in megabytes: the launcher's default.
const OUR_MEMORY: u32 = 64;

/// Memory of Linux, in megabytes: comfortably above the least that it needs.
const LINUX_MEMORY: u32 = 128;

/// How long a guest may take to answer, many times what the slowest needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// The load before the load that counts: QEMU without KVM translates code when it runs for the first time.
const WARM_UP: Duration = Duration::from_millis(500);

/// The loads, in the order in which each guest sees them.
const LOADS: [Load; 6] = {
    const fn load(connections: u32, keep_alive: bool) -> Load {
        Load {
            connections,
            keep_alive,
        }
    }
    [
        load(1, true),
        load(8, true),
        load(50, true),
        load(1, false),
        load(8, false),
        load(50, false),
    ]
};

/// Arguments of `bench run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Seconds for each load in each round
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Measure this image of kv, and compose none
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    /// Instead: 50 clients for so many seconds, and what becomes of the memory
    #[arg(long, value_name = "S", conflicts_with = "crowd", value_parser = clap::value_parser!(u64).range(4..))]
    soak: Option<u64>,

    /// Instead: so many machines at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    crowd: Option<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Ours,
    Linux,
}

const SUBJECTS: [(Subject, &str); 2] = [(Subject::Ours, "kv"), (Subject::Linux, "Linux, pc")];

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&[host::QEMU], printer)?;
    let image = match &args.image {
        Some(image) => image.clone(),
        None => super::super::compose::compose("kv", printer)?.path,
    };
    let bench = Bench {
        image,
        root: launcher::environment::root().ok_or_else(|| {
            Failure::Usage("neither HERMITAGE_ROOT nor HOME says where instances are kept".to_owned())
        })?,
        qemu: Qemu::find()?,
        linux: Linux::provide(printer)?,
        time: Duration::from_secs(args.seconds),
    };
    if let Some(seconds) = args.soak {
        let soak = many::soak(&bench, seconds, printer)?;
        print(args.json, &soak, many::Soak::text, printer);
        return Ok(ExitCode::from(u8::from(soak.has_errors())));
    }
    if let Some(count) = args.crowd {
        print(
            args.json,
            &many::crowd(&bench, count)?,
            many::Crowd::text,
            printer,
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut samples: [Vec<Sample>; SUBJECTS.len()] = Default::default();
    for round in 1..=args.rounds {
        for (&(subject, name), samples) in SUBJECTS.iter().zip(&mut samples) {
            printer.note(&format!("round {round} of {}: {name}", args.rounds));
            samples.push(match subject {
                Subject::Ours => bench.ours()?,
                Subject::Linux => bench.linux()?,
            });
        }
    }
    let [ours, linux] = samples;
    let report = Report::new(
        args.rounds,
        args.seconds,
        bench.qemu.version()?,
        &bench.linux,
        &ours,
        &linux,
    );
    print(args.json, &report, Report::text, printer);
    Ok(ExitCode::SUCCESS)
}

fn print<T: serde::Serialize>(json: bool, found: &T, text: fn(&T) -> String, printer: &Printer) {
    if json {
        printer.json(found);
    } else {
        printer.data(&text(found));
    }
}

/// What is needed to start each subject.
struct Bench {
    image: PathBuf,
    root: PathBuf,
    qemu: Qemu,
    linux: Linux,
    /// Of each load.
    time: Duration,
}

impl Bench {
    fn ours(&self) -> Result<Sample, Failure> {
        let name = format!("bench-{}", std::process::id());
        let machine = self.start(&name)?;
        let begin = machine.started();
        let main = machine.wait_mark(mark::MAIN, DEADLINE)?.at - begin;
        machine.wait_mark(mark::LISTEN, DEADLINE)?;
        let server = server_of(&machine)?;
        let over = || machine.wait_for(Duration::ZERO).is_some();
        let answered = probe::first_answer(server, begin + DEADLINE, over)
            .ok_or_else(|| Failure::Failed(format!("kv did not answer in {DEADLINE:?}")))?;
        let seen = self.loads(server)?;
        let begin_stop = Instant::now();
        machine.stop();
        Ok(Sample {
            main: Some(main),
            answer: Some(answered - begin),
            stop: Some(begin_stop.elapsed()),
            seen,
        })
    }

    fn linux(&self) -> Result<Sample, Failure> {
        let guest = self
            .linux
            .serving(&self.qemu.program, LINUX_MEMORY, DEADLINE)?
            .ok_or_else(|| Failure::Failed(format!("Linux did not serve in {DEADLINE:?}")))?;
        Ok(Sample {
            main: None,
            answer: None,
            stop: None,
            seen: self.loads(guest.server)?,
        })
    }

    /// Starts kv as the launcher would.
    fn start(&self, name: &str) -> Result<Machine, Failure> {
        let failed = |error: launcher::units::ParseError| Failure::Failed(error.to_string());
        let name: InstanceName = name.parse().map_err(failed)?;
        let memory: Memory = format!("{OUR_MEMORY}M").parse().map_err(failed)?;
        let request = RunRequest {
            memory,
            // Linux is measured under TCG: with KVM here the ratios would mean nothing.
            accelerator: AcceleratorChoice::Tcg,
            forwards: vec![Forward::tcp_from_any_port(KV_PORT)],
            trace: true,
            ..RunRequest::new(&self.image, name)
        };
        Ok(launcher::plan(&request)?.start(&self.root, io::sink())?)
    }

    fn loads(&self, server: SocketAddr) -> Result<[Seen; LOADS.len()], Failure> {
        let mut all: [Seen; LOADS.len()] = Default::default();
        for (load, seen) in LOADS.into_iter().zip(&mut all) {
            *seen = load::run(server, load, WARM_UP, self.time)
                .map_err(|error| Failure::Failed(format!("cannot load the guest: {error}")))?;
        }
        Ok(all)
    }
}

fn server_of(machine: &Machine) -> Result<SocketAddr, Failure> {
    let forward = machine.spec().forwards.first();
    forward
        .map(|forward| SocketAddr::V4(forward.host))
        .ok_or_else(|| Failure::Failed("the guest has no port".to_owned()))
}
