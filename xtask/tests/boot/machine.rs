//! Stories of the machines that a guest runs on. Each patch named failed its story before it was there.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use hermitage_boot::Reason;
use launcher::{Entry, MachineType, RunRequest};

use super::tcp::Listening;
use super::{image, request, seen};

const MACHINES: [MachineType; 3] = [MachineType::Pc, MachineType::Q35, MachineType::Microvm];

fn on(machine: MachineType, command: &str) -> RunRequest {
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

/// Patch 0066.
#[test]
#[ignore = "boots virtual machines"]
fn a_thread_that_gives_way_lets_others_of_its_core_run() {
    for cpus in ["1", "2", "4"] {
        let seen = seen(&RunRequest {
            cpus: cpus.parse().unwrap(),
            ..on(MachineType::Pc, "probe give-way")
        });
        assert_eq!(seen.console, "all have run\n", "{cpus} cores: {seen:?}");
    }
}

/// Patch 0022. Of the time that passes, a guest that sleeps takes 2 % on a quiet machine, on any number of cores.
#[test]
#[ignore = "boots virtual machines"]
fn cores_that_have_nothing_to_do_cost_nothing() {
    const MOST: f64 = 0.2;
    for machine in [MachineType::Pc, MachineType::Microvm] {
        let root = tempfile::tempdir().unwrap();
        let request = RunRequest {
            cpus: "4".parse().unwrap(),
            ..on(machine, "probe sleep 60000")
        };
        let guest = launcher::plan(&request)
            .unwrap()
            .start(root.path(), io::sink())
            .unwrap();
        let begun = Instant::now();
        // Until it sleeps, a guest works; how long that takes is the host's affair.
        let idle = (0..20).any(|_| {
            let (time, work) = (Instant::now(), processor_time(root.path().as_os_str()));
            thread::sleep(Duration::from_secs(1));
            let worked = processor_time(root.path().as_os_str()) - work;
            worked.as_secs_f64() < MOST * time.elapsed().as_secs_f64()
        });
        assert!(idle, "{machine:?}: busy after {:?}", begun.elapsed());
        guest.kill();
    }
}

/// Processor time of the process that runs below a folder, QEMU's.
fn processor_time(root: &std::ffi::OsStr) -> Duration {
    /// Fields of `/proc/<pid>/stat` behind the name, in ticks of 10 ms: in the program, in the kernel for it.
    const TIMES: std::ops::Range<usize> = 11..13;
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let is_below = fs::read_link(entry.path().join("cwd")).is_ok_and(|folder| folder.starts_with(root));
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if is_below {
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let fields: Vec<_> = fields.split_whitespace().collect();
            ticks += fields[TIMES]
                .iter()
                .map(|field| field.parse::<u32>().unwrap())
                .sum::<u32>();
        }
    }
    TICK * ticks
}
