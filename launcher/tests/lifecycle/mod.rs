//! Stories of instances that outlive their machines: stops, restarts, removals, with a stand-in for the guest.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use launcher::instance::{Options, Phase, Seen};
use launcher::lifecycle::{self, Supervised};
use launcher::log::{Entry, Limits, Reader, Watch};
use launcher::machine::Stopped;
use launcher::usage::Traffic;
use launcher::{AcceleratorChoice, Error, Forward, GuestExit, Instances, RunRequest, service};

use crate::stand_in::{self, Step};

/// More than any guest here takes to end that was asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A root with an image of one stand-in.
struct Root {
    folder: tempfile::TempDir,
    image: PathBuf,
}

impl Root {
    fn with_guest(steps: &[Step<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = stand_in::image(folder.path(), steps);
        Self { folder, image }
    }

    fn instances(&self) -> Instances {
        Instances::below(self.folder.path()).unwrap()
    }

    fn request(&self) -> RunRequest {
        RunRequest {
            accelerator: AcceleratorChoice::Tcg,
            ..RunRequest::new(&self.image, "kv".parse().unwrap())
        }
    }

    fn create(&self, request: &RunRequest, options: Options) -> Result<Supervised, Error> {
        let launch = launcher::plan(request)?;
        let instance = self.instances().create(&launch, options)?;
        lifecycle::supervise(instance, launch, io::sink())
    }

    fn run(&self, options: Options) -> Supervised {
        self.create(&self.request(), options).unwrap()
    }

    fn start_again(&self) -> Supervised {
        let instance = self.instances().open(&"kv".parse().unwrap()).unwrap();
        lifecycle::start(instance, io::sink()).unwrap()
    }

    fn seen(&self) -> Seen {
        self.instances().see(&"kv".parse().unwrap()).unwrap()
    }

    fn console(&self) -> String {
        console(&self.seen().folder)
    }

    /// Waits until something holds that the instance's files say.
    fn wait_until(&self, mut holds: impl FnMut(&Seen) -> bool) {
        let watch = Watch::new(&self.seen().folder).unwrap();
        while !holds(&self.seen()) {
            watch.wait().unwrap();
        }
    }

    fn wait_until_it_hears(&self) {
        self.wait_until(|seen| seen.state.hears_stop);
    }

    fn wait_until_ready(&self) {
        self.wait_until(|seen| console(&seen.folder).contains("ready"));
    }
}

fn console(folder: &Path) -> String {
    let entries = Reader::open(folder).unwrap().entries().unwrap();
    let raw = entries.iter().flat_map(Entry::raw).collect();
    String::from_utf8(raw).unwrap()
}

fn restarting(policy: &str) -> Options {
    Options {
        restart: policy.parse().unwrap(),
        ..Options::default()
    }
}

#[test]
fn a_guest_that_hears_is_asked_and_ends_by_itself() {
    let root = Root::with_guest(&[
        Step::Control("hears stop\n"),
        Step::Console("ready\n"),
        Step::Listen,
        Step::Control("end exit 7 \n"),
        Step::Exit(7),
    ]);
    let supervised = root.run(restarting("always"));
    root.wait_until_it_hears();
    let (stopped, end) = service::stop(&root.seen(), PATIENCE).unwrap();
    assert_eq!(
        (stopped, end.code, end.reason.as_str()),
        (Stopped::ByItself, 7, "exit")
    );
    // It is not started again, and free for others as soon as the answer is there.
    let again = root.instances().open(&"kv".parse().unwrap()).unwrap();
    assert_eq!(again.state().phase, Phase::Exited);
    assert_eq!(again.state().end.as_ref(), Some(&end));
    assert_eq!(supervised.finish().code(), 7);
}

#[test]
fn a_guest_is_asked_for_its_traffic_and_one_that_does_not_answer_is_not_waited_for() {
    /// More numbers than there are, words, and the most that can be said.
    const ANSWERS: &str =
        "traffic 18446744073709551616 1\ntraffic one 1\ntraffic -1 1\ntraffic 18446744073709551615 7\n";
    let most = Traffic {
        received: u64::MAX,
        sent: 7,
    };
    for (hears, said) in [("hears traffic\n", Some(most)), ("", None)] {
        let root = Root::with_guest(&[
            Step::Control(hears),
            Step::Control("hears stop\n"),
            Step::Listen,
            Step::Control(ANSWERS),
            Step::Halt,
        ]);
        let supervised = root.run(Options::default());
        root.wait_until_it_hears();
        assert_eq!(service::traffic(&root.seen()).unwrap(), said, "{hears:?}");
        // It has stopped to answer.
        for _ in 0..2 {
            assert_eq!(service::traffic(&root.seen()).unwrap(), None, "{hears:?}");
        }
        supervised.kill();
        assert!(service::traffic(&root.seen()).is_err());
        supervised.finish();
    }
}

#[test]
fn a_guest_that_is_deaf_or_does_not_end_is_switched_off() {
    for hears in ["", "hears stop\n"] {
        let root = Root::with_guest(&[Step::Control(hears), Step::Console("ready\n"), Step::Halt]);
        let supervised = root.run(Options::default());
        root.wait_until_ready();
        if !hears.is_empty() {
            root.wait_until_it_hears();
        }
        let (stopped, exit) = supervised.stop(Duration::from_millis(50));
        assert_eq!((stopped, exit), (Stopped::Quit, GuestExit::Stopped), "{hears:?}");
        assert_eq!(supervised.finish().code(), 143);
    }
}

#[test]
fn a_killed_instance_says_so_and_one_that_ended_cannot_be_talked_to() {
    let root = Root::with_guest(&[Step::Console("ready\n"), Step::Halt]);
    let supervised = root.run(restarting("always"));
    let (stopped, end) = service::kill(&root.seen()).unwrap();
    assert_eq!(
        (stopped, end.code, end.reason.as_str()),
        (Stopped::Killed, 137, "killed")
    );
    supervised.finish();
    let error = service::stop(&root.seen(), PATIENCE).unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }), "{error}");
}

