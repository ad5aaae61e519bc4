//! Stories of one machine, from its start to its end, with a stand-in for the guest.

mod lifecycle;
mod stand_in;

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hermitage_boot::{GuestEnd, Reason};
use hermitage_disk::{Access, lock};
use launcher::{AcceleratorChoice, Entry, Error, Forward, GuestExit, Machine, RunRequest};
use rustix::process::{Pid, Signal, kill_process};
use stand_in::Step;

/// Far more than a stand-in needs on a busy machine (0.2 s on a quiet one).
const DEADLINE: Duration = Duration::from_secs(30);

/// A console that keeps what it gets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn request(image: &Path, name: &str, entry: Entry) -> RunRequest {
    RunRequest {
        entry,
        accelerator: AcceleratorChoice::Tcg,
        ..RunRequest::new(image, name.parse().unwrap())
    }
}

fn start(root: &Path, request: &RunRequest, console: impl Write + Send + 'static) -> Machine {
    launcher::plan(request).unwrap().start(root, console).unwrap()
}

fn ended(machine: &Machine) -> GuestExit {
    machine.wait_for(DEADLINE).unwrap_or_else(|| {
        let console = machine.console().unwrap_or_default();
        panic!(
            "still running after {DEADLINE:?}; console: {}",
            String::from_utf8_lossy(&console)
        )
    })
}

#[test]
fn console_and_exit_code_arrive_by_both_ways_in_and_nothing_stays() {
    let root = tempfile::tempdir().unwrap();
    let steps = [
        Step::Console("hello\n\x1b[1mworld\r\n\0"),
        Step::Control("mark main 1234\nnoise\nend exit 42 \n"),
        Step::Exit(42),
        Step::Halt,
    ];
    let image = stand_in::image(root.path(), &steps);
    for entry in [Entry::Direct, Entry::Disk] {
        let console = Kept::default();
        let machine = start(root.path(), &request(&image, "a", entry), console.clone());
        let exit = ended(&machine);
        let end = GuestEnd {
            reason: Reason::Exit,
            code: 42,
            detail: String::new(),
        };
        assert_eq!(exit, GuestExit::Ended(end), "{entry:?}");
        assert_eq!(
            *console.0.lock().unwrap(),
            b"hello\n\x1b[1mworld\r\n\0",
            "{entry:?}"
        );
        assert_eq!(machine.console().unwrap(), *console.0.lock().unwrap());
        assert_eq!(machine.wait_mark("main", DEADLINE).unwrap().tsc, 1234);
        let folder = machine.folder().to_owned();
        drop(machine);
        assert!(!folder.exists());
    }
}

#[test]
fn no_path_is_too_long_or_too_strange() {
    let folder = tempfile::tempdir().unwrap();
    // A Unix socket's path has at most 107 bytes; a comma separates QEMU's options.
    let root = folder.path().join("a, b=\"c\" ".repeat(20));
    std::fs::create_dir(&root).unwrap();
    let steps = [Step::Control("end exit 0 \n"), Step::Exit(0)];
    let image = stand_in::image(&root, &steps);
    for entry in [Entry::Direct, Entry::Disk] {
        let machine = start(&root, &request(&image, "a", entry), io::sink());
        assert_eq!(ended(&machine).code(), 0, "{entry:?}");
    }
}

#[test]
fn nobody_else_changes_an_image_from_the_plan_to_the_end() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Halt]);
    let in_use = || matches!(lock::exclude(&image), Err(hermitage_disk::Error::InUse { .. }));
    let requests = ["a", "b"].map(|name| request(&image, name, Entry::Direct));
    let launch = launcher::plan(&requests[0]).unwrap();
    assert!(in_use());
    let first = launch.start(root.path(), io::sink()).unwrap();
    let second = start(root.path(), &requests[1], io::sink());
    first.kill();
    drop(first);
    assert!(in_use());
    drop(second);
    let _lock = lock::exclude(&image).unwrap();
}

#[test]
fn the_disk_way_in_has_the_boot_configuration_on_the_overlay() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Halt]);
    let request = RunRequest {
        command: Some("other 'a b'".to_owned()),
        ..request(&image, "a", Entry::Disk)
    };
    let machine = start(root.path(), &request, io::sink());
    let overlay = machine.folder().join(launcher::command_line::file::DISK);
    let overlay = hermitage_disk::open_overlay(&overlay, Access::Read).unwrap();
    let told = overlay.boot_config().unwrap().unwrap();
    assert_eq!(told, machine.spec().boot);
    assert_eq!(told.arguments, [b"other".to_vec(), b"a b".to_vec()]);
    let image = hermitage_disk::open_image(&image).unwrap();
    assert_eq!(
        image.boot_config().unwrap().unwrap().arguments,
        [b"stand-in".to_vec()]
    );
}

