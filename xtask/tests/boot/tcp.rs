//! Stories of a guest's TCP connections. Each failed before the kernel's patch that its comment names.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hermitage_boot::Record;
use hermitage_boot::control::mark;
use launcher::{Entry, Forward, GuestExit, Machine, RunRequest};

use super::{DEADLINE, image, request, seen};

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
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The id of QEMU's process.
    pub(super) fn process(&self) -> u32 {
        self.machine.process().unwrap().pid
    }

    /// What the guest wrote to its console when it has ended well.
    fn said(&self) -> String {
        let exit = self.machine.wait_for(DEADLINE);
        let said = String::from_utf8(self.machine.console().unwrap()).unwrap();
        assert_eq!(exit.as_ref().map(GuestExit::code), Some(0), "{exit:?}: {said}");
        said
    }
}

/// What a client sends before the guest has an address is lost, and QEMU's user network sends it again after six seconds.
#[test]
#[ignore = "boots virtual machines"]
fn a_guest_is_said_to_listen_when_it_can_be_reached() {
    for cpus in ["1", "2"] {
        let guest = Listening::start(RunRequest {
            cpus: cpus.parse().unwrap(),
            // Frames come late, 0.1 s after one another: the program listens long before the address is there.
            qemu_arguments: ["-object", "filter-buffer,id=late,netdev=net,interval=100000"]
                .map(String::from)
                .into(),
            ..request(image(), Entry::Direct, "probe load-server")
        });
        let said = guest.machine.records();
        let at = |wanted: fn(&Record) -> bool| said.iter().position(|received| wanted(&received.record));
        let address = at(|record| matches!(record, Record::Address(_)));
        let listen = at(|record| matches!(record, Record::Mark { name, .. } if name == mark::LISTEN));
        assert!(address.is_some() && address < listen, "{cpus}: {said:?}");
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

/// Patch 0031.
#[test]
#[ignore = "boots virtual machines"]
fn no_memory_for_a_thread_is_an_error() {
    let said = seen(&request(image(), Entry::Direct, "probe threads")).console;
    assert_eq!(said, "Unable to create thread!\nenough\n");
}

/// Patch 0035.
#[test]
#[ignore = "boots virtual machines"]
fn closing_a_connection_does_not_wait_for_the_client() {
    let guest = Listening::boot("probe close");
    let mut stream = guest.connect();
    // It ends while the client still has its side open.
    assert_eq!(guest.said(), "closed\n");
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    assert_eq!(received, "hello");
}

/// Patch 0035.
#[test]
#[ignore = "boots virtual machines"]
fn what_was_written_before_the_end_arrives() {
    const LENGTH: usize = 1 << 20;
    let guest = Listening::boot(&format!("probe last-words {LENGTH}"));
    let mut stream = guest.connect();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let expected: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    assert!(received == expected, "{} bytes", received.len());
    assert_eq!(guest.said(), "");
}

/// Patch 0036.
#[test]
#[ignore = "boots virtual machines"]
fn a_read_waits_no_longer_than_it_may() {
    let guest = Listening::boot("probe read-timeout");
    let _silent = guest.connect();
    assert_eq!(
        guest.said(),
        "at first None, then Some(300ms)\nWouldBlock, in time\n"
    );
}

/// Patch 0037.
#[test]
#[ignore = "boots virtual machines"]
fn a_broken_connection_is_no_end() {
    let guest = Listening::boot("probe reset");
    let stream = guest.connect();
    // Whoever closes a connection before he has read what came breaks it.
    stream.peek(&mut [0]).unwrap();
    drop(stream);
    assert_eq!(guest.said(), "Err(ConnectionReset)\n");
}

/// Patch 0037: also before the lease of an address.
#[test]
#[ignore = "boots virtual machines"]
fn a_guest_connects_or_knows_why_not() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("probe connect {port}");
    let said = || seen(&request(image(), Entry::Direct, &connect)).console;
    assert_eq!(said(), "10.0.2.15\n");
    drop(listener);
    assert_eq!(said(), "ConnectionRefused\n");
}

/// Patch 0038: the address is taken, also with a mask that does not end with an octet, and the launcher knows it.
#[test]
#[ignore = "boots virtual machines"]
fn an_address_that_is_given_is_taken() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let cidr = "10.0.2.77/25".parse().unwrap();
    let request = RunRequest {
        address: Some(cidr),
        // Where the probe looks for the host.
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        ..request(image(), Entry::Direct, &format!("probe connect {port}"))
    };
    let root = tempfile::tempdir().unwrap();
    let machine = launcher::plan(&request)
        .unwrap()
        .start(root.path(), io::sink())
        .unwrap();
    let exit = machine.wait_for(DEADLINE);
    let console = String::from_utf8(machine.console().unwrap()).unwrap();
    assert_eq!(console, "10.0.2.77\n", "{exit:?}");
    let told = |received: &launcher::machine::Received| received.record == Record::Address(cidr);
    assert!(machine.records().iter().any(told));
}

/// Patch 0039: what needs no name server.
#[test]
#[ignore = "boots virtual machines"]
fn addresses_and_the_host_itself_are_names_too() {
    let said = |name: &str| {
        let request = request(image(), Entry::Direct, &format!("probe resolve {name}"));
        seen(&request).console
    };
    assert_eq!(said("localhost"), "127.0.0.1:80\n");
    assert_eq!(said("10.1.2.3"), "10.1.2.3:80\n");
}

/// Clients at a time, and connections of each. QEMU's user network lets no more than two wait.
const CLIENTS: [usize; 2] = [2, 5000];

/// Every byte of ten thousand connections, in both directions. Patch 0080: half of them took 11 ms.
#[test]
#[ignore = "boots virtual machines"]
fn no_byte_of_many_connections_is_lost() {
    let guest = Listening::boot("probe echo-all");
    let [clients, connections] = CLIENTS;
    let talk = &|client: usize| {
        for connection in 0..connections {
            let length = (client * 7919 + connection * 104_729) % 3000;
            let sent: Vec<u8> = (0..length).map(|at| (at * 31 + connection) as u8).collect();
            let mut stream = guest.connect();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert!(
                received == sent,
                "client {client}, connection {connection}: {} of {length} bytes",
                received.len()
            );
        }
    };
    thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || talk(client));
        }
    });
}

/// Patch 0080. What a peer sends first is a segment; the rest, and the end, when that was acknowledged.
#[test]
#[ignore = "boots virtual machines"]
fn no_answer_waits_for_a_timer() {
    /// The shortest timer that there was: the guest's until it acknowledged.
    const TIMER: Duration = Duration::from_millis(10);
    let guest = Listening::boot("probe load-server");
    let mut kept = guest.connect();
    kept.set_nodelay(true).unwrap();
    kept.write_all(b"e").unwrap();
    for length in [1, 100, 1500, 5000] {
        let (sent, mut received) = (vec![b'c'; length], vec![0; length]);
        let over_one_connection = quick(|| {
            kept.write_all(&sent).unwrap();
            kept.read_exact(&mut received).unwrap();
        });
        let over_a_new_one = quick(|| {
            let mut stream = guest.connect();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
        });
        let times = [over_one_connection, over_a_new_one];
        assert!(
            times.iter().all(|&time| time < TIMER),
            "{length} bytes: {times:?}"
        );
    }
}

/// How long the quickest quarter of many goes takes at most. What else the host does makes some slow; a timer makes all
/// slow.
fn quick(mut go: impl FnMut()) -> Duration {
    let mut times = [(); 200].map(|()| {
        let begin = Instant::now();
        go();
        begin.elapsed()
    });
    times.sort_unstable();
    times[times.len() / 4]
}
