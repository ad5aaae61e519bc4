//! Power cuts: pictures are uploaded without end while the machines of storage and db are killed, at any moment. Whatever
//! was acknowledged has to be there each time, byte for byte, and in the end each task is finished and its result right.
//!
//! In the middle both volumes are kept by snapshots, while uploads go on. In the end clones of these are booted: what was
//! acknowledged before has to be on them, too.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hermitage_micro::address::Endpoint;
use hermitage_micro::{Client, form, task};
use launcher::Instances;
use launcher::instance::RestartPolicy;
use launcher::volume::{Point, VolumeName, Volumes};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use stack::member::{Member, members};
use stack::{Runner, Stack};

use super::super::app::picture;
use super::failed;
use crate::commands::instance::start::supervisor;
use crate::commands::stack as stacks;
use crate::failure::Failure;
use crate::printer::Printer;

/// The stack that is killed.
const STACK: &str = "node-micro";

/// The services whose machines are killed: those that keep something, one, the other, both.
const VICTIMS: [&[&str]; 3] = [&["storage"], &["db"], &["storage", "db"]];

/// Port of storage in the guest.
const STORAGE: u16 = 9002;

/// Different pictures.
const PICTURES: u32 = 8;

/// Uploads at a time.
const JOBS: usize = 2;

/// Between two cuts at least one upload is acknowledged, at most so many,
const MOST: u64 = 4;
/// and then some time passes, in milliseconds at most: an upload takes 100.
const LONGEST: u64 = 200;

/// How long a service may not answer before that is a fault.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is asked meanwhile.
const PERIOD: Duration = Duration::from_millis(20);

