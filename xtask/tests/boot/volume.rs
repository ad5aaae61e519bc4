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

/// A request with a disk `bad` over a raw file, on which QEMU injects errors.
fn with_errors(file: &Path, rules: &str, command: &str) -> RunRequest {
    let file = file.display();
    let drive = format!(
        "if=none,id=bad,driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={file},{rules}"
    );
    let device = "virtio-blk-pci,drive=bad,serial=bad,werror=enospc,rerror=report";
    RunRequest {
        qemu_arguments: ["-drive", &drive, "-device", device].map(str::to_owned).to_vec(),
        ..request(image(), Entry::Direct, &format!("probe {command}"))
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn an_error_of_the_disk_reaches_the_program_and_nothing_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let [raw, _] = fresh(folder.path());
    // The first flush; each write of the fourth block; each read of the sixth.
    let rules = "file.inject-error.0.event=flush_to_disk,file.inject-error.0.iotype=flush,\
                 file.inject-error.0.once=on,\
                 file.inject-error.1.event=write_aio,file.inject-error.1.iotype=write,file.inject-error.1.sector=24,\
                 file.inject-error.2.event=read_aio,file.inject-error.2.iotype=read,file.inject-error.2.sector=40";
    let seen_blocks = seen(&with_errors(&raw, rules, "blocks bad"));
    assert_eq!(seen_blocks.exit.code(), 0, "{}", seen_blocks.console);
    let failed: Vec<_> = seen_blocks
        .console
        .lines()
        .filter(|line| !line.ends_with(": done"))
        .collect();
    let expected = [
        "flush 1: failed",
        "write 4: failed",
        "read 4: other",
        "read 6: failed",
    ];
    assert_eq!(failed, expected, "{}", seen_blocks.console);
    // What was said to be written is.
    let content = std::fs::read(&raw).unwrap();
    for number in [1, 2, 3, 5, 6, 7, 8_u8] {
        let block = &content[(usize::from(number) - 1) * 4096..][..4096];
        assert!(block.iter().all(|byte| *byte == number), "block {number}");
    }

    // A data base whose disk fails in the middle: a commit fails, and what was safe before is there.
    File::create(&raw).unwrap().set_len(SIZE).unwrap();
    let states = (0..20).map(|at| {
        let rule = format!("file.set-state.{at}");
        let (state, next) = (at + 1, at + 2);
        format!("{rule}.event=flush_to_disk,{rule}.state={state},{rule}.new_state={next},")
    });
    let rules = states.collect::<String>()
        + "file.inject-error.0.event=flush_to_disk,file.inject-error.0.iotype=flush,file.inject-error.0.state=21";
    let cut = seen(&with_errors(&raw, &rules, "rows bad 0"));
    assert_eq!(cut.exit.code(), 101, "{}", cut.console);
    let mut safe = cut
        .console
        .lines()
        .filter_map(|line| line.strip_prefix("safe ")?.parse().ok());
    let safe: u64 = safe.next_back().unwrap();
    let again = seen(&with_volumes(&[&raw], Entry::Direct, "rows raw-one 1"));
    let found = number(again.console.lines().next().unwrap(), "found ");
    assert!(found >= safe && safe > 0, "{found} of {safe}: {}", again.console);
}
