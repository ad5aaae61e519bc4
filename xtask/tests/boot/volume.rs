//! Stories of volumes: what a guest wrote is there, whoever was killed, and what failed is said.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use launcher::{Entry, RunRequest};

use super::{BOTH_WAYS_IN, image, request, seen};

const SIZE: u64 = 64 << 20;

fn with_volumes(volumes: &[&Path], entry: Entry, command: &str) -> RunRequest {
    let texts = volumes.iter().map(|path| path.to_str().unwrap().parse().unwrap());
    RunRequest {
        volumes: texts.collect(),
        ..request(image(), entry, &format!("probe {command}"))
    }
}

/// A fresh volume of each format.
fn fresh(folder: &Path) -> [std::path::PathBuf; 2] {
    let raw = folder.join("raw-one.raw");
    File::create(&raw).unwrap().set_len(SIZE).unwrap();
    let qcow2 = folder.join("other.qcow2");
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&qcow2)
        .arg(SIZE.to_string())
        .output()
        .unwrap();
    assert!(output.status.success());
    [raw, qcow2]
}

#[test]
#[ignore = "boots virtual machines"]
fn a_volume_is_found_by_its_label_and_outlives_its_guest() {
    let folder = tempfile::tempdir().unwrap();
    let [raw, qcow2] = fresh(folder.path());
    for (turn, entry) in BOTH_WAYS_IN.into_iter().enumerate() {
        for label in ["raw-one", "other"] {
            // In both orders.
            let mut volumes = [raw.as_path(), qcow2.as_path()];
            volumes.rotate_left(turn);
            let seen = seen(&with_volumes(&volumes, entry, &format!("volume {label}")));
            assert_eq!(seen.exit.code(), 0, "{}", seen.console);
            let line = format!("{SIZE} bytes, turn {turn}\n");
            assert!(seen.console.starts_with(&line), "{}", seen.console);
        }
    }
    let seen = seen(&with_volumes(&[&raw], Entry::Direct, "try-volume other"));
    assert!(seen.console.starts_with("NotFound: "), "{}", seen.console);
}

fn number(line: &str, begin: &str) -> u64 {
    let number = line.strip_prefix(begin).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("`{line}` where `{begin}` was expected"))
}

#[test]
#[ignore = "boots virtual machines"]
fn rows_that_were_said_to_be_safe_are_there_after_a_power_cut() {
    const CUTS: u64 = 5;
    let folder = tempfile::tempdir().unwrap();
    let [_, volume] = fresh(folder.path());
    let mut safe = 0;
    for cut in 0..CUTS {
        let root = tempfile::tempdir().unwrap();
        let request = with_volumes(&[&volume], Entry::Direct, "rows other 0");
        let (console, writer) = io::pipe().unwrap();
        let machine = launcher::plan(&request)
            .unwrap()
            .start(root.path(), writer)
            .unwrap();
        let mut lines = BufReader::new(console).lines().map(Result::unwrap);
        let found = number(&lines.next().unwrap(), "found ");
        assert!(found >= safe, "{found} rows, and {safe} were safe");
        // It is cut off after so many commits, in the middle of whatever comes next.
        let enough = found + 3 + cut * 7;
        safe = lines
            .by_ref()
            .map(|line| number(&line, "safe "))
            .find(|safe| *safe >= enough)
            .unwrap();
        machine.kill();
        drop(machine);
        // What it said last; the power may have gone in the middle of a line.
        let rest = lines.filter_map(|line| line.strip_prefix("safe ")?.parse().ok());
        safe = rest.last().unwrap_or(safe).max(safe);
    }
    let seen = seen(&with_volumes(&[&volume], Entry::Direct, "rows other 1"));
    assert!(
        number(seen.console.lines().next().unwrap(), "found ") >= safe,
        "{}",
        seen.console
    );
}