/// Cuts the power so often.
pub(super) fn run(cuts: u32, json: bool, printer: &Printer) -> Result<ExitCode, Failure> {
    let root = tempfile::tempdir().map_err(failed("make a folder"))?;
    let mut stack = stacks::read(STACK)?;
    let image = stacks::image(&stack, printer)?;
    for service in &mut stack.services {
        // Who was killed is started again here, without a pause.
        service.restart = RestartPolicy::No;
        if service.name == "storage" {
            service
                .ports
                .push(format!("0:{STORAGE}").parse().map_err(failed("forward a port"))?);
        }
    }
    let mut bench = Bench {
        runner: Runner {
            root: root.path(),
            supervisor: &supervisor,
            observer: &|_| {},
        },
        stack,
        image: &image,
        pictures: (0..PICTURES)
            .map(|seed| picture("160x120", seed))
            .collect::<Result<_, _>>()?,
        acknowledged: Mutex::default(),
        refused: AtomicU64::new(0),
    };
    bench.runner.up(&bench.stack, bench.image, None)?;
    let begin = Instant::now();
    let before = bench.cut(cuts, printer)?;
    let results = bench.check_results()?;
    let clones = bench.check_clones(&before)?;
    let (uploads, refused) = (bench.acknowledged().len(), bench.refused.load(Ordering::Relaxed));
    if json {
        printer.json(&json!({
            "cuts": cuts, "acknowledged": uploads, "refused": refused, "results": results, "on_clones": clones,
            "lost": 0, "seconds": begin.elapsed().as_secs_f64(),
        }));
    } else {
        printer.data(&format!(
            "{cuts} power cuts, {uploads} uploads acknowledged, {refused} refused: none lost, each finished and right; \
             {clones} on clones of snapshots made meanwhile\n"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

struct Bench<'a> {
    runner: Runner<'a>,
    stack: Stack,
    image: &'a Path,
    pictures: Vec<Vec<u8>>,
    /// Tasks, and the places of their pictures.
    acknowledged: Mutex<BTreeMap<u64, usize>>,
    /// Uploads that were not acknowledged, since somebody was dead.
    refused: AtomicU64,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // What stays, after an error that is being told, is in a folder that is removed.
        let _ = self.runner.down(STACK, &[]);
    }
}

impl Bench<'_> {
    fn acknowledged(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts while pictures come in; what was acknowledged before the snapshots in the middle.
    fn cut(&self, cuts: u32, printer: &Printer) -> Result<BTreeMap<u64, usize>, Failure> {
        let stop = AtomicBool::new(false);
        let master = self.endpoint("master", 9003)?;
        thread::scope(|scope| {
            for job in 0..JOBS {
                let (stop, master) = (&stop, &master);
                scope.spawn(move || self.upload(job, master, stop));
            }
            let cut = || {
                let mut before = BTreeMap::new();
                let mut numbers = seed();
                for number in 0..cuts {
                    let victims = VICTIMS[number as usize % VICTIMS.len()];
                    self.wait_for_uploads(1 + random(&mut numbers) % MOST)?;
                    thread::sleep(Duration::from_millis(random(&mut numbers) % LONGEST));
                    if number == cuts / 2 {
                        before = self.acknowledged().clone();
                        self.snapshot()?;
                    }
                    self.kill(victims)?;
                    for service in victims {
                        self.runner.up(&self.stack, self.image, Some(service))?;
                    }
                    let there = self.check_inputs(&self.acknowledged().clone())?;
                    printer.note(&format!(
                        "cut {} of {cuts}, {}: {there} uploads are there",
                        number + 1,
                        victims.join(" and ")
                    ));
                }
                Ok(before)
            };
            let before = cut();
            stop.store(true, Ordering::Relaxed);
            before
        })
    }

    /// Waits until so many more uploads are acknowledged.
    fn wait_for_uploads(&self, more: u64) -> Result<(), Failure> {
        let (begin, before) = (Instant::now(), self.acknowledged().len() as u64);
        while (self.acknowledged().len() as u64) < before + more {
            if begin.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!(
                    "no upload is acknowledged within {PATIENCE:?}"
                )));
            }
            thread::sleep(PERIOD);
        }
        Ok(())
    }

    /// Uploads pictures until it is told to stop.
    fn upload(&self, job: usize, master: &Endpoint, stop: &AtomicBool) {
        let (client, url) = (Client::default(), master.url("/task"));
        let mut at = job;
        while !stop.load(Ordering::Relaxed) {
            at = (at + 1) % self.pictures.len();
            let picture = &self.pictures[at];
            let sent = form::send_picture("cut.png", &mut picture.as_slice(), |content| {
                client.post(&url, Some(content))
            });
            let id = sent.ok().filter(|answer| answer.status() == 200);
            match id.and_then(|answer| answer.field(task::ID_FIELD).and_then(task::parse_id)) {
                Some(id) => drop(self.acknowledged().insert(id, at)),
                None => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(PERIOD);
                }
            }
        }
    }

    /// Kills the machines of services at once.
    fn kill(&self, victims: &[&str]) -> Result<(), Failure> {
        for member in self.members()? {
            if !victims.contains(&member.service.as_str()) {
                continue;
            }
            let qemu = member.seen.state.qemu.as_ref();
            let pid = qemu.and_then(|qemu| Pid::from_raw(i32::try_from(qemu.pid).ok()?));
            if let Some(pid) = pid {
                kill_process(pid, Signal::KILL).map_err(failed("kill a machine"))?;
                match launcher::service::wait(&member.seen) {
                    Ok(_) | Err(launcher::Error::NotRunning { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn members(&self) -> Result<Vec<Member>, Failure> {
        Ok(members(&Instances::below(self.runner.root)?)?)
    }

    /// Where a service answers on this host.
    fn endpoint(&self, service: &str, port: u16) -> Result<Endpoint, Failure> {
        let members = self.members()?;
        let mut forwards = members
            .iter()
            .filter(|member| member.service == service)
            .flat_map(|member| &member.seen.state.forwards);
        let forward = forwards.find(|forward| forward.guest_port == port);
        let address = forward
            .ok_or_else(|| Failure::Failed(format!("`{service}` has no port on this host")))?
            .host;
        Ok(Endpoint {
            host: address.ip().to_string(),
            port: address.port(),
        })
    }

    /// Asks until there is an answer that `take` takes.
    fn ask<T>(&self, url: &str, take: impl Fn(u16, &[u8]) -> Option<T>) -> Result<T, Failure> {
        let (client, begin) = (Client::default(), Instant::now());
        loop {
            let mut body = Vec::new();
            let answer = client.get(url);
            let status = answer
                .as_ref()
                .map_or(0, hermitage_micro::client::Response::status);
            let whole = answer
                .ok()
                .is_some_and(|answer| answer.into_reader().read_to_end(&mut body).is_ok());
            if let Some(taken) = whole.then(|| take(status, &body)).flatten() {
                return Ok(taken);
            }
            if begin.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!(
                    "`{url}` is not as it has to be: {status}, {} bytes",
                    body.len()
                )));
            }
            thread::sleep(PERIOD);
        }
    }

    /// Whether all these uploads are there, as they were sent; how many.
    fn check_inputs(&self, tasks: &BTreeMap<u64, usize>) -> Result<usize, Failure> {
        let storage = self.endpoint("storage", STORAGE)?;
        for (id, at) in tasks {
            let url = storage.url(&format!("/download/{id}?picture=input"));
            // A wrong picture is no matter of patience.
            let same = self.ask(&url, |status, body| match status {
                200 | 404 => Some(body == self.pictures[*at]),
                _ => None,
            })?;
            if !same {
                return Err(Failure::Failed(format!(
                    "task {id} was acknowledged, and is lost"
                )));
            }
        }
        Ok(tasks.len())
    }

    /// Waits until all tasks are finished; each picture has one result, whichever task it is of. How many there are.
    fn check_results(&self) -> Result<usize, Failure> {
        let master = self.endpoint("master", 9003)?;
        let tasks = self.acknowledged().clone();
        let mut results = BTreeMap::new();
        for (id, at) in &tasks {
            let ready = master.url(&format!("/task/{id}/ready"));
            self.ask(&ready, |_, body| (body == b"true").then_some(()))?;
            let url = master.url(&format!("/task/{id}/download"));
            let result = self.ask(&url, |status, body| (status == 200).then(|| body.to_vec()))?;
            let first = results.entry(*at).or_insert_with(|| result.clone());
            if *first != result || result == self.pictures[*at] {
                return Err(Failure::Failed(format!("the result of task {id} is not right")));
            }
        }
        Ok(tasks.len())
    }

    /// Keeps the volumes as they are now.
    fn snapshot(&self) -> Result<(), Failure> {
        let volumes = Volumes::new(self.runner.root);
        for own in &self.stack.volumes {
            volumes.snapshot(&own.name, "middle".parse().ok())?;
        }
        Ok(())
    }

    /// Boots the stack with clones of the snapshots in place of its volumes; how many uploads of those before are there.
    fn check_clones(&mut self, before: &BTreeMap<u64, usize>) -> Result<usize, Failure> {
        self.runner.down(STACK, &[])?;
        let volumes = Volumes::new(self.runner.root);
        let mut clones = BTreeMap::new();
        for own in &self.stack.volumes {
            let clone: VolumeName = format!("{}-clone", own.name)
                .parse()
                .map_err(failed("name a clone"))?;
            let point = Point {
                volume: own.name.clone(),
                snapshot: "middle".parse().ok(),
            };
            volumes.duplicate(&point, &clone)?;
            clones.insert(own.name.clone(), clone);
        }
        let attached = self
            .stack
            .services
            .iter_mut()
            .flat_map(|service| &mut service.volumes);
        for volume in attached {
            if let Some(clone) = volume.name().and_then(|name| clones.get(&name)) {
                *volume = volume.renamed(clone);
            }
        }
        self.runner.up(&self.stack, self.image, None)?;
        self.check_inputs(before)
    }
}

/// Where random numbers begin: elsewhere each time.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) | 1
}

/// The next one (xorshift64).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
