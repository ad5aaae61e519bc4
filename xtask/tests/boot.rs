//! Stories of a guest in a virtual machine, from a real image: what it is told arrives, and how it ends is known.
//!
//! Each boots `guest/probe`, a program with one subcommand for each property. Run by `cargo xtask test`, or alone by
//! `cargo test --release -p xtask --test boot -- --ignored`.

#[path = "boot/cores.rs"]
mod cores;
#[path = "boot/files.rs"]
mod files;
#[path = "boot/lan.rs"]
mod lan;
#[path = "boot/machine.rs"]
mod machine;
#[path = "boot/net.rs"]
mod net;
#[path = "../src/commands/bench/lan/probe.rs"]
mod probe;
#[path = "boot/tcp.rs"]
mod tcp;
#[path = "boot/volume.rs"]
mod volume;
#[path = "boot/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hermitage_boot::control::mark;
use hermitage_boot::{Reason, Record};
use launcher::{AcceleratorChoice, Entry, Error, GuestExit, RunRequest};

/// Time for a boot, which takes 0.2 s on a quiet machine without KVM, and for what the guest does then.
const DEADLINE: Duration = Duration::from_secs(90);

const BOTH_WAYS_IN: [Entry; 2] = [Entry::Direct, Entry::Disk];

/// The probe's image, whose default is `probe hello` with `MODE=default`; composed once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        probe::compose_probe(Path::new(env!("CARGO_TARGET_TMPDIR")))
            .unwrap_or_else(|error| panic!("cannot compose the probe: {error:?}"))
    })
}

/// What was seen of a guest.
#[derive(Debug)]
struct Seen {
    exit: GuestExit,
    console: String,
}

impl Seen {
    /// Why the guest ended, and its code.
    fn end(&self) -> Option<(Reason, u8)> {
        match &self.exit {
            GuestExit::Ended(end) => Some((end.reason, end.code)),
            _ => None,
        }
    }
}

fn request(image: &Path, entry: Entry, command: &str) -> RunRequest {
    RunRequest {
        command: (!command.is_empty()).then(|| command.to_owned()),
        entry,
        accelerator: AcceleratorChoice::Tcg,
        ..RunRequest::new(image, "probe".parse().unwrap())
    }
}

/// Boots a guest and waits for its end. `None` if it did not come in time.
fn boot(request: &RunRequest) -> Result<Option<Seen>, Error> {
    let root = tempfile::tempdir().unwrap();
    let machine = launcher::plan(request)?.start(root.path(), io::sink())?;
    let exit = machine.wait_for(DEADLINE);
    let console = String::from_utf8_lossy(&machine.console()?).into_owned();
    match exit {
        Some(exit) => Ok(Some(Seen { exit, console })),
        None => {
            eprintln!("no end within {DEADLINE:?}; the console so far:\n{console}");
            Ok(None)
        }
    }
}

/// Boots a guest, and cuts its power off as soon as it has said enough; the lines that it said.
fn cut_off(request: &RunRequest, mut is_enough: impl FnMut(&str) -> bool) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let (console, writer) = io::pipe().unwrap();
    let machine = launcher::plan(request)
        .unwrap()
        .start(root.path(), writer)
        .unwrap();
    let mut lines = BufReader::new(console).lines().map(Result::unwrap);
    let mut said = Vec::new();
    let mut enough = false;
    while !enough {
        let line = lines.next().unwrap_or_else(|| panic!("that was all: {said:?}"));
        enough = is_enough(&line);
        said.push(line);
    }
    machine.kill();
    drop(machine);
    // What it said last; the power may have gone in the middle of a line.
    said.extend(lines);
    said
}

fn seen(request: &RunRequest) -> Seen {
    boot(request).unwrap().expect("the guest ends in time")
}

