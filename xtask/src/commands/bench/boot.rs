//! `cargo xtask bench boot`: launch of QEMU to the first answer over HTTP.
//!
//! In each round every guest boots once, one after the other, so that what else the machine does falls on all of
//! them alike; the first round warms caches up and does not count. Ratios to Linux travel between machines,
//! milliseconds do not.

use std::array;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hermitage_boot::control::mark;
use launcher::qemu::Qemu;
use launcher::{AcceleratorChoice, Entry, Forward, InstanceName, MachineType, Memory, RunRequest};
use serde::Serialize;

use super::linux::{self, Linux};
use super::probe;
use super::smallest::smallest;
use super::statistics::{extremes, median};
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Port of kv in the guest.
const KV_PORT: u16 = 9000;

/// Memory of our guests, in megabytes: the launcher's default.
const OUR_MEMORY: u32 = 64;

/// Memory of Linux, in megabytes: comfortably above the least that it needs.
const LINUX_MEMORY: u32 = 128;

/// How long a guest may take to answer, many times what the slowest needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// How many times its median a guest may take with little memory, before it counts as one that does not serve.
const PATIENCE: f64 = 6.0;

/// Arguments of `bench boot`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Leave out the search for the smallest memory
    #[arg(long)]
    no_memory: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Ours(MachineType, Entry),
    Linux(linux::Machine),
}

const SUBJECTS: [(Subject, &str); 6] = [
    (
        Subject::Ours(MachineType::Pc, Entry::Disk),
        "kv, pc, from the disk",
    ),
    (Subject::Ours(MachineType::Pc, Entry::Direct), "kv, pc"),
    (Subject::Ours(MachineType::Q35, Entry::Direct), "kv, q35"),
    (Subject::Ours(MachineType::Microvm, Entry::Direct), "kv, microvm"),
    (Subject::Linux(linux::Machine::Pc), "Linux, pc"),
    (Subject::Linux(linux::Machine::Microvm), "Linux, microvm"),
];

/// Where the yardsticks are in [`SUBJECTS`].
const LINUX_PC: usize = SUBJECTS.len() - 2;
const LINUX_MICROVM: usize = SUBJECTS.len() - 1;

/// What the time of our boot is spent on, in order.
const PHASES: [&str; 6] = [
    "QEMU, until the machine runs",
    "firmware",
    "loader",
    "kernel",
    "program, until it listens",
    "first answer",
];

/// One boot.
struct Boot {
    answer: Duration,
    /// The time of each of [`PHASES`]; none for Linux.
    phases: Option<[Duration; PHASES.len()]>,
}

