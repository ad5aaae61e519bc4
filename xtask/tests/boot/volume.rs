//! Stories of volumes: what a guest wrote is there, whoever was killed, and what failed is said.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use launcher::{Entry, MachineType, RunRequest};

use super::{BOTH_WAYS_IN, cut_off, image, request, seen};

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

/// Cuts a guest off that commits rows, after so many commits, in the middle of whatever comes next; how many rows are safe
/// then. All that were before have to be there.
fn cut_off_rows(request: &RunRequest, safe: u64, commits: u64) -> u64 {
    let said = cut_off(request, |line| {
        line.strip_prefix("safe ").and_then(|number| number.parse().ok()) >= Some(safe + commits)
    });
    let found = number(&said[0], "found ");
    assert!(found >= safe, "{found} rows, and {safe} were safe");
    let last = said
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("safe ")?.parse().ok());
    last.unwrap_or_else(|| panic!("{said:?}"))
}

#[test]
#[ignore = "boots virtual machines"]
fn rows_that_were_said_to_be_safe_are_there_after_a_power_cut() {
    const CUTS: u64 = 5;
    let folder = tempfile::tempdir().unwrap();
    let [_, volume] = fresh(folder.path());
    let mut safe = 0;
    for cut in 0..CUTS {
        safe = cut_off_rows(
            &with_volumes(&[&volume], Entry::Direct, "rows other 0"),
            safe,
            3 + cut * 7,
        );
    }
    let seen = seen(&with_volumes(&[&volume], Entry::Direct, "rows other 1"));
    assert!(
        number(seen.console.lines().next().unwrap(), "found ") >= safe,
        "{}",
        seen.console
    );
}

/// On a microvm, with ACPI or with as little as it can be without.
fn on_a_microvm(volumes: &[&Path], acpi: bool, command: &str) -> RunRequest {
    let bare = ["-machine", "acpi=off,pic=off,pit=off,rtc=off"].map(str::to_owned);
    RunRequest {
        machine: MachineType::Microvm,
        qemu_arguments: if acpi { vec![] } else { bare.to_vec() },
        ..with_volumes(volumes, Entry::Direct, command)
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_microvm_has_volumes_and_folders_that_outlive_it() {
    for acpi in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let [raw, qcow2] = fresh(folder.path());
        let on = |command| on_a_microvm(&[&raw, &qcow2], acpi, command);
        let mut safe = 0;
        for commits in [5, 12] {
            safe = cut_off_rows(&on("rows other 0"), safe, commits);
        }
        for boot in 0..2 {
            let said = cut_off(&on("data raw-one cut"), |line| line == "safe");
            assert_eq!(said[0], format!("boot {boot}"), "{said:?}");
        }
        let rows = seen(&on("rows other 1"));
        assert!(
            number(rows.console.lines().next().unwrap(), "found ") >= safe,
            "{rows:?}"
        );
        let data = seen(&on("data raw-one end"));
        assert_eq!(data.console, "boot 2\n", "{data:?}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_microvm_has_slots_for_as_many_volumes_as_there_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let volumes: Vec<_> = (0..launcher::volume::MAX_VOLUMES)
        .map(|at| folder.path().join(format!("v{at}.raw")))
        .collect();
    for volume in &volumes {
        File::create(volume).unwrap().set_len(1 << 20).unwrap();
    }
    let volumes: Vec<_> = volumes.iter().map(PathBuf::as_path).collect();
    for acpi in [true, false] {
        for at in 0..volumes.len() {
            let request = on_a_microvm(&volumes, acpi, &format!("try-volume v{at}"));
            // It takes a slot of its own.
            let seen = seen(&RunRequest {
                cpu_model: Some("max,-rdrand,-rdseed".parse().unwrap()),
                ..request
            });
            assert_eq!(seen.console, "written\n", "{seen:?}");
        }
        let seen = seen(&on_a_microvm(&volumes, acpi, "try-volume v"));
        assert!(seen.console.starts_with("NotFound: "), "{seen:?}");
    }
}

/// Bytes that a file takes on the host's disk.
fn taken(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().blocks() * 512
}

#[test]
#[ignore = "boots virtual machines"]
fn what_is_discarded_takes_no_room_on_the_host() {
    const FILLED: u64 = 32 << 20;
    let folder = tempfile::tempdir().unwrap();
    let volumes = fresh(folder.path());
    for (label, volume) in ["raw-one", "other"].into_iter().zip(&volumes) {
        let on = |command: &str| with_volumes(&[volume], Entry::Direct, &format!("{command} {label}"));
        for (fill, discard) in [("fill", "discard"), ("fill-file", "shorten")] {
            let filled = seen(&on(fill));
            assert_eq!(filled.exit.code(), 0, "{filled:?}");
            assert!(taken(volume) >= FILLED, "{label}: {}", taken(volume));
            let discarded = seen(&on(discard));
            assert_eq!(discarded.exit.code(), 0, "{discarded:?}");
            assert!(
                taken(volume) < 4 << 20,
                "{label} after {discard}: {}",
                taken(volume)
            );
        }
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_data_base_whose_volume_is_full_loses_nothing_and_goes_on_with_more_room() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("small.raw");
    let file = File::create(&volume).unwrap();
    file.set_len(8 << 20).unwrap();
    let exhaust = |most: u64| {
        let command = format!("exhaust-volume small {most}");
        let seen = seen(&with_volumes(&[&volume], Entry::Direct, &command));
        assert_eq!(seen.exit.code(), 0, "{seen:?}");
        seen.console
    };
    let first = exhaust(1000);
    let (count, error) = first.trim().split_once(" and no more: ").unwrap();
    assert!(error.contains("no storage space"), "{first}");
    let count = number(count, "found 0\n");
    assert!(count > 20, "{first}");
    let again = format!("found {count}\n{count} and no more: {error}\n");
    assert_eq!(exhaust(1000), again);
    file.set_len(SIZE).unwrap();
    let more = count + 20;
    assert_eq!(exhaust(more), format!("found {count}\n{more}, and empty again\n"));
    assert!(taken(&volume) < 3 << 20, "{}", taken(&volume));
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
