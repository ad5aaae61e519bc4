//! `cargo xtask bench app`: the example application as a stack: how fast it is up, pictures per second, and what its
//! network carries, which is `bench lan`.
//!
//! In each round the stack comes up from nothing, and takes the same pictures with each number of workers in turn; all of
//! them share the machine with the client.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use hermitage_micro::address::Endpoint;
use hermitage_micro::{Client, form};
use launcher::Instances;
use serde_json::{Value, json};
use stack::member::members;
use stack::{Runner, Stack};

use super::lan;
use super::statistics::{extremes, median};
use crate::commands::instance::start::supervisor;
use crate::commands::stack as stacks;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// The stack that is measured.
const STACK: &str = "node-micro";

/// Numbers of workers.
const WORKERS: [u16; 3] = [1, 2, 4];

/// Size of each picture: storage keeps all of a round's, with their results, in its memory.
const SIZE: &str = "320x240";

/// Uploads at a time.
const JOBS: usize = 4;

/// How often it is asked whether all are finished.
const PERIOD: Duration = Duration::from_millis(20);

/// How long the pictures of one run may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// Arguments of `bench app`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Pictures for each number of workers
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    host::ensure(&host::TOOLS, printer)?;
    let mut stack = stacks::read(STACK)?;
    let image = stacks::image(&stack, printer)?;
    let picture = picture(SIZE, 1)?;
    let (mut up, mut pictures) = (Vec::new(), WORKERS.map(|_| Vec::new()));
    for round in 1..=args.rounds {
        printer.note(&format!("round {round} of {}", args.rounds));
        let root = tempfile::tempdir().map_err(failed("make a folder"))?;
        let bench = Bench {
            runner: Runner {
                root: root.path(),
                supervisor: &supervisor,
                observer: &|_| {},
            },
            stack: &mut stack,
            image: &image,
        };
        bench.round(&picture, args.pictures, &mut up, &mut pictures)?;
    }
    let network = lan::rows(args.rounds, printer)?;
    if args.json {
        let rates = WORKERS.iter().zip(&pictures);
        let rates = rates.map(|(workers, times)| {
            json!({ "workers": workers, "milliseconds": median(times), "pictures": args.pictures })
        });
        let rates = rates.collect::<Vec<_>>();
        printer.json(&json!({ "up_milliseconds": median(&up), "rates": rates, "network": network }));
    } else {
        print(args.pictures, &up, &pictures, printer);
        printer.data(&format!("\n{}", lan::table(&network)));
    }
    Ok(ExitCode::SUCCESS)
}

/// A stack in a place of its own; gone when this is.
struct Bench<'a> {
    runner: Runner<'a>,
    stack: &'a mut Stack,
    image: &'a Path,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // What stays, after an error that is being told, is in a folder that is removed.
        let _ = self.runner.down(STACK, &[]);
    }
}

impl Bench<'_> {
    fn round(
        self,
        picture: &[u8],
        count: u32,
        up: &mut Vec<Duration>,
        pictures: &mut [Vec<Duration>],
    ) -> Result<(), Failure> {
        self.stack.scale("worker", 1)?;
        let begin = Instant::now();
        self.runner.up(self.stack, self.image, None)?;
        up.push(begin.elapsed());
        let master = self.master()?;
        // QEMU without KVM translates code when it runs for the first time.
        let mut finished = work(&master, picture, JOBS as u32, 0)?.1;
        for (workers, times) in WORKERS.into_iter().zip(pictures) {
            self.stack.scale("worker", workers)?;
            self.runner.up(self.stack, self.image, Some("worker"))?;
            let time;
            (time, finished) = work(&master, picture, count, finished)?;
            times.push(time);
        }
        Ok(())
    }

    fn master(&self) -> Result<Endpoint, Failure> {
        let found = stacks::master(&members(&Instances::below(self.runner.root)?)?);
        found.ok_or_else(|| Failure::Failed(format!("stack `{STACK}` forwards no port to master")))
    }
}

/// Uploads pictures, and waits until they are finished, beside the `before` ones that were; gives the time, and how many are
/// finished then.
fn work(master: &Endpoint, picture: &[u8], count: u32, before: u64) -> Result<(Duration, u64), Failure> {
    let begin = Instant::now();
    let client = Client::default();
    let next = std::sync::atomic::AtomicU32::new(0);
    let upload = || {
        while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < count {
            let url = master.url("/task");
            let sent = form::send_picture("bench.png", &mut &*picture, |content| {
                client.post(&url, Some(content))
            });
            let status = sent.map_err(failed("upload"))?.status();
            if status != 200 {
                return Err(Failure::Failed(format!("an upload was answered with {status}")));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..JOBS).map(|_| scope.spawn(upload)).collect();
        let join = |job: thread::ScopedJoinHandle<'_, _>| {
            job.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        jobs.into_iter().try_for_each(join)
    })?;
    let expected = before + u64::from(count);
    while begin.elapsed() < DEADLINE {
        let text = client.get(&master.url("/tasks")).map_err(failed("ask master"))?;
        let tasks: Value = serde_json::from_str(&text.text().map_err(failed("ask master"))?)
            .map_err(failed("ask master"))?;
        if tasks["counts"]["failed"] != 0 {
            return Err(Failure::Failed(
                "a task failed: is storage's memory full?".to_owned(),
            ));
        }
        if tasks["counts"]["finished"] == expected {
            return Ok((begin.elapsed(), expected));
        }
        thread::sleep(PERIOD);
    }
    Err(Failure::Failed(format!(
        "{count} pictures were not finished within {DEADLINE:?}"
    )))
}

/// A picture that does not compress well, as photographs do not.
pub(super) fn picture(size: &str, seed: u32) -> Result<Vec<u8>, Failure> {
    let mut convert = Command::new("convert");
    convert.args([
        "-size",
        size,
        "-seed",
        &seed.to_string(),
        "plasma:red-blue",
        "png24:-",
    ]);
    let output = convert.output().map_err(failed("run `convert`"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(Failure::Failed("`convert` makes no picture".to_owned())),
    }
}

fn failed<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::Failed(format!("cannot {step}: {error}"))
}

fn print(count: u32, up: &[Duration], pictures: &[Vec<Duration>], printer: &Printer) {
    let mut table = Table::new([
        ("what", Align::Left),
        ("median, ms", Align::Right),
        ("min", Align::Right),
        ("max", Align::Right),
        ("pictures/s", Align::Right),
    ]);
    let row = |what: String, times: &[Duration], rate: String| {
        let (min, max) = extremes(times);
        [
            what,
            format!("{:.0}", median(times)),
            format!("{min:.0}"),
            format!("{max:.0}"),
            rate,
        ]
    };
    table.row(row("up, six services ready".to_owned(), up, String::new()));
    for (workers, times) in WORKERS.iter().zip(pictures) {
        let rate = f64::from(count) * 1e3 / median(times);
        let what = format!("{count} pictures of {SIZE}, workers: {workers}");
        table.row(row(what, times, format!("{rate:.1}")));
    }
    printer.table(table);
}