/// What was found about a subject.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    of_linux_pc: f64,
    of_linux_microvm: f64,
    /// `null` if it was not looked for.
    smallest_memory_mb: Option<u32>,
    bytes_on_disk: u64,
    phases_ms: Vec<(&'static str, f64)>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    runs: u32,
    qemu: String,
    linux: String,
    accelerator: &'static str,
    elf_bytes: u64,
    rows: Vec<Row>,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&[host::QEMU], printer)?;
    let image = super::super::compose::compose("kv", printer)?;
    let bench = Bench {
        image: image.path,
        root: launcher::environment::root().ok_or_else(|| {
            Failure::Usage("neither HERMITAGE_ROOT nor HOME says where instances are kept".to_owned())
        })?,
        qemu: Qemu::find()?,
        linux: Linux::provide(printer)?,
        khz: Cell::new(None),
    };
    let mut boots: [Vec<Boot>; SUBJECTS.len()] = Default::default();
    for round in 0..=args.runs {
        printer.note(&match round {
            0 => "warming up".to_owned(),
            _ => format!("round {round} of {}", args.runs),
        });
        for (&(subject, name), boots) in SUBJECTS.iter().zip(&mut boots) {
            match (bench.boot(subject, memory_of(subject), DEADLINE)?, subject) {
                (Some(boot), _) if round > 0 => boots.push(boot),
                (Some(_), _) => {}
                // The yardstick may not work on every machine; the median is of what there is.
                (None, Subject::Linux(_)) => printer.note(&format!("{name} did not answer; left out")),
                (None, Subject::Ours(..)) => {
                    return Err(Failure::Failed(format!("{name} did not answer in {DEADLINE:?}")));
                }
            }
        }
    }
    let medians = boots.each_ref().map(|boots| median(&answers(boots)));
    let mut rows = Vec::new();
    for (index, &(subject, name)) in SUBJECTS.iter().enumerate() {
        let smallest_memory_mb = if args.no_memory || boots[index].is_empty() {
            None
        } else {
            printer.note(&format!("smallest memory: {name}"));
            let patience = Duration::from_secs_f64(medians[index] * PATIENCE / 1e3);
            smallest(memory_of(subject), |megabytes| {
                Ok::<_, Failure>(bench.boot(subject, megabytes, patience)?.is_some())
            })?
        };
        let (min_ms, max_ms) = extremes(&answers(&boots[index]));
        rows.push(Row {
            name,
            median_ms: medians[index],
            min_ms,
            max_ms,
            of_linux_pc: medians[index] / medians[LINUX_PC],
            of_linux_microvm: medians[index] / medians[LINUX_MICROVM],
            smallest_memory_mb,
            bytes_on_disk: match subject {
                Subject::Ours(..) => image.bytes,
                Subject::Linux(_) => bench.linux.size(),
            },
            phases_ms: phases(&boots[index]),
        });
    }
    let report = Report {
        runs: args.runs,
        qemu: bench.qemu.version()?.to_string(),
        linux: bench.linux.package.clone(),
        accelerator: "tcg",
        elf_bytes: bench.elf_size()?,
        rows,
    };
    if args.json {
        printer.json(&report);
    } else {
        printer.data(&report.text());
    }
    Ok(ExitCode::SUCCESS)
}

fn memory_of(subject: Subject) -> u32 {
    match subject {
        Subject::Ours(..) => OUR_MEMORY,
        Subject::Linux(_) => LINUX_MEMORY,
    }
}

fn answers(boots: &[Boot]) -> Vec<Duration> {
    boots.iter().map(|boot| boot.answer).collect()
}

/// The median of each phase.
fn phases(boots: &[Boot]) -> Vec<(&'static str, f64)> {
    let all: Vec<_> = boots.iter().filter_map(|boot| boot.phases).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let of = |index: usize| median(&all.iter().map(|phases| phases[index]).collect::<Vec<_>>());
    PHASES
        .into_iter()
        .enumerate()
        .map(|(index, name)| (name, of(index)))
        .collect()
}

/// What is needed to boot each subject.
struct Bench {
    image: PathBuf,
    root: PathBuf,
    qemu: Qemu,
    linux: Linux,
    /// Frequency of a guest's time-stamp counter, which our guests tell and Linux on the microvm must be told.
    khz: Cell<Option<u32>>,
}

impl Bench {
    /// Boots a subject; `None` if it does not answer in time, or ends.
    fn boot(&self, subject: Subject, megabytes: u32, deadline: Duration) -> Result<Option<Boot>, Failure> {
        match subject {
            Subject::Ours(machine, entry) => self.boot_ours(machine, entry, megabytes, deadline),
            Subject::Linux(machine) => {
                let answer = self.linux.first_answer(
                    &self.qemu.program,
                    machine,
                    megabytes,
                    self.khz.get(),
                    deadline,
                )?;
                Ok(answer.map(|answer| Boot { answer, phases: None }))
            }
        }
    }