#[test]
fn a_failure_is_tried_again_as_often_as_the_policy_says() {
    let root = Root::with_guest(&[
        Step::Console("ready\n"),
        Step::Control("end panic 101 \n"),
        Step::Exit(101),
    ]);
    let exit = root.run(restarting("on-failure:2")).finish();
    assert_eq!(exit.code(), 101);
    let state = root.seen().state;
    assert_eq!((state.phase, state.restarts), (Phase::Exited, 2));
    assert_eq!(state.end.unwrap().reason, "panic");
    assert_eq!(root.console(), "ready\n".repeat(3));
}

#[test]
fn success_is_started_again_by_always_alone_and_a_stop_ends_the_pause() {
    let steps = [Step::Control("end exit 0 \n"), Step::Exit(0)];
    let root = Root::with_guest(&steps);
    root.run(restarting("on-failure")).finish();
    assert_eq!(root.seen().state.restarts, 0);

    let root = Root::with_guest(&steps);
    let supervised = root.run(restarting("always"));
    root.wait_until(|seen| seen.state.restarts >= 2 && seen.state.phase == Phase::Restarting);
    // In the pause, or in the run that follows it on a busy machine.
    supervised.stop(PATIENCE);
    supervised.finish();
    assert_eq!(root.seen().state.phase, Phase::Exited);
}

#[test]
fn an_instance_is_started_again_with_the_same_disk_address_and_ports() {
    let root = Root::with_guest(&[Step::Console("ready\n"), Step::Halt]);
    let request = RunRequest {
        forwards: vec![Forward::tcp_from_any_port(80)],
        ..root.request()
    };
    let first = root.create(&request, Options::default()).unwrap();
    root.wait_until_ready();
    let disk = |seen: &Seen| {
        use std::os::unix::fs::MetadataExt as _;
        seen.folder.join("disk.qcow2").metadata().unwrap().ino()
    };
    let (before, ports) = (root.seen(), first.spec().forwards.clone());
    first.kill();
    first.finish();
    let again = root.start_again();
    let after = root.seen();
    assert_eq!(disk(&after), disk(&before));
    assert_eq!(after.record, before.record);
    assert_eq!(again.spec().forwards, ports);
    again.kill();
    again.finish();
}

#[test]
fn an_instance_that_runs_goes_on_under_its_new_name() {
    let root = Root::with_guest(&[
        Step::Control("hears stop\n"),
        Step::Console("ready\n"),
        Step::Listen,
        Step::Console("bye\n"),
        Step::Exit(0),
    ]);
    let [db, taken] = ["db", "taken"].map(|name| name.parse().unwrap());
    let request = RunRequest {
        name: taken,
        ..root.request()
    };
    let other = root.create(&request, Options::default()).unwrap();
    let supervised = root.run(Options::default());
    root.wait_until_ready();
    root.wait_until_it_hears();
    let before = root.seen();
    let error = service::rename(&before, &request.name).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    service::rename(&before, &db).unwrap();

    let gone = root.instances().see(&before.name).unwrap_err();
    assert!(matches!(gone, Error::NoInstance { .. }), "{gone}");
    let seen = root.instances().see(&db).unwrap();
    assert_eq!(
        (seen.state.phase, &seen.record.request.name),
        (Phase::Running, &db)
    );
    assert_eq!(seen.record.request.mac, before.record.request.mac);
    service::stop(&seen, PATIENCE).unwrap();
    supervised.finish();
    let seen = root.instances().see(&db).unwrap();
    assert_eq!(seen.state.phase, Phase::Exited);
    assert_eq!(console(&seen.folder), "ready\nbye\n");
    assert!(!before.folder.exists());
    other.kill();
    other.finish();
}

