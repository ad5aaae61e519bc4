//! Stories of the machines that a guest runs on. Each patch named failed its story before it was there.

use std::io::{Read, Write};
use std::net::Shutdown;

use hermitage_boot::Reason;
use launcher::{Entry, MachineType, RunRequest};

use super::tcp::Listening;
use super::{image, request, seen};

const MACHINES: [MachineType; 3] = [MachineType::Pc, MachineType::Q35, MachineType::Microvm];

pub(super) fn on(machine: MachineType, command: &str) -> RunRequest {
    RunRequest {
        machine,
        ..request(image(), Entry::Direct, command)
    }
}

fn with_arguments(machine: MachineType, command: &str, arguments: &[&str]) -> RunRequest {
    RunRequest {
        qemu_arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        ..on(machine, command)
    }
}

/// Patches 0060 and 0061.
#[test]
#[ignore = "boots virtual machines"]
fn each_machine_runs_a_program_and_passes_on_how_it_ends() {
    for machine in MACHINES {
        for cpus in ["1", "2"] {
            let seen = seen(&RunRequest {
                cpus: cpus.parse().unwrap(),
                ..on(machine, "probe exit 42")
            });
            assert_eq!(
                seen.end(),
                Some((Reason::Exit, 42)),
                "{machine:?} {cpus}: {seen:?}"
            );
        }
    }
}

/// Patch 0063.
#[test]
#[ignore = "boots virtual machines"]
fn each_machine_has_a_network() {
    for machine in MACHINES {
        let guest = Listening::start(on(machine, "probe answer-all"));
        let mut stream = guest.connect();
        stream.write_all(b"all that I have").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "all that I have", "{machine:?}");
    }
}

/// Patches 0061 and 0062. QEMU then names the devices on its command line.
#[test]
#[ignore = "boots virtual machines"]
fn a_microvm_needs_neither_acpi_nor_clocks() {
    let bare = ["-machine", "acpi=off,pic=off,pit=off,rtc=off"];
    let seen = seen(&with_arguments(MachineType::Microvm, "probe hello", &bare));
    assert_eq!(seen.console, "hello\n", "{seen:?}");
}

#[test]
#[ignore = "boots virtual machines"]
fn virtio_from_before_its_standard_is_refused_with_what_to_do() {
    let legacy = ["-global", "virtio-mmio.force-legacy=true"];
    let seen = seen(&with_arguments(MachineType::Microvm, "probe hello", &legacy));
    assert_eq!(seen.end(), Some((Reason::Boot, 126)), "{seen:?}");
    assert!(seen.console.contains("force-legacy=false"), "{seen:?}");
}

/// Patch 0065.
#[test]
#[ignore = "boots virtual machines"]
fn an_event_wakes_who_waits_however_often_was_polled_before() {
    // A hundred thousand wakers that stay behind fill the memory.
    for polls in [0, 1, 100_000] {
        let seen = seen(&RunRequest {
            memory: "32M".parse().unwrap(),
            ..on(MachineType::Pc, &format!("probe eventfd {polls}"))
        });
        assert_eq!(seen.console, "(8, 3)\n", "{polls} polls: {seen:?}");
    }
}
