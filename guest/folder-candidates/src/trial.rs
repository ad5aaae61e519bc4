//! Power cuts, damage, full disks: what is asked of each candidate before its speed is.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::disk::{Disk, Event, Kept, Random, SECTOR, apply};
use crate::model::{Moment, Tree, content, story, wrong};
use crate::report::Report;
use crate::systems::{Failure, System};

/// Bytes of the disk: what the candidate that wants most takes, and a copy of it for each cut.
const DISK: usize = 64 << 20;

/// How long a mount, reading all and a write may take: they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Files that are removed from a full disk before it is written again.
const REMOVED: usize = 20;

/// Does something that may panic, or never end.
fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || {
            let done = panic::catch_unwind(AssertUnwindSafe(work));
            let done = done.map_err(|payload| {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                format!(
                    "panic: {}",
                    text.unwrap_or_default().lines().next().unwrap_or_default()
                )
            });
            // Who waited may have gone.
            let _gone = sender.send(done.and_then(|done| done.map_err(|error| format!("error: {error:?}"))));
        })
        .expect("a thread");
    receiver
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err("hang: no end in 20 s".to_owned()))
}

/// Mounts, reads all, and sees that it can be written.
fn found<S: System>(bytes: Vec<u8>) -> Result<Tree, String> {
    guarded(move || {
        let disk = Disk::in_memory(bytes);
        let mut system = S::mount(&disk)?;
        let tree = content(&mut system)?;
        let file = system.open("/after", true)?;
        system.write(file, 0, b"it goes on")?;
        system.close(file)?;
        system.sync()?;
        Ok(tree)
    })
}

/// What is on a disk on which a story was told, as it was before and as a trace.
struct Told {
    start: Vec<u8>,
    events: Vec<Event>,
    moments: Vec<Moment>,
    end: Vec<u8>,
    /// The disk when the system had been given back.
    closed: Vec<u8>,
}

fn told<S: System>(calls: usize, seed: u64) -> Result<Told, String> {
    guarded(move || {
        let disk = Disk::in_memory(vec![0; DISK]);
        S::format(&disk)?;
        let start = disk.bytes();
        disk.begin_trace();
        let mut system = S::mount(&disk)?;
        let moments = story(&mut system, &disk, calls, &mut Random(seed))?;
        // What it does when it is given back is no part of the story.
        let (events, end) = (disk.end_trace(), disk.bytes());
        drop(system);
        Ok(Told {
            start,
            events,
            moments,
            end,
            closed: disk.bytes(),
        })
    })
}

pub fn cuts<S: System>(report: &Report, cuts: usize) {
    let mut random = Random(11);
    let mut outcomes = BTreeMap::<String, usize>::new();
    let (mut good, mut bad, mut at_a_moment, mut damaged_in_order) = (0, 0, 0, 0);
    let stories = 6;
    for seed in 0..stories {
        let Told {
            start,
            events,
            moments,
            ..
        } = match told::<S>(60, seed) {
            Ok(told) => told,
            Err(error) => {
                report.row("power cuts: the story ends", error);
                return;
            }
        };
        let mut places: Vec<_> = (0..cuts / stories as usize)
            .map(|_| random.below(events.len() + 1))
            .collect();
        places.sort_unstable();
        let mut base = start;
        let mut flushed = 0;
        for (number, place) in places.into_iter().enumerate() {
            let flush = events[..place]
                .iter()
                .rposition(|event| matches!(event, Event::Flush));
            if let Some(flush) = flush.filter(|flush| *flush > flushed) {
                apply(&mut base, &events[flushed..flush], Kept::All, &mut random);
                flushed = flush;
            }
            // Every fourth cut leaves all that was written, in its order: what a disk without a cache does.
            let kept = if number % 4 == 0 { Kept::All } else { Kept::Some };
            let mut bytes = base.clone();
            apply(&mut bytes, &events[flushed..place], kept, &mut random);
            let done = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Done)).count();
            let safe = events[..place]
                .iter()
                .rposition(|event| matches!(event, Event::Safe));
            let safe = safe.map_or(0, |safe| done(&events[..safe]));
            let last = (done(&events[..place]) + 1).min(moments.len() - 1);
            let moments = &moments[safe..=last];
            let outcome = match found::<S>(bytes) {
                Ok(tree) => {
                    at_a_moment += usize::from(moments.iter().any(|moment| moment.tree == tree));
                    wrong(&tree, moments)
                }
                Err(error) => Some(error),
            };
            match outcome {
                None => good += 1,
                Some(what) => {
                    bad += 1;
                    damaged_in_order += usize::from(matches!(kept, Kept::All));
                    *outcomes.entry(kind(&what)).or_default() += 1;
                }
            }
        }
    }
    report.row("power cuts", good + bad);
    report.row("cuts that damaged or lost something", bad);
    report.row("of these, with all writes kept in order", damaged_in_order);
    report.row("cuts after which all is as at one moment", at_a_moment);
    report.worst("after a cut", outcomes);
}

/// Without the numbers and names that make each the only one.
fn kind(what: &str) -> String {
    let mut kind = String::new();
    for c in what.chars().take(100) {
        match c {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            '|' | '\n' | '\t' => kind.push(' '),
            c => kind.push(c),
        }
    }
    kind
}

