//! Drives file systems that could keep a volume's folder, beside ours, and prints a table: what survives, what damage and
//! a full disk do, how fast each is. `cargo xtask bench folder` runs it; `docs/volumes.md` has what came out.
//!
//!     folder-candidates [CANDIDATE...]            all trials, a column for each
//!     folder-candidates one CANDIDATE TRIAL       one trial, in this process: it may be killed by it

mod disk;
mod memory;
mod model;
mod report;
mod speed;
mod systems;
mod trial;

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use report::Report;
use systems::System;
use systems::littlefs::Littlefs;
use systems::redb::Redb;
use systems::redoxfs::Redoxfs;
use systems::rsext4::Rsext4;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;

const CANDIDATES: [&str; 4] = ["redb", "redoxfs", "rsext4", "littlefs"];
const TRIALS: [&str; 4] = ["cuts", "damage", "full", "speed"];
const CUTS: usize = 600;
const DAMAGES: usize = 400;

fn one<S: System>(trial: &str) {
    // Panics are counted; each one's words would hide the table.
    std::panic::set_hook(Box::new(|_| {}));
    let report = Report;
    match trial {
        "cuts" => trial::cuts::<S>(&report, CUTS),
        "damage" => trial::damage::<S>(&report, DAMAGES),
        "full" => trial::full::<S>(&report),
        _ => {
            if let Err(error) = speed::speed::<S>(&report) {
                report.row("speed ends", format!("{error:?}"));
            }
        }
    }
}

fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    if let [one_, candidate, trial] = words.as_slice()
        && one_ == "one"
    {
        match candidate.as_str() {
            "redb" => one::<Redb>(trial),
            "redoxfs" => one::<Redoxfs>(trial),
            "rsext4" => one::<Rsext4>(trial),
            _ => one::<Littlefs>(trial),
        }
        return;
    }
    let candidates: Vec<_> = CANDIDATES
        .into_iter()
        .filter(|candidate| words.is_empty() || words.iter().any(|word| word == candidate))
        .collect();
    let mut names = Vec::<String>::new();
    let mut cells = BTreeMap::<(String, &str), String>::new();
    for candidate in &candidates {
        for trial in TRIALS {
            let program = env::current_exe().expect("this program");
            let output = Command::new(program)
                .args(["one", candidate, trial])
                .output()
                .expect("this program");
            let text = String::from_utf8_lossy(&output.stdout);
            for line in text.lines() {
                if line.starts_with('#') {
                    eprintln!("{candidate}: {line}");
                } else if let Some((name, value)) = line.split_once('\t') {
                    if !names.iter().any(|known| known == name) {
                        names.push(name.to_owned());
                    }
                    cells.insert((name.to_owned(), candidate), value.to_owned());
                }
            }
            if !output.status.success() {
                eprintln!(
                    "{candidate}: {trial} ended with {}: {}",
                    output.status,
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
    println!("| | {} |", candidates.join(" | "));
    println!("|{}", " --- |".repeat(candidates.len() + 1));
    for name in names {
        let row: Vec<_> = candidates
            .iter()
            .map(|candidate| cells.get(&(name.clone(), *candidate)).map_or("-", String::as_str))
            .collect();
        println!("| {name} | {} |", row.join(" | "));
    }
}