#[test]
#[ignore = "boots virtual machines"]
fn the_images_default_command_runs() {
    for entry in BOTH_WAYS_IN {
        let seen = seen(&request(image(), entry, ""));
        assert_eq!(seen.exit.code(), 0, "{entry:?} {seen:?}");
        assert_eq!(seen.console, "hello\n", "{entry:?}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn arguments_and_environment_arrive_intact() {
    let arguments = [
        "probe",
        "echo",
        "a b",
        "it's \"so\"",
        "two\nlines",
        "",
        "ünï",
        "\\",
        "$HOME `x` *",
        "a,b=c",
        "--",
        "\x01\x7f",
    ];
    let mut environment = BTreeMap::from([
        ("MODE", "given".to_owned()),
        ("QUOTED", "a 'b' \"c\"\n,d=e".to_owned()),
        ("EMPTY", String::new()),
        ("BIG", "0123456789abcdef".repeat(64 * 1024 / 16)),
    ]);
    let mut expected: Vec<_> = arguments
        .iter()
        .map(|argument| format!("argument {}", argument.as_bytes().escape_ascii()))
        .collect();
    for (name, value) in &environment {
        expected.push(format!("environment {name}={}", value.as_bytes().escape_ascii()));
    }
    for entry in BOTH_WAYS_IN {
        let request = RunRequest {
            environment: environment
                .iter()
                .map(|(name, value)| format!("{name}={value}").parse().unwrap())
                .collect(),
            ..request(image(), entry, &shell_words::join(arguments))
        };
        let seen = seen(&request);
        assert_eq!(seen.exit.code(), 0, "{entry:?}: {:?}", seen.exit);
        let lines: Vec<_> = seen.console.lines().collect();
        assert_eq!(lines, expected, "{entry:?}");
    }

    // Without a variable of that name the image's own stands.
    environment.remove("MODE");
    let seen = seen(&request(image(), Entry::Direct, "probe echo"));
    assert_eq!(
        seen.console,
        "argument probe\nargument echo\nenvironment MODE=default\n"
    );
}

#[test]
#[ignore = "boots virtual machines"]
fn each_exit_code_arrives() {
    for entry in BOTH_WAYS_IN {
        for code in [0, 1, 2, 101, 255] {
            let seen = seen(&request(image(), entry, &format!("probe exit {code}")));
            assert_eq!(seen.end(), Some((Reason::Exit, code)), "{entry:?}: {seen:?}");
            assert_eq!(seen.console, "", "{entry:?}");
        }
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn each_bad_end_is_known_and_said_on_the_console() {
    for (property, reason, words) in [
        ("panic", Reason::Panic, "two lines"),
        ("abort", Reason::Abort, "abort"),
        ("out-of-memory", Reason::OutOfMemory, "out-of-memory"),
        ("null", Reason::Fault, "page fault"),
        ("read", Reason::Fault, "page fault"),
        ("jump", Reason::Fault, "page fault"),
        ("non-canonical", Reason::Fault, "general protection"),
        ("divide", Reason::Fault, "divide"),
        ("invalid-opcode", Reason::Fault, "invalid opcode"),
        ("stack-overflow", Reason::Fault, "stack"),
    ] {
        for entry in BOTH_WAYS_IN {
            let seen = seen(&request(image(), entry, &format!("probe {property}")));
            assert_eq!(
                seen.end(),
                Some((reason, reason.code())),
                "{property} {entry:?}: {seen:?}"
            );
            assert!(seen.console.contains(words), "{property} {entry:?}: {seen:?}");
        }
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_role_that_is_not_there_names_those_that_are() {
    for entry in BOTH_WAYS_IN {
        let seen = seen(&request(image(), entry, "nobody at home"));
        assert_eq!(seen.end(), Some((Reason::NoSuchRole, 127)), "{entry:?}: {seen:?}");
        assert!(seen.console.contains("`nobody`"), "{seen:?}");
        assert!(seen.console.contains("probe"), "{seen:?}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn the_console_is_complete_however_fast_the_guest_ends() {
    const LENGTH: usize = 300_000;
    let expected: String = (b'a'..=b'z').map(char::from).cycle().take(LENGTH).collect();
    for entry in BOTH_WAYS_IN {
        let seen = seen(&request(image(), entry, &format!("probe write {LENGTH}")));
        assert_eq!(seen.exit.code(), 0, "{entry:?}: {:?}", seen.exit);
        assert!(
            seen.console == expected,
            "{entry:?}: {} bytes",
            seen.console.len()
        );
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn chance_is_real_or_refused() {
    let entropy = || {
        let seen = seen(&request(image(), Entry::Direct, "probe entropy"));
        assert_eq!(seen.exit.code(), 0, "{seen:?}");
        seen.console
    };
    assert_ne!(entropy(), entropy());

    // Without RDRAND the launcher attaches a device for it.
    let without = RunRequest {
        cpu_model: Some("max,-rdrand,-rdseed".parse().unwrap()),
        ..request(image(), Entry::Direct, "probe entropy")
    };
    assert_eq!(seen(&without).exit.code(), 0);

    for entry in BOTH_WAYS_IN {
        // The launcher does not see this.
        let seen = seen(&RunRequest {
            qemu_arguments: ["-cpu", "max,-rdrand,-rdseed"].map(str::to_owned).to_vec(),
            ..request(image(), entry, "")
        });
        assert_eq!(seen.end(), Some((Reason::Boot, 126)), "{entry:?}: {seen:?}");
        assert!(
            seen.console.contains("no source of entropy"),
            "{entry:?}: {seen:?}"
        );
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn too_little_memory_is_said_with_what_is_needed() {
    for entry in BOTH_WAYS_IN {
        let request = |memory: u32| RunRequest {
            memory: format!("{memory}M").parse().unwrap(),
            ..request(image(), entry, "")
        };
        let smallest = (launcher::Memory::MIN.mib()..64).find(|&memory| {
            let seen = seen(&request(memory));
            let runs = seen.exit.code() == 0;
            if !runs {
                assert_eq!(seen.end(), Some((Reason::Boot, 126)), "{memory} MB: {seen:?}");
                assert!(
                    seen.console.contains("too little memory: have "),
                    "{memory} MB: {seen:?}"
                );
            }
            runs
        });
        eprintln!("smallest memory, {entry:?}: {smallest:?} MB");
        assert!(smallest.is_some_and(|memory| memory <= 32));
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn the_command_line_passes_output_and_code_on() {
    let root = tempfile::tempdir().unwrap();
    for (entry, command, code, stdout) in [
        ("direct", "probe hello", 0, "hello\n"),
        ("disk", "probe hello", 0, "hello\n"),
        ("direct", "probe exit 42", 42, ""),
        ("disk", "probe exit 42", 42, ""),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["run", "--accel", "tcg", "--entry", entry, "-e", command])
            .arg(image())
            .env("HERMITAGE_ROOT", root.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{entry} {command}: {output:?}");
        assert_eq!(output.stdout, stdout.as_bytes(), "{entry} {command}");
        assert_eq!(output.stderr, b"", "{entry} {command}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn the_boot_log_is_printed_when_asked_for() {
    for entry in BOTH_WAYS_IN {
        let seen = seen(&RunRequest {
            verbose: true,
            ..request(image(), entry, "")
        });
        assert!(seen.console.contains("loader: start\n"), "{entry:?}: {seen:?}");
        assert!(seen.console.contains("Welcome to Hermit"), "{entry:?}: {seen:?}");
        assert!(seen.console.ends_with("hello\n"), "{entry:?}: {seen:?}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_traced_boot_marks_its_points_in_order() {
    for entry in BOTH_WAYS_IN {
        let request = RunRequest {
            trace: true,
            ..request(image(), entry, "")
        };
        let root = tempfile::tempdir().unwrap();
        let machine = launcher::plan(&request)
            .unwrap()
            .start(root.path(), io::sink())
            .unwrap();
        let counts = [mark::LOADER, mark::KERNEL, mark::MAIN]
            .map(|name| machine.wait_mark(name, DEADLINE).unwrap().tsc);
        assert!(counts.is_sorted(), "{entry:?}: {counts:?}");
        let frequency =
            |received: &launcher::machine::Received| matches!(received.record, Record::Khz(khz) if khz > 0);
        assert!(machine.records().iter().any(frequency), "{entry:?}");
    }
}

/// Bytes that are overwritten at once.
const BLOCK: usize = 4096;

/// Of a long stretch of blocks that are in use, which is a program and all alike, so many at its ends are overwritten,
/// and in between each of so many.
const ENDS: usize = 16;
const STEP: usize = 8;

/// Overwrites blocks of the image that are in use, one at a time: the guest runs all the same, or it is said what is
/// wrong. It never hangs, and never ends without a word.
#[test]
#[ignore = "boots virtual machines"]
fn a_damaged_block_never_hangs_the_boot() {
    let blocks = blocks_in_use(&fs::read(image()).unwrap());
    let tasks: Vec<_> = blocks
        .iter()
        .flat_map(|&block| BOTH_WAYS_IN.map(|entry| (block, entry)))
        .collect();
    let undamaged = Victim::new();
    for entry in BOTH_WAYS_IN {
        assert_eq!(undamaged.boot(entry), Ok("ran"), "the undamaged image runs");
    }

    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let work = || {
            let victim = Victim::new();
            let mut results = Vec::new();
            while let Some(&(block, entry)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                victim.flip(block);
                results.push((block, entry, victim.boot(entry)));
                victim.flip(block);
            }
            results
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });

    let mut counts = BTreeMap::new();
    let mut failures = Vec::new();
    for (block, entry, result) in results {
        match result {
            Ok(kind) => *counts.entry(kind).or_insert(0) += 1,
            Err(what) => failures.push(format!("block {block}, {entry:?}: {what}")),
        }
    }
    eprintln!("{} blocks, both ways in: {counts:?}", blocks.len());
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    // Most of an image is programs, and no damage to those goes unseen.
    assert!(counts["the guest said so"] > counts["ran"], "{counts:?}");
}

fn blocks_in_use(image: &[u8]) -> Vec<usize> {
    let is_used: Vec<_> = image
        .chunks(BLOCK)
        .map(|block| block.iter().any(|&byte| byte != 0))
        .collect();
    let mut blocks = Vec::new();
    let mut start = 0;
    for stretch in is_used.chunk_by(|a, b| a == b) {
        let length = stretch.len();
        let is_taken = |at: &usize| *at < ENDS || length - at <= ENDS || at.is_multiple_of(STEP);
        if stretch[0] {
            blocks.extend((0..length).filter(is_taken).map(|at| start + at));
        }
        start += length;
    }
    blocks
}

/// A copy of the image, to be damaged.
struct Victim {
    path: PathBuf,
    file: File,
    _folder: tempfile::TempDir,
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.qcow2");
        fs::copy(image(), &path).unwrap();
        Self {
            file: File::options().read(true).write(true).open(&path).unwrap(),
            path,
            _folder: folder,
        }
    }

    /// Damages a block, or mends one that was damaged.
    fn flip(&self, block: usize) {
        let mut bytes = [0; BLOCK];
        let offset = (block * BLOCK) as u64;
        let length = self.file.read_at(&mut bytes, offset).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0xa5);
        self.file.write_all_at(&bytes[..length], offset).unwrap();
    }

    /// What becomes of it.
    fn boot(&self, entry: Entry) -> Result<&'static str, String> {
        let seen = match boot(&request(&self.path, entry, "")) {
            Err(Error::Disk(_)) => return Ok("the launcher said so"),
            Err(other) => return Err(format!("another error: {other}")),
            Ok(None) => return Err("hangs".to_owned()),
            Ok(Some(seen)) => seen,
        };
        match (&seen.exit, seen.end()) {
            (_, Some((Reason::Exit, 0))) if seen.console == "hello\n" => Ok("ran"),
            (_, Some((Reason::Boot | Reason::NoSuchRole, _))) if !seen.console.is_empty() => {
                Ok("the guest said so")
            }
            (GuestExit::Lost(words), _) if words.starts_with("QEMU failed: ") => Ok("QEMU said so"),
            _ => Err(format!("{seen:?}")),
        }
    }
}