pub fn damage<S: System>(report: &Report, rounds: usize) {
    let told = match told::<S>(60, 3) {
        Ok(told) => told,
        Err(error) => return report.row("damage: the story ends", error),
    };
    let mut panics = BTreeMap::<String, usize>::new();
    for (state, end) in [("synced", &told.end), ("closed", &told.closed)] {
        let used: Vec<_> = end
            .chunks(SECTOR)
            .enumerate()
            .filter(|(_, sector)| sector.iter().any(|byte| *byte != 0))
            .map(|(number, _)| number)
            .collect();
        let mut random = Random(5);
        let mut counts = BTreeMap::<&str, usize>::new();
        for round in 0..rounds {
            let mut bytes = end.clone();
            // One bit, or a sector of anything, at a place that has something.
            let place = used[random.below(used.len())] * SECTOR;
            if round % 2 == 0 {
                bytes[place + random.below(SECTOR)] ^= 1 << random.below(8);
            } else {
                bytes[place..][..SECTOR].fill_with(|| random.below(256) as u8);
            }
            count::<S>(bytes, &told.moments, &mut counts, &mut panics);
        }
        for what in OUTCOMES {
            report.row(
                &format!("damaged places of a disk that was {state}: {what}"),
                counts.get(what).copied().unwrap_or(0),
            );
        }
    }
    let mut counts = BTreeMap::<&str, usize>::new();
    for part in 0..16 {
        let bytes = told.end[..DISK / 16 * part].to_vec();
        count::<S>(bytes, &told.moments, &mut counts, &mut panics);
    }
    report.row(
        "truncated disks (16): panic or hang",
        counts.get("panic").unwrap_or(&0) + counts.get("hang").unwrap_or(&0),
    );
    report.worst("on damage", panics);
}

/// What may come of damage.
const OUTCOMES: [&str; 6] = [
    "as before",
    "as at a moment before",
    "error",
    "other content",
    "panic",
    "hang",
];

fn count<S: System>(
    bytes: Vec<u8>,
    moments: &[Moment],
    counts: &mut BTreeMap<&'static str, usize>,
    panics: &mut BTreeMap<String, usize>,
) {
    let what = match found::<S>(bytes) {
        Ok(tree) if moments.last().is_some_and(|last| last.tree == tree) => "as before",
        Ok(tree) if moments.iter().any(|moment| moment.tree == tree) => "as at a moment before",
        Ok(_) => "other content",
        Err(error) if error.starts_with("error") => "error",
        Err(error) => {
            let what = if error.starts_with("panic") {
                "panic"
            } else {
                "hang"
            };
            *panics.entry(kind(&error)).or_default() += 1;
            what
        }
    };
    *counts.entry(what).or_default() += 1;
}

pub fn full<S: System>(report: &Report) {
    let outcome = guarded(|| {
        let disk = Disk::in_memory(vec![0; DISK]);
        S::format(&disk)?;
        let mut system = S::mount(&disk)?;
        // Nothing that can be compressed.
        let piece = |number: usize| {
            let mut random = Random(number as u64 + 1);
            (0..100_000).map(|_| random.below(256) as u8).collect::<Vec<_>>()
        };
        let put = |system: &mut S, number: usize| {
            let file = system.open(&format!("/{number}"), true)?;
            let written = system.write(file, 0, &piece(number));
            let closed = system.close(file);
            written.and(closed).and_then(|()| system.sync())
        };
        let mut files = 0;
        let error = loop {
            match put(&mut system, files) {
                Ok(()) => files += 1,
                Err(error) => break error,
            }
            if files > DISK / 100_000 {
                return Err(Failure::Other("more than there is room for".to_owned()));
            }
        };
        let step = |what: &str, result: Result<(), Failure>| {
            result.map_err(|error| Failure::Other(format!("{what} after {files} files: {error:?}")))
        };
        if error != Failure::Full {
            step("the error when it is full", Err(error))?;
        }
        let check = |system: &mut S, from: usize, what: &str| {
            for number in from..files {
                let path = format!("/{number}");
                let file = system.open(&path, false)?;
                let mut bytes = vec![0; 100_000];
                let mut done = 0;
                while done < bytes.len() {
                    match system.read(file, done as u64, &mut bytes[done..])? {
                        0 => break,
                        length => done += length,
                    }
                }
                system.close(file)?;
                if bytes != piece(number) {
                    return Err(Failure::Other(format!("`{path}` is not what it was {what}")));
                }
            }
            Ok(())
        };
        step("reading", check(&mut system, 0, "when it was full"))?;
        // More than is written then: some candidates need room for the way there.
        for number in 0..REMOVED {
            step("removing", system.remove(&format!("/{number}")))?;
        }
        // What was begun when it was full.
        let _may_not_be_there = system.remove(&format!("/{files}"));
        step("syncing", system.sync())?;
        step("writing again", put(&mut system, 0))?;
        drop(system);
        let mut system =
            S::mount(&disk).map_err(|error| Failure::Other(format!("mounting it again: {error:?}")))?;
        step(
            "reading it mounted again",
            check(&mut system, REMOVED, "when it was mounted again"),
        )?;
        Ok(files)
    });
    match outcome {
        Ok(files) => report.row(
            "full disk",
            format!("error, goes on; {} % were files", files * 100_000 * 100 / DISK),
        ),
        Err(error) => report.row("full disk", error),
    }
}