#[test]
fn an_end_without_a_word_is_told_from_an_exit() {
    let root = tempfile::tempdir().unwrap();
    for (step, expected) in [
        (Step::Exit(0), GuestExit::Status(0)),
        (Step::Exit(101), GuestExit::Status(101)),
        (Step::Reset, GuestExit::Reset),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let image = stand_in::image(folder.path(), &[step, Step::Halt]);
        let machine = start(root.path(), &request(&image, "a", Entry::Direct), io::sink());
        assert_eq!(ended(&machine), expected, "{step:?}");
    }
}

#[test]
fn stops_kills_and_never_outlives_its_owner() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Control("mark main 1\n"), Step::Halt]);
    let request = request(&image, "a", Entry::Direct);
    let running = || {
        let machine = start(root.path(), &request, io::sink());
        machine.wait_mark("main", DEADLINE).unwrap();
        machine
    };
    assert_eq!(running().stop(), GuestExit::Stopped);
    assert_eq!(running().kill(), GuestExit::Killed);
    let machine = running();
    let folder = machine.folder().to_owned();
    drop(machine);
    assert!(!folder.exists());
}

#[test]
fn a_mark_that_does_not_come_is_an_error_and_no_wait_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(
        root.path(),
        &[Step::Control("mark main 1\nend exit 3 \n"), Step::Exit(3)],
    );
    let machine = start(root.path(), &request(&image, "a", Entry::Direct), io::sink());
    let error = machine.wait_mark("listen", DEADLINE).unwrap_err();
    assert!(matches!(error, Error::EndedBefore { .. }), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let image = stand_in::image(folder.path(), &[Step::Halt]);
    let machine = start(root.path(), &request(&image, "b", Entry::Direct), io::sink());
    let error = machine
        .wait_mark("listen", Duration::from_millis(100))
        .unwrap_err();
    assert!(matches!(error, Error::NotReached { .. }), "{error}");
}

#[test]
fn a_name_is_taken_while_its_instance_runs() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Halt]);
    let request = request(&image, "a", Entry::Direct);
    let first = start(root.path(), &request, io::sink());
    let again = || launcher::plan(&request).unwrap().start(root.path(), io::sink());
    let error = again().unwrap_err();
    assert!(matches!(error, Error::Running { .. }), "{error}");
    assert!(first.folder().exists());
    drop(first);
    assert!(again().is_ok());
}

#[test]
fn a_burst_of_clients_waits_at_a_forward() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Console("ready\n"), Step::Halt]);
    let request = RunRequest {
        forwards: vec![Forward::tcp_from_any_port(80)],
        ..request(&image, "a", Entry::Direct)
    };
    let machine = start(root.path(), &request, io::sink());
    let address = machine.spec().forwards[0].host.into();
    let pid = Pid::from_raw(machine.process().unwrap().pid.cast_signed()).unwrap();
    // It takes no connection from here on.
    kill_process(pid, Signal::STOP).unwrap();
    let waiting: Vec<_> = (0..64)
        .map(|_| TcpStream::connect_timeout(&address, DEADLINE).unwrap())
        .collect();
    assert_eq!(waiting.len(), 64);
}

#[test]
fn forwards_from_any_port_say_which_was_chosen() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Control("mark main 1\n"), Step::Halt]);
    let request = RunRequest {
        forwards: vec![Forward::tcp_from_any_port(80)],
        ..request(&image, "a", Entry::Direct)
    };
    let machine = start(root.path(), &request, io::sink());
    machine.wait_mark("main", DEADLINE).unwrap();
    let address = machine.spec().forwards[0].host;
    std::net::TcpStream::connect(address).unwrap();
}

#[test]
fn a_console_that_cannot_be_written_stops_the_machine() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Loop("x")]);
    let machine = start(root.path(), &request(&image, "a", Entry::Direct), Broken);
    assert_eq!(ended(&machine), GuestExit::Stopped);
}

#[test]
fn a_console_that_nobody_reads_holds_up_no_stop() {
    struct Stuck(Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Until the test ends, which drops the sender.
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let root = tempfile::tempdir().unwrap();
    let steps = [Step::Console("x"), Step::Control("mark main 1\n"), Step::Halt];
    let image = stand_in::image(root.path(), &steps);
    let (_end, stuck) = channel();
    let machine = start(root.path(), &request(&image, "a", Entry::Direct), Stuck(stuck));
    machine.wait_mark("main", DEADLINE).unwrap();
    assert_eq!(machine.stop(), GuestExit::Stopped);
}

#[test]
fn qemus_own_words_reach_the_user() {
    let root = tempfile::tempdir().unwrap();
    let image = stand_in::image(root.path(), &[Step::Halt]);
    let request = RunRequest {
        cpu_model: Some("max,+no-such-feature".parse().unwrap()),
        ..request(&image, "a", Entry::Direct)
    };
    let launch = launcher::plan(&request).unwrap();
    let error = launch.start(root.path(), io::sink()).unwrap_err();
    let Error::NotStarted(GuestExit::Lost(words)) = error else {
        panic!("another error: {error}")
    };
    assert!(words.contains("no-such-feature"), "{words}");
    assert_eq!(fs::read_dir(root.path().join("instances")).unwrap().count(), 0);
}
