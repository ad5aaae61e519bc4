//! `cargo xtask bench run`: requests per second, and how fast a guest comes and goes, beside Linux.
//!
//! In each round every guest is started once and sees every load, one after the other, so that what else the machine
//! does falls on all of them alike. Client and guest share the machine: ratios to Linux travel, figures do not.
//!
//! - [`guest`]: what serves;
//! - [`load`]: the clients;
//! - [`report`]: what is said of it;
//! - [`many`]: instead of all that, a long load, or many machines; [`resident`]: the memory that they take.

mod guest;
mod load;
mod many;
mod report;
mod resident;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use launcher::qemu::Qemu;

use self::guest::{Bench, SUBJECTS, Subject};
use self::load::{Load, Seen};
use self::report::{Report, Sample};
use super::linux::Linux;
use super::stock;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;

/// How long a guest may take to answer, many times what the slowest needs, also where much else runs.
const DEADLINE: Duration = Duration::from_secs(60);

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

    /// Leave out the stock kernel, which takes some minutes to build for the first time
    #[arg(long)]
    no_stock: bool,

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

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&[host::QEMU], printer)?;
    let is_for_ours_alone = args.soak.is_some() || args.crowd.is_some();
    let image = match &args.image {
        Some(image) => image.clone(),
        None => super::super::compose::compose("kv", printer)?.path,
    };
    let stock = match args.no_stock || is_for_ours_alone {
        true => None,
        false => Some(stock::image(printer)?),
    };
    let bench = Bench {
        image,
        stock,
        root: launcher::environment::root().ok_or_else(|| {
            Failure::Usage("neither HERMITAGE_ROOT nor HOME says where instances are kept".to_owned())
        })?,
        qemu: Qemu::find()?,
        linux: Linux::provide(printer)?,
        khz: Cell::new(None),
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
            match sample(&bench, subject, Duration::from_secs(args.seconds)) {
                Ok(sample) => samples.extend(sample),
                // Its defects are not ours to stop for.
                Err(failure) if subject == Subject::Stock => {
                    printer.note(&format!("{name}: left out of this round: {failure}"));
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    let report = Report::new(
        args.rounds,
        args.seconds,
        bench.qemu.version()?,
        &bench.linux,
        &samples,
    );
    print(args.json, &report, Report::text, printer);
    Ok(ExitCode::SUCCESS)
}

/// One round of one guest, with each load for `time`; `None` if it is left out.
fn sample(bench: &Bench, subject: Subject, time: Duration) -> Result<Option<Sample>, Failure> {
    let Some(mut guest) = bench.guest(subject)? else {
        return Ok(None);
    };
    let times = guest.times;
    let mut all: [Seen; LOADS.len()] = Default::default();
    for (load, seen) in LOADS.into_iter().zip(&mut all) {
        *seen = load::run(guest.server, load, WARM_UP, time)
            .map_err(|error| Failure::Failed(format!("cannot load the guest: {error}")))?;
        // One that answers no more would say nothing of the next load.
        if !load::answers(guest.server) {
            seen.stalled = true;
            drop(guest);
            let Some(another) = bench.guest(subject)? else {
                return Ok(None);
            };
            guest = another;
        }
    }
    let stop = guest.stop();
    Ok(Some(Sample {
        times,
        stop,
        seen: all,
    }))
}

fn print<T: serde::Serialize>(json: bool, found: &T, text: fn(&T) -> String, printer: &Printer) {
    if json {
        printer.json(found);
    } else {
        printer.data(&text(found));
    }
}
