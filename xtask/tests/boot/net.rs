//! Stories of guests on a bridge, addresses by DHCP and connections among themselves, and on the user network.

#[path = "../../../launcher/tests/namespace/mod.rs"]
#[expect(dead_code, reason = "the launcher's tests use all of it")]
pub(super) mod namespace;

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use launcher::usage::Usage;
use launcher::{Entry, Machine, RunRequest};
use namespace::BRIDGE;

use super::lan::{User, until};
use super::{DEADLINE, image, request, seen};

/// Two guests, known by their MAC addresses.
const FIRST: (&str, Ipv4Addr) = ("a2:13:15:00:80:01", Ipv4Addr::new(10, 77, 0, 11));
const SECOND: (&str, Ipv4Addr) = ("a2:13:15:00:80:02", Ipv4Addr::new(10, 77, 0, 12));

/// dnsmasq, ended with the test.
struct DhcpServer(
    Child,
    #[expect(dead_code, reason = "kept until the server has ended")] tempfile::TempDir,
);

impl DhcpServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
            ])
            .args([
                "--bind-interfaces",
                "--log-facility=-",
                "--dhcp-authoritative",
                "--no-ping",
            ])
            .arg(format!("--interface={BRIDGE}"))
            .arg("--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0")
            .arg(format!("--dhcp-leasefile={}", file("leases")))
            .arg(format!("--pid-file={}", file("pid")));
        for (mac, address) in [FIRST, SECOND] {
            command.arg(format!("--dhcp-host={mac},{address}"));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(
            command
                .spawn()
                .expect("dnsmasq: `cargo xtask doctor --fix` installs it"),
            folder,
        )
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path, name: &str, mac: &str, network: &str, command: &str) -> Machine {
    let request = RunRequest {
        name: name.parse().unwrap(),
        mac: Some(mac.parse().unwrap()),
        network: network.parse().unwrap(),
        ..request(image(), Entry::Direct, &format!("probe {command}"))
    };
    let launch = launcher::plan(&request).unwrap();
    launch.start(root, io::sink()).unwrap()
}

fn console(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console().unwrap()).into_owned()
}

#[test]
#[ignore = "boots virtual machines"]
fn two_guests_get_addresses_by_mac_and_talk_to_each_other() {
    namespace::within(|| {
        let _server = DhcpServer::start();
        let root = tempfile::tempdir().unwrap();
        // Where there is no `/dev/vhost-net`, vhost is a plain tap.
        let first = start(root.path(), "first", FIRST.0, "bridge", "echo-all");
        let to = format!("call {}:9000 word", FIRST.1);
        let second = start(root.path(), "second", SECOND.0, "vhost", &to);
        let exit = second.wait_for(DEADLINE);
        let said = console(&second);
        assert!(exit.is_some(), "second: {said}; first: {}", console(&first));
        assert_eq!(exit.unwrap().code(), 0, "{said}");
        assert_eq!(said, format!("{} was answered: word\n", SECOND.1));
        let usage = Usage::of(&first.process().unwrap()).unwrap();
        let traffic = usage.traffic.expect("it has a tap device");
        assert!(traffic.received > 0 && traffic.sent > 0, "{traffic:?}");
    });
}

/// The one name that the name server knows, as in its question, and its address.
const KNOWN: (&[u8], Ipv4Addr) = (b"\x07service\x04test\0", Ipv4Addr::new(192, 0, 2, 7));

/// The answer to a question (RFC 1035, 4.1): an address, or that there is no such name.
fn answer(question: &[u8]) -> Vec<u8> {
    /// Bytes of a message before its question.
    const HEADER: usize = 12;
    let is_known = question[HEADER..].starts_with(KNOWN.0);
    // The question's number; an answer, of one who asks others for it, or no such name; one question, 0 or 1 records.
    let mut answer = question[..2].to_vec();
    answer.extend([
        0x81,
        if is_known { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::from(is_known),
        0,
        0,
        0,
        0,
    ]);
    answer.extend(&question[HEADER..]);
    if is_known {
        // The name of the question; an address of the internet; valid for a minute; four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(KNOWN.1.octets());
    }
    answer
}

/// Patch 0039, and what `--dns` is for: whoever is named there is asked, and not the one of the lease.
#[test]
#[ignore = "boots virtual machines"]
fn a_name_server_that_is_given_is_asked() {
    namespace::within(|| {
        // The guest's 10.0.2.2 is this host's own address.
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, guest)) = server.recv_from(&mut question) {
                server.send_to(&answer(&question[..length]), guest).unwrap();
            }
        });
        let said = |name: &str| {
            let request = RunRequest {
                name_servers: vec![Ipv4Addr::new(10, 0, 2, 2)],
                ..request(image(), Entry::Direct, &format!("probe resolve {name}"))
            };
            seen(&request).console
        };
        assert_eq!(said("service.test"), "192.0.2.7:80\n");
        assert_eq!(said("nobody.test"), "no such name\n");
    });
}

/// Patch 0093. There QEMU counts nothing.
#[test]
#[ignore = "boots virtual machines"]
fn a_guest_on_the_user_network_says_what_it_has_received() {
    const LENGTH: u64 = 1_000_000;
    /// Far more than the headers take, and what is sent again on a busy host.
    const MOST: u64 = 2 * LENGTH;
    let user = User::new();
    user.start("guest", &["-f", "0:9000"], "probe echo-all");
    let port = user.ports("guest")[0];
    let sent = vec![7; usize::try_from(LENGTH).unwrap()];
    let echo = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&sent).ok()?;
        stream.shutdown(Shutdown::Write).ok()?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).ok()?;
        (!received.is_empty()).then_some(received)
    };
    // Until the guest listens, QEMU accepts connections that come to nothing.
    assert!(until("answer", echo) == sent);
    let rows = user.json(&["stats", "--no-stream", "--json", "guest"]);
    let count = |which: &str| rows[0][which].as_u64().unwrap();
    let (received, sent) = (count("received_bytes"), count("sent_bytes"));
    assert!((LENGTH..MOST).contains(&received), "{rows}");
    assert!((LENGTH..MOST).contains(&sent), "{rows}");
}

/// Patch 0096. More than the guest can take one by one: they come while it is occupied with the first.
#[test]
#[ignore = "boots virtual machines"]
fn a_burst_of_datagrams_is_answered() {
    const BURST: u8 = 100;
    let user = User::new();
    user.start("guest", &["-f", "0:9000/udp"], "probe echo-both");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .connect((Ipv4Addr::LOCALHOST, user.ports("guest")[0]))
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answer = || {
        let mut buffer = [0; 2];
        let length = socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    };
    // Until the guest listens, datagrams are lost.
    until("answer", || {
        socket.send(b"up").ok()?;
        answer()
    });
    while answer().is_some() {}
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    for number in 0..BURST {
        socket.send(&[number]).unwrap();
    }
    let mut missing = (0..BURST).collect::<BTreeSet<_>>();
    while !missing.is_empty() {
        let received = answer().unwrap_or_else(|| panic!("not answered: {missing:?}"));
        missing.remove(&received[0]);
    }
}

/// Patch 0097.
#[test]
#[ignore = "boots virtual machines"]
fn a_guest_asks_by_datagram() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = [0; 100];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answer", from).unwrap();
        buffer[..length].to_vec()
    });
    let seen = seen(&request(image(), Entry::Direct, &format!("probe ask {port}")));
    assert_eq!(
        (seen.exit.code(), seen.console.as_str()),
        (0, "answer\n"),
        "{seen:?}"
    );
    assert_eq!(server.join().unwrap(), b"question");
}
