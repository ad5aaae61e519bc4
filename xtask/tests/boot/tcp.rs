//! Stories of a guest's TCP connections. Each failed before the kernel's patch that its comment names.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::Duration;

use hermitage_boot::control::mark;
use launcher::{Entry, Forward, GuestExit, Machine, RunRequest};

use super::{DEADLINE, image, request, seen};

/// Time for an answer; it takes 10 ms.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A probe that listens.
pub(super) struct Listening {
    machine: Machine,
    address: SocketAddrV4,
    _root: tempfile::TempDir,
}

impl Listening {
    fn boot(command: &str) -> Self {
        Self::start(request(image(), Entry::Direct, command))
    }

    pub(super) fn start(request: RunRequest) -> Self {
        let request = RunRequest {
            forwards: vec![Forward::tcp_from_any_port(9000)],
            trace: true,
            ..request
        };
        let root = tempfile::tempdir().unwrap();
        let machine = launcher::plan(&request)
            .unwrap()
            .start(root.path(), io::sink())
            .unwrap();
        machine.wait_mark(mark::LISTEN, DEADLINE).unwrap();
        let address = machine.spec().forwards[0].host;
        Self {
            machine,
            address,
            _root: root,
        }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).unwrap();
        stream
    }

    /// What the guest wrote to its console when it has ended well.
    fn said(&self) -> String {
        let exit = self.machine.wait_for(DEADLINE);
        let said = String::from_utf8(self.machine.console().unwrap()).unwrap();
        assert_eq!(exit.as_ref().map(GuestExit::code), Some(0), "{exit:?}: {said}");
        said
    }
}

/// Patch 0024.
#[test]
#[ignore = "boots virtual machines"]
fn a_listener_knows_its_port() {
    let said = |port: u16| {
        seen(&request(
            image(),
            Entry::Direct,
            &format!("probe local-address {port}"),
        ))
        .console
    };
    assert_eq!(said(9000), "0.0.0.0:9000\n");
    let chosen = said(0);
    let port = chosen
        .strip_prefix("0.0.0.0:")
        .and_then(|port| port.trim_end().parse().ok());
    assert!(port.is_some_and(|port: u16| port >= 49152), "{chosen}");
}

/// Patch 0025.
#[test]
#[ignore = "boots virtual machines"]
fn no_delay_is_what_was_asked_for() {
    let guest = Listening::boot("probe no-delay");
    drop(guest.connect());
    assert_eq!(guest.said(), "at first false, then true, then false\n");
}

/// Patch 0026.
#[test]
#[ignore = "boots virtual machines"]
fn a_client_that_has_finished_sending_is_answered() {
    let guest = Listening::boot("probe answer-all");
    let mut stream = guest.connect();
    stream.write_all(b"all that I have").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "all that I have");
}

/// Patch 0027.
#[test]
#[ignore = "boots virtual machines"]
fn a_guest_that_has_finished_sending_still_receives() {
    let guest = Listening::boot("probe half-close");
    let mut stream = guest.connect();
    let mut sent = String::new();
    stream.read_to_string(&mut sent).unwrap();
    assert_eq!(sent, "hello");
    stream.write_all(b"and goodbye").unwrap();
    drop(stream);
    assert_eq!(guest.said(), "and goodbye\n");
}