    fn boot_ours(
        &self,
        machine: MachineType,
        entry: Entry,
        megabytes: u32,
        deadline: Duration,
    ) -> Result<Option<Boot>, Failure> {
        let failed = |error: launcher::units::ParseError| Failure::Failed(error.to_string());
        let name: InstanceName = format!("bench-{}", std::process::id()).parse().map_err(failed)?;
        let memory: Memory = format!("{megabytes}M").parse().map_err(failed)?;
        let request = RunRequest {
            memory,
            machine,
            entry,
            // Linux is measured under TCG: with KVM here the ratios would mean nothing.
            accelerator: AcceleratorChoice::Tcg,
            forwards: vec![Forward::tcp_from_any_port(KV_PORT)],
            trace: true,
            ..RunRequest::new(&self.image, name)
        };
        let machine = launcher::plan(&request)?.start(&self.root, io::sink())?;
        let Some(forward) = machine.spec().forwards.first() else {
            return Ok(None);
        };
        let begin = machine.started();
        let Ok(listening) = machine.wait_mark(mark::LISTEN, deadline) else {
            return Ok(None);
        };
        let over = || machine.wait_for(Duration::ZERO).is_some();
        let Some(answered) = probe::first_answer(SocketAddr::V4(forward.host), begin + deadline, over) else {
            return Ok(None);
        };
        let khz = linux::khz_of(&machine);
        self.khz.set(khz);
        let khz =
            khz.ok_or_else(|| Failure::Failed("the guest does not say how fast its clock is".to_owned()))?;
        // The guest's clock starts with the machine; one moment that both clocks saw joins it to ours.
        let guest = |tsc: u64| Duration::from_secs_f64(tsc as f64 / f64::from(khz) / 1e3);
        let mut points = [Duration::ZERO; PHASES.len() - 1];
        for (point, mark) in
            points[1..]
                .iter_mut()
                .zip([mark::LOADER, mark::KERNEL, mark::MAIN, mark::LISTEN])
        {
            *point = guest(machine.wait_mark(mark, deadline)?.tsc);
        }
        let machine_began = (listening.at - begin).saturating_sub(guest(listening.tsc));
        let mut phases = [machine_began; PHASES.len()];
        for (phase, pair) in phases[1..].iter_mut().zip(points.windows(2)) {
            *phase = pair[1].saturating_sub(pair[0]);
        }
        phases[PHASES.len() - 1] = answered - listening.at;
        Ok(Some(Boot {
            answer: answered - begin,
            phases: Some(phases),
        }))
    }

    /// Size of kv's program in the image.
    fn elf_size(&self) -> Result<u64, Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::Failed(format!("cannot read the image: {error}"));
        let image = hermitage_disk::open_image(&self.image).map_err(|error| failed(&error))?;
        let files = image.root().map_err(|error| failed(&error))?;
        let program = files.resolve(b"/bin/kv").map_err(|error| failed(&error))?;
        Ok(program.size())
    }
}

impl Report {
    fn text(&self) -> String {
        let number = |ms: f64| format!("{ms:.0}").replace("NaN", "-");
        let ratio = |ratio: f64| format!("{ratio:.3}").replace("NaN", "-");
        let mut table = Table::new([
            ("launch of QEMU to the first answer", Align::Left),
            ("median ms", Align::Right),
            ("min", Align::Right),
            ("max", Align::Right),
            ("x Linux pc", Align::Right),
            ("x Linux microvm", Align::Right),
            ("smallest -m, MB", Align::Right),
            ("on disk, MB", Align::Right),
        ]);
        for row in &self.rows {
            table.row([
                row.name.to_owned(),
                number(row.median_ms),
                number(row.min_ms),
                number(row.max_ms),
                ratio(row.of_linux_pc),
                ratio(row.of_linux_microvm),
                row.smallest_memory_mb
                    .map_or("-".to_owned(), |megabytes| megabytes.to_string()),
                format!("{:.2}", row.bytes_on_disk as f64 / 1e6),
            ]);
        }
        // One column for each of ours, which come first.
        let mut phases = Table::new(array::from_fn::<_, { 1 + LINUX_PC }, _>(|column| match column {
            0 => ("phase, median ms", Align::Left),
            _ => (SUBJECTS[column - 1].1, Align::Right),
        }));
        for (phase, name) in PHASES.iter().enumerate() {
            phases.row(array::from_fn(|column| match column {
                0 => (*name).to_owned(),
                _ => {
                    let time = self.rows[column - 1].phases_ms.get(phase);
                    time.map_or("-".to_owned(), |time| format!("{:.1}", time.1))
                }
            }));
        }
        format!(
            "{table}\n{phases}\n{} rounds, QEMU {}, {}, 1 vCPU; {}\nkv: {:.2} MB of ELF\n",
            self.runs,
            self.qemu,
            self.accelerator,
            self.linux,
            self.elf_bytes as f64 / 1e6
        )
    }
}
