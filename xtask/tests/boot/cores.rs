//! Stories of a guest's cores. Each patch named failed its story before it was there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use launcher::{MachineType, RunRequest};

use super::machine::on;
use super::seen;
use super::tcp::Listening;

fn with_cores(cpus: &str, machine: MachineType, command: &str) -> RunRequest {
    RunRequest {
        cpus: cpus.parse().unwrap(),
        ..on(machine, command)
    }
}

/// Patches 0066 and 0079: whoever shares a core with the thread that was woken only gives way, or computes.
#[test]
#[ignore = "boots virtual machines"]
fn a_thread_that_was_woken_runs_beside_one_that_is_busy() {
    for command in ["probe give-way", "probe keep-busy"] {
        for cpus in ["1", "2", "4"] {
            let seen = seen(&with_cores(cpus, MachineType::Pc, command));
            assert_eq!(
                seen.console, "all have run\n",
                "{command}, {cpus} cores: {seen:?}"
            );
        }
    }
}

/// Patch 0077.
#[test]
#[ignore = "boots virtual machines"]
fn a_thread_may_be_woken_twice() {
    let seen = seen(&with_cores("2", MachineType::Pc, "probe wake-twice 1000"));
    assert_eq!(seen.console, "all are awake\n", "{seen:?}");
}

/// Patch 0076. A core that starts a thread on another one is interrupted, and wants to tell the other one something, too.
#[test]
#[ignore = "boots virtual machines"]
fn a_core_that_starts_threads_may_be_interrupted() {
    let seen = seen(&with_cores("2", MachineType::Pc, "probe start-threads 10000"));
    assert_eq!(seen.console, "all have ended\n", "{seen:?}");
}

/// Patch 0078. The core that the card interrupts finds the network taken by one that is not there for the card's frames.
#[test]
#[ignore = "boots virtual machines"]
fn a_core_that_opens_sockets_keeps_no_frames_waiting() {
    /// Without the patch no guest on a busy host came further than a hundred and ten.
    const REQUESTS: usize = 500;
    /// With it the slowest of 6000 answers took 0.4 s there.
    const PATIENCE: Duration = Duration::from_secs(5);
    let others = Burners::start();
    let guest = Listening::start(with_cores("2", MachineType::Pc, "probe open-sockets"));
    let mut client = guest.connect();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 0..REQUESTS {
        let (asked, mut answer) = ([number as u8], [0]);
        client.write_all(&asked).unwrap();
        let answered = client.read_exact(&mut answer);
        assert!(answered.is_ok(), "request {number}: {answered:?}");
        assert_eq!(answer, asked);
    }
    drop(others);
}

/// Patch 0022. Of the time that passes, a guest that sleeps takes 2 % on a quiet machine, on any number of cores.
#[test]
#[ignore = "boots virtual machines"]
fn cores_that_have_nothing_to_do_cost_nothing() {
    const MOST: f64 = 0.2;
    for machine in [MachineType::Pc, MachineType::Microvm] {
        let guest = Listening::start(with_cores("4", machine, "probe load-server"));
        let begun = Instant::now();
        // Until it sleeps, a guest works; how long that takes is the host's affair.
        let idle = (0..20).any(|_| {
            let (time, before) = (Instant::now(), processor_times(&guest));
            thread::sleep(Duration::from_secs(1));
            let worked: Duration = worked_since(&before, &guest).iter().sum();
            worked.as_secs_f64() < MOST * time.elapsed().as_secs_f64()
        });
        assert!(idle, "{machine:?}: busy after {:?}", begun.elapsed());
    }
}

