//! What a user sees of `cargo xtask run`, with a stand-in for the guest.

#[path = "run/flags.rs"]
mod flags;
mod instance;
#[path = "../../launcher/tests/stand_in/mod.rs"]
mod stand_in;
mod user;
#[path = "run/volume.rs"]
mod volume;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stand_in::Step;
use user::{READY, Seen, User, is_used, process_in, wait_until};

/// A launcher in the background, killed when the test ends.
struct Running(Child);

impl Running {
    fn wait_for_line(&mut self, expected: &str) {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, expected);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the launcher ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(user: &User, more: &[&str]) -> Running {
    let mut command = user.in_front(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().unwrap())
}

fn nothing_is_left(user: &User) -> bool {
    fs::read_dir(user.instances()).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn the_guests_output_and_code_are_the_commands_own() {
    for entry in ["direct", "disk"] {
        let steps = [
            Step::Console("out\n"),
            Step::Control("end exit 42 \n"),
            Step::Exit(42),
        ];
        let user = User::with_guest(&steps);
        let seen = user.run(&["--entry", entry]);
        assert_eq!(seen.code, Some(42), "{seen:?}");
        assert_eq!(seen.stdout, "out\n");
        assert_eq!(seen.stderr, "");
        assert!(nothing_is_left(&user));
    }
}

#[test]
fn an_end_that_is_no_exit_is_said_in_one_line() {
    for (record, code, line) in [
        (
            "end out-of-memory 137 4096 bytes\n",
            137,
            "stand-in: out of memory: 4096 bytes\n",
        ),
        ("end panic 101 \n", 101, "stand-in: the program panicked\n"),
        (
            "end no-such-role 127 x\n",
            127,
            "stand-in: the image has no such role: x\n",
        ),
    ] {
        let user = User::with_guest(&[Step::Control(record), Step::Exit(1)]);
        let seen = user.run(&[]);
        assert_eq!((seen.code, seen.stderr.as_str()), (Some(code), line));
    }
    let user = User::with_guest(&[Step::Reset, Step::Halt]);
    user.run(&[])
        .fails_with(125, &["stand-in: the guest reset the machine"]);
}

#[test]
fn verbose_shows_the_command_and_times() {
    let user = User::with_guest(&[
        Step::Console("out\n"),
        Step::Control("end exit 0 \n"),
        Step::Exit(0),
    ]);
    let seen = user.run(&["--verbose"]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert!(seen.stderr.contains("$ cd "), "{seen:?}");
    assert!(
        seen.stderr.contains("qemu-system-x86_64 -no-user-config"),
        "{seen:?}"
    );
    let (time, text) = seen.stdout.trim_start().split_once(' ').unwrap();
    assert!(time.parse::<u64>().is_ok(), "{seen:?}");
    assert_eq!(text, "out\n");
}

#[test]
fn signals_stop_it_in_order() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let user = User::with_guest(&READY);
        let mut running = start(&user, &[]);
        running.wait_for_line("ready\n");
        running.signal(signal);
        assert_eq!(running.ended().code(), Some(code));
        assert!(nothing_is_left(&user));
        assert!(!is_used(&user.instances()));
    }
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let user = User::with_guest(&READY);
    let mut running = start(&user, &[]);
    running.wait_for_line("ready\n");
    // A QEMU that cannot answer.
    let qemu = process_in(&user.instances()).unwrap();
    kill_process(qemu, Signal::STOP).unwrap();
    let begin = Instant::now();
    // Signals that come before the first was taken are one with it, so that two need not be two.
    wait_until("the launcher ends", || {
        running.signal(Signal::INT);
        running.0.try_wait().unwrap().is_some()
    });
    assert_eq!(running.ended().code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(4), "it waited for QEMU");
    assert!(nothing_is_left(&user));
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let user = User::with_guest(&[Step::Console("ready\n"), Step::Loop("more\n")]);
    let mut running = start(&user, &[]);
    running.wait_for_line("ready\n");
    drop(running.0.stdout.take());
    assert_eq!(running.ended().code(), Some(129));
    assert!(nothing_is_left(&user));
}

#[test]
fn a_killed_launcher_takes_qemu_with_it_and_blocks_nothing() {
    let user = User::with_guest(&READY);
    let mut running = start(&user, &["--name", "kv"]);
    running.wait_for_line("ready\n");
    assert!(is_used(&user.instances()));
    running.signal(Signal::KILL);
    assert_eq!(running.ended().signal(), Some(9));
    wait_until("QEMU ends", || !is_used(&user.instances()));
    assert!(user.instances().join("kv/disk.qcow2").exists());

    let mut again = start(&user, &["--name", "kv"]);
    again.wait_for_line("ready\n");
    again.signal(Signal::INT);
    assert_eq!(again.ended().code(), Some(130));
    assert!(nothing_is_left(&user));
}

#[test]
fn a_second_run_of_a_name_is_refused_and_names_the_first() {
    let user = User::with_guest(&READY);
    let mut first = start(&user, &["--name", "kv"]);
    first.wait_for_line("ready\n");
    let holder = format!("process {}", first.0.id());
    user.run(&["--name", "kv"]).fails_with(
        125,
        &[
            "error: instance `kv` is running",
            &holder,
            "hint: ",
            "another name",
        ],
    );
    let mut other = start(&user, &["--name", "kv-2"]);
    other.wait_for_line("ready\n");
}

#[test]
fn a_port_in_use_is_named() {
    let user = User::with_guest(&READY);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = user.run(&["-f", &format!("{port}:80")]);
    let fact = format!("error: port {port} of 127.0.0.1 is in use by another process");
    seen.fails_with(125, &[&fact, "hint: "]);
    assert!(nothing_is_left(&user));
}

#[test]
fn a_chosen_port_is_said() {
    let user = User::with_guest(&[Step::Control("end exit 0 \n"), Step::Exit(0)]);
    let seen = user.run(&["-f", "0:80"]);
    assert_eq!(seen.code, Some(0));
    assert!(seen.stderr.starts_with("forwarding 127.0.0.1:"), "{seen:?}");
    assert!(seen.stderr.ends_with(":80\n"), "{seen:?}");
}

#[test]
fn an_image_that_is_none_is_said_to_be_none() {
    let user = User::with_guest(&READY);
    let run = |image: &Path| {
        let mut command = user.command(&["run"]);
        Seen::of(command.arg(image).output().unwrap())
    };
    run(&user.folder().join("missing.qcow2")).fails_with(126, &["missing.qcow2` does not exist", "hint: "]);
    run(Path::new("no-such-image")).fails_with(126, &["there is no image `no-such-image`", "hint: "]);

    let whole = fs::read(&user.image).unwrap();
    for (what, bytes) in [
        ("empty", &[][..]),
        ("text", b"not an image"),
        ("cut off", &whole[..whole.len() / 2]),
        ("header alone", &whole[..512]),
    ] {
        let damaged = user.folder().join("damaged.qcow2");
        fs::write(&damaged, bytes).unwrap();
        let seen = run(&damaged);
        assert_eq!(seen.code, Some(126), "{what}: {seen:?}");
        seen.fails_with(126, &["damaged.qcow2"]);
    }
}

#[test]
fn without_a_usable_qemu_it_says_how_to_get_one() {
    let user = User::with_guest(&READY);
    let with_qemu = |script: Option<&str>| {
        let path = tempfile::tempdir().unwrap();
        if let Some(script) = script {
            let qemu = path.path().join("qemu-system-x86_64");
            fs::write(&qemu, script).unwrap();
            fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Seen::of(user.in_front(&[]).env("PATH", path.path()).output().unwrap())
    };
    // It is asked once it has ended without a word on its machine protocol.
    let says = |text: &str| format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{text}'\n");
    with_qemu(None).fails_with(
        125,
        &[
            "`qemu-system-x86_64` is not on the PATH",
            "hint: `cargo xtask doctor --fix`",
        ],
    );
    with_qemu(Some(&says("QEMU emulator version 6.2.0"))).fails_with(
        125,
        &[
            "is version 6.2; the oldest that works is 7.2",
            "hint: `cargo xtask doctor --fix`",
        ],
    );
    with_qemu(Some(&says("hello"))).fails_with(125, &["does not say its version", "hello"]);
}
