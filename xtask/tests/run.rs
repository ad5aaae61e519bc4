//! What a user sees of `cargo xtask run`, with a stand-in for the guest.

mod instance;
#[path = "../../launcher/tests/stand_in/mod.rs"]
mod stand_in;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stand_in::Step;
use tempfile::TempDir;

/// Far more than anything here needs on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A user with an image and a place for instances.
struct User {
    folder: TempDir,
    image: PathBuf,
}

impl User {
    fn with_guest(steps: &[Step<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = stand_in::image(folder.path(), steps);
        Self { folder, image }
    }

    fn instances(&self) -> PathBuf {
        self.folder.path().join("root/instances")
    }

    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .env("HERMITAGE_ROOT", self.folder.path().join("root"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `run --rm --accel tcg IMAGE` with more arguments.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.xtask(&["run", "--rm", "--accel", "tcg"]);
        command.args(more).arg(&self.image);
        command
    }

    fn run(&self, more: &[&str]) -> Seen {
        Seen::of(self.command(more).output().unwrap())
    }

    fn start(&self, more: &[&str]) -> Running {
        Running(self.command(more).spawn().unwrap())
    }

    fn nothing_is_left(&self) -> bool {
        fs::read_dir(self.instances()).is_ok_and(|mut entries| entries.next().is_none())
    }
}

/// What a command gave.
#[derive(Debug)]
struct Seen {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Seen {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn fails_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in {self:?}");
        }
        assert_eq!(self.stdout, "");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

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

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process that runs in this folder, as QEMU does in its instance's.
fn process_in(folder: &Path) -> Option<Pid> {
    let runs_inside = |process: &fs::DirEntry| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let process = fs::read_dir("/proc").unwrap().flatten().find(runs_inside)?;
    Pid::from_raw(process.file_name().to_str()?.parse().ok()?)
}

fn is_used(folder: &Path) -> bool {
    process_in(folder).is_some()
}

const READY: [Step<'_>; 2] = [Step::Console("ready\n"), Step::Halt];

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
        assert!(user.nothing_is_left());
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
fn a_dry_run_prints_the_command_and_does_nothing() {
    let user = User::with_guest(&READY);
    let seen = user.run(&[
        "--dry-run",
        "-m",
        "200M",
        "-c",
        "2",
        "--mac",
        "A2:13:15:00:80:02",
        "-f",
        "9000:80",
        "--name",
        "db",
    ]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert_eq!(seen.stdout.lines().count(), 1, "{seen:?}");
    assert!(seen.stdout.ends_with('\n'), "{seen:?}");
    for part in [
        "qemu-system-x86_64 ",
        " -name db ",
        " -m 200M -smp 2 ",
        "hostfwd=tcp:127.0.0.1:9000-:80",
        "mac=a2:13:15:00:80:02",
    ] {
        assert!(seen.stdout.contains(part), "no `{part}` in {seen:?}");
    }
    assert!(!user.folder.path().join("root").exists());
}

#[test]
fn each_flag_reaches_the_command_line() {
    let user = User::with_guest(&READY);
    let volume = user.folder.path().join("data.raw");
    fs::write(&volume, [0; 512]).unwrap();
    let volume = volume.to_str().unwrap();
    let table: &[(&[&str], &[&str])] = &[
        (&["--machine", "q35"], &["-machine q35"]),
        (
            &["--machine", "microvm"],
            &[
                "-machine 'microvm,acpi=on,rtc=on'",
                "virtio-blk-device",
                "virtio-net-device",
            ],
        ),
        (&["--cpu", "qemu64"], &["-cpu qemu64", "-device virtio-rng-pci"]),
        (&["--gdb"], &["-gdb tcp:127.0.0.1:1234"]),
        (&["--gdb=4321"], &["-gdb tcp:127.0.0.1:4321"]),
        (&["--qemu-arg", "-d", "--qemu-arg=int"], &[" -d int\n"]),
        (&["--volume", volume], &["data.raw,format=raw'", "serial=data"]),
        (
            &["--ip", "10.0.0.9/24", "-f", "8080:80"],
            &["net=10.0.0.0/24,host=10.0.0.1,dns=10.0.0.2,dhcpstart=10.0.0.9,hostfwd=tcp:127.0.0.1:8080-:80"],
        ),
        (&["-n", "tap:tap0"], &["-netdev 'tap,id=net,fd=5'"]),
    ];
    for (arguments, parts) in table {
        let seen = user.run(&[&["--dry-run"], *arguments].concat());
        assert_eq!(seen.code, Some(0), "{arguments:?}: {seen:?}");
        for part in *parts {
            assert!(
                seen.stdout.contains(part),
                "{arguments:?}: no `{part}` in {seen:?}"
            );
        }
    }
}

#[test]
fn a_dry_run_as_json_says_the_same() {
    let user = User::with_guest(&READY);
    let line = user.run(&["--dry-run"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&user.run(&["--dry-run", "--json"]).stdout).unwrap();
    let arguments = json["arguments"].as_array().unwrap();
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .collect();
    assert_eq!(
        format!("qemu-system-x86_64 {}\n", shell_words::join(arguments)),
        line
    );
    assert!(Path::new(json["program"].as_str().unwrap()).is_file());
}

#[test]
fn a_variable_of_a_file_is_checked_where_it_stands() {
    let user = User::with_guest(&READY);
    let file = user.folder.path().join("env");
    fs::write(&file, "# all is well\nA=1\nPORT\n").unwrap();
    let path = file.to_str().unwrap();
    let message =
        format!("error: {path}:3: `PORT` is not an environment variable; it has the form NAME=VALUE");
    user.run(&["--env-file", path]).fails_with(2, &[&message]);
    fs::write(&file, b"A=\xff\n").unwrap();
    user.run(&["--env-file", path])
        .fails_with(2, &["cannot read `", "UTF-8"]);
}

#[test]
fn signals_stop_it_in_order() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let user = User::with_guest(&READY);
        let mut running = user.start(&[]);
        running.wait_for_line("ready\n");
        running.signal(signal);
        assert_eq!(running.ended().code(), Some(code));
        assert!(user.nothing_is_left());
        assert!(!is_used(&user.instances()));
    }
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let user = User::with_guest(&READY);
    let mut running = user.start(&[]);
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
    assert!(user.nothing_is_left());
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let user = User::with_guest(&[Step::Console("ready\n"), Step::Loop("more\n")]);
    let mut running = user.start(&[]);
    running.wait_for_line("ready\n");
    drop(running.0.stdout.take());
    assert_eq!(running.ended().code(), Some(143));
    assert!(user.nothing_is_left());
}

#[test]
fn a_killed_launcher_takes_qemu_with_it_and_blocks_nothing() {
    let user = User::with_guest(&READY);
    let mut running = user.start(&["--name", "kv"]);
    running.wait_for_line("ready\n");
    assert!(is_used(&user.instances()));
    running.signal(Signal::KILL);
    assert_eq!(running.ended().signal(), Some(9));
    wait_until("QEMU ends", || !is_used(&user.instances()));
    assert!(user.instances().join("kv/disk.qcow2").exists());

    let mut again = user.start(&["--name", "kv"]);
    again.wait_for_line("ready\n");
    again.signal(Signal::INT);
    assert_eq!(again.ended().code(), Some(130));
    assert!(user.nothing_is_left());
}

#[test]
fn a_second_run_of_a_name_is_refused_and_names_the_first() {
    let user = User::with_guest(&READY);
    let mut first = user.start(&["--name", "kv"]);
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
    let mut other = user.start(&["--name", "kv-2"]);
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
    assert!(user.nothing_is_left());
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
fn a_wrong_value_is_wrong_usage_with_its_reason() {
    let user = User::with_guest(&READY);
    let table: &[(&[&str], &str)] = &[
        (&["-m", "lots"], "`lots` is not a size"),
        (&["-m", "1M"], "`1M` is too small; no guest starts with less than"),
        (
            &["-c", "0"],
            "`0` is not a number of CPUs; a machine has 1 to 255",
        ),
        (&["--mac", "A2:13:15:00:80"], "`A2:13:15:00:80` is too short"),
        (&["--mac", "A3:13:15:00:80:02"], "is a multicast address"),
        (&["-f", "80"], "`80` names one port"),
        (&["-f", "1:2:3:4:5"], "bad IPv4 address"),
        (&["-f", "80:80", "-f", "80:81"], "forward the same port"),
        (
            &["--env", "PORT"],
            "`PORT` is not an environment variable; it has the form NAME=VALUE",
        ),
        (&["-e", "kv 'open"], "a quote is not terminated"),
        (&["-e", ""], "the command is empty"),
        (
            &["-n", "wan"],
            "`wan` is not a network; a network is `user`, `tap`,",
        ),
        (&["-n", "lan"], "`lan` is not available yet"),
        (&["-n", "user:eth0"], "`user:eth0` takes no device"),
        (
            &["-n", "tap:a/b"],
            "`a/b` is not a network device; a device has up to 15",
        ),
        (
            &["-n", "tap", "-b", "sixteen-letters-"],
            "is not a network device",
        ),
        (&["-b", "br0"], "the network `user` has no bridge `br0`"),
        (
            &["-n", "bridge:br0", "-b", "br1"],
            "`br0` and `br1` are two bridges",
        ),
        (
            &["-n", "tap:tap0", "-f", "80:80"],
            "`127.0.0.1:80:80` needs the network `user`, not `tap:tap0`",
        ),
        (
            &["--ip", "10.0.0.2"],
            "`10.0.0.2` is not an address with a prefix; it has the form",
        ),
        (
            &["--ip", "10.0.0.2/33"],
            "`10.0.0.2/33` has a prefix that is not 1 to 30",
        ),
        (
            &["--ip", "10.0.0.255/24"],
            "`10.0.0.255/24` is not the address of one host",
        ),
        (
            &["--ip", "10.0.0.1/30"],
            "leaves no room for the gateway and the name server",
        ),
        (
            &["--gateway", "10.0.0.1"],
            "gateway `10.0.0.1` is given without the guest's own address",
        ),
        (&["--gateway", "10.0.0"], "invalid IPv4 address"),
        (
            &["--ip", "10.0.0.2/24", "--gateway", "10.0.1.1"],
            "gateway `10.0.1.1` is not another host of `10.0.0.2/24`",
        ),
        (&["--dns", "example.org"], "invalid IPv4 address"),
        (
            &[
                "--dns", "1.1.1.1", "--dns", "1.1.1.2", "--dns", "1.1.1.3", "--dns", "1.1.1.4",
            ],
            "4 name servers; a guest takes at most 3",
        ),
        (
            &["--label", "tier"],
            "`tier` is not a label; it has the form KEY=VALUE",
        ),
        (
            &["--env-file", "/no/such/file"],
            "cannot read `/no/such/file`: No such file",
        ),
        (
            &["--volume", "a b"],
            "`a b` is not a volume; a volume is the name of one",
        ),
        (&["--volume", "nothing"], "there is no volume `nothing` in `"),
        (
            &["--volume", "/no/such.qcow2"],
            "volume `/no/such.qcow2` cannot be opened",
        ),
        (&["--machine", "vax"], "invalid value 'vax'"),
        (
            &["--machine", "microvm", "--entry", "disk"],
            "`microvm` has no BIOS that boots disks",
        ),
        (&["--cpu", ""], "`` is not a CPU model; a model is a name"),
        (&["--cpu", "8086"], "QEMU has no CPU model `8086`"),
        (&["--gdb=lots"], "invalid digit"),
        (&["--gdb=65536"], "65536 is not in"),
        (&["--json"], "--dry-run"),
        (&["--name", "../kv"], "`../kv` is not a name of an instance"),
        (&["--accel", "hvf"], "invalid value 'hvf'"),
    ];
    for (arguments, part) in table {
        let mut command = user.xtask(&["run"]);
        command.args(*arguments).arg(&user.image);
        Seen::of(command.output().unwrap()).fails_with(2, &[part]);
    }
    let many = "x ".repeat(10_000);
    user.run(&["-e", &many])
        .fails_with(2, &["10000 arguments; a guest takes at most 4096"]);
    assert!(!user.folder.path().join("root").exists());
}

#[test]
fn an_image_that_is_none_is_said_to_be_none() {
    let user = User::with_guest(&READY);
    let run = |image: &Path| {
        let mut command = user.xtask(&["run"]);
        Seen::of(command.arg(image).output().unwrap())
    };
    run(&user.folder.path().join("missing.qcow2"))
        .fails_with(126, &["missing.qcow2` does not exist", "hint: "]);
    run(Path::new("no-such-image")).fails_with(126, &["there is no image `no-such-image`", "hint: "]);

    let whole = fs::read(&user.image).unwrap();
    for (what, bytes) in [
        ("empty", &[][..]),
        ("text", b"not an image"),
        ("cut off", &whole[..whole.len() / 2]),
        ("header alone", &whole[..512]),
    ] {
        let damaged = user.folder.path().join("damaged.qcow2");
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
        Seen::of(user.command(&[]).env("PATH", path.path()).output().unwrap())
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