/// What counts is the cores' time on the host, not the time that passes: so this holds on a host without a core to spare.
#[test]
#[ignore = "boots virtual machines"]
fn two_cores_share_work_and_one_that_has_none_costs_nothing() {
    /// The host's cores may share their units, and are then slower when both work.
    const FASTER: f64 = 1.2;
    const TRIES: usize = 5;
    let guest = Listening::start(with_cores("2", MachineType::Pc, "probe compute"));
    let mut client = guest.connect();
    // The busiest of QEMU's threads first.
    let mut work = |threads: u8| {
        let before = processor_times(&guest);
        client.write_all(&[threads]).unwrap();
        client.read_exact(&mut [0]).unwrap();
        worked_since(&before, &guest)
    };
    let mut tries = Vec::new();
    let shared = (0..TRIES).any(|_| {
        let (one, two) = (work(1), work(2));
        let idles = one[1] < one[0] / 10;
        let faster = two[0].mul_f64(FASTER) < one[0];
        tries.push((one, two));
        idles && faster
    });
    assert!(
        shared,
        "each of QEMU's threads, with one thread, with two: {tries:?}"
    );
}

/// Patch 0075. With locks that went round, each turn took a time slice of the host: two cores served 1/20 of what one did.
#[test]
#[ignore = "boots virtual machines"]
fn two_cores_serve_kept_connections_on_a_busy_host() {
    const LEAST: usize = 8;
    let others = Burners::start();
    let [one, two] = ["1", "2"].map(|cpus| {
        let guest = Listening::start(with_cores(cpus, MachineType::Pc, "probe load-server"));
        answers(&guest)
    });
    drop(others);
    assert!(two * LEAST > one, "{one} answers with one core, {two} with two");
}

/// How many answers eight clients have within a second and a half, each on a connection that it keeps.
fn answers(guest: &Listening) -> usize {
    const CLIENTS: usize = 8;
    const TIME: Duration = Duration::from_millis(1500);
    let ask = |mut stream: TcpStream| {
        let mut byte = [b'e'];
        stream.write_all(&byte).unwrap();
        let end = Instant::now() + TIME;
        let mut count = 0;
        while Instant::now() < end {
            stream.write_all(&byte).unwrap();
            stream.read_exact(&mut byte).unwrap();
            count += 1;
        }
        count
    };
    thread::scope(|scope| {
        let streams = [(); CLIENTS].map(|()| guest.connect());
        let clients = streams.map(|stream| scope.spawn(move || ask(stream)));
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

/// Keeps each core of the host busy, until it goes.
struct Burners(Arc<AtomicBool>);

impl Burners {
    fn start() -> Self {
        let burners = Self(Arc::new(AtomicBool::new(true)));
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let goes_on = Arc::clone(&burners.0);
            thread::spawn(move || while goes_on.load(Ordering::Relaxed) {});
        }
        burners
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Processor time of each thread of QEMU.
fn processor_times(guest: &Listening) -> BTreeMap<OsString, Duration> {
    /// Fields of `/proc/<pid>/task/<id>/stat` behind the name, in ticks of 10 ms: in the program, in the kernel for it.
    const TIMES: std::ops::Range<usize> = 11..13;
    const TICK: Duration = Duration::from_millis(10);
    let tasks = format!("/proc/{}/task", guest.process());
    let time = |folder: PathBuf| {
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let ticks: u32 = fields
            .get(TIMES)?
            .iter()
            .filter_map(|field| field.parse::<u32>().ok())
            .sum();
        Some((folder.file_name()?.to_owned(), TICK * ticks))
    };
    fs::read_dir(tasks)
        .unwrap()
        .filter_map(|entry| time(entry.ok()?.path()))
        .collect()
}

/// What each thread of QEMU took since then, the busiest first.
fn worked_since(before: &BTreeMap<OsString, Duration>, guest: &Listening) -> Vec<Duration> {
    let now = processor_times(guest);
    let since = |(thread, time): (&OsString, &Duration)| {
        time.saturating_sub(before.get(thread).copied().unwrap_or_default())
    };
    let mut worked: Vec<_> = now.iter().map(since).collect();
    worked.sort_unstable_by(|one, other| other.cmp(one));
    worked
}