#[test]
fn an_instance_that_is_about_to_be_started_again_is_renamed() {
    let root = Root::with_guest(&[Step::Control("end exit 0 \n"), Step::Exit(0)]);
    let supervised = root.run(restarting("always"));
    root.wait_until(|seen| seen.state.phase == Phase::Restarting);
    let db = "db".parse().unwrap();
    service::rename(&root.seen(), &db).unwrap();
    let seen = root.instances().see(&db).unwrap();
    let restarts = seen.state.restarts;
    let watch = Watch::new(&seen.folder).unwrap();
    while root.instances().see(&db).unwrap().state.restarts <= restarts {
        watch.wait().unwrap();
    }
    supervised.stop(PATIENCE);
    supervised.finish();
    let seen = root.instances().see(&db).unwrap();
    assert_eq!(seen.state.phase, Phase::Exited);
}

#[test]
fn what_is_attached_gets_every_byte_to_the_end() {
    let root = Root::with_guest(&[
        Step::Control("hears stop\n"),
        Step::Console("ready\n"),
        Step::Listen,
        Step::Console("\x1b[1mbye\0\r\nno newline"),
        Step::Exit(0),
    ]);
    let supervised = root.run(Options::default());
    root.wait_until_ready();
    root.wait_until_it_hears();
    let mut console = service::attach(&root.seen()).unwrap();
    supervised.stop(PATIENCE);
    let mut seen = Vec::new();
    console.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, b"\x1b[1mbye\0\r\nno newline");
    assert!(root.console().ends_with("no newline"));
    supervised.finish();
}

#[test]
fn a_console_without_an_end_fills_no_disk() {
    const LINE: &str = "a guest that never stops\n";
    let root = Root::with_guest(&[Step::Loop(LINE)]);
    let size = 64 << 10;
    let options = Options {
        log: Limits { size, files: 2 },
        ..Options::default()
    };
    let supervised = root.run(options);
    let mut written = 0;
    let mut reader = Reader::open(&root.seen().folder).unwrap();
    root.wait_until(|_| {
        let entries = reader.entries().unwrap();
        written += entries.iter().map(|entry| entry.raw().len() as u64).sum::<u64>();
        written > 4 * size
    });
    supervised.kill();
    supervised.finish();
    let console = root.console();
    let last = console.lines().count() - 1;
    for (number, line) in console.lines().enumerate() {
        // The guest was killed in the middle of one.
        assert!(
            line == LINE.trim_end() || number == last,
            "line {number}: `{line}`"
        );
    }
    let logs = ["console.log", "console.log.1"].map(|name| root.seen().folder.join(name));
    let sizes = logs.map(|log| log.metadata().unwrap().len());
    assert!(sizes.iter().all(|&kept| kept < size + 100), "{sizes:?}");
    assert!(!root.seen().folder.join("console.log.2").exists());
}

#[test]
fn who_asked_is_told_even_where_nothing_stays() {
    let root = Root::with_guest(&[Step::Console("ready\n"), Step::Halt]);
    let options = Options {
        remove: true,
        ..Options::default()
    };
    let supervised = root.run(options);
    let seen = root.seen();
    let (_, end) = service::kill(&seen).unwrap();
    assert_eq!(end.code, 137);
    assert!(!seen.folder.exists());
    supervised.finish();
}

#[test]
fn what_never_ran_leaves_nothing_and_what_did_says_why_it_does_not() {
    let root = Root::with_guest(&[Step::Exit(0)]);
    let request = RunRequest {
        cpu_model: Some("max,+no-such-feature".parse().unwrap()),
        ..root.request()
    };
    let error = root.create(&request, Options::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-feature"), "{error}");
    assert!(root.instances().names().unwrap().is_empty());

    root.run(Options::default()).finish();
    std::fs::remove_file(root.seen().folder.join("disk.qcow2")).unwrap();
    let instance = root.instances().open(&"kv".parse().unwrap()).unwrap();
    lifecycle::start(instance, io::sink()).unwrap_err();
    let end = root.seen().state.end.unwrap();
    assert_eq!(end.reason, "lost");
    assert!(end.text.contains("disk.qcow2"), "{end:?}");
}
