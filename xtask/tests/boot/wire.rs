//! Stories of a guest whose frames leave its host over a cable: whoever is at its other end looks at the sums of TCP and
//! UDP. Each failed before the kernel's patch that its comment names.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use hermitage_boot::control::mark;
use launcher::{Entry, Machine, RunRequest};
use rustix::ioctl::{Opcode, Setter, ioctl};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::net::namespace::{self, BRIDGE, ip};
use super::{DEADLINE, image, request};

const GUEST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 9000);

/// The other host.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The card of the bridge's host, and what the other host calls its own.
const CARD: &str = "card";
const FAR_CARD: &str = "far";

/// Runs a story on another host, a network namespace, with a guest on this one that echoes. A cable joins the two; the
/// card at our end computes no sums, as the cheapest ones do.
fn with_a_guest_far_away(story: impl FnOnce() + Send) {
    namespace::within(|| {
        let far = new_namespace();
        ip(&format!("link add {CARD} type veth peer name {FAR_CARD}"));
        compute_no_sums(CARD);
        ip(&format!("link set {CARD} master {BRIDGE} up"));
        let place = format!("/proc/{}/fd/{}", process::id(), far.as_raw_fd());
        ip(&format!("link set {FAR_CARD} netns {place}"));
        let root = tempfile::tempdir().unwrap();
        let request = RunRequest {
            network: "bridge".parse().unwrap(),
            address: Some(format!("{}/24", GUEST.ip()).parse().unwrap()),
            trace: true,
            ..request(image(), Entry::Direct, "probe echo-both")
        };
        let launch = launcher::plan(&request).unwrap();
        let machine: Machine = launch.start(root.path(), io::sink()).unwrap();
        machine.wait_mark(mark::LISTEN, DEADLINE).unwrap();
        on_a_thread(|| {
            move_into_link_name_space(far.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            ip(&format!("address add {FAR}/24 dev {FAR_CARD}"));
            ip(&format!("link set {FAR_CARD} up"));
            story();
        });
    });
}

/// A network namespace with nothing in it. It is there for as long as this is.
fn new_namespace() -> File {
    on_a_thread(|| {
        // SAFETY: a new network namespace, and nothing else, for this thread: no memory and no descriptor is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    })
}

/// On a thread of its own, whose panic is the test's: the namespace of a thread goes with it.
fn on_a_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let ended = thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// What `ethtool -K CARD tx off` does.
fn compute_no_sums(card: &str) {
    // linux/sockios.h, linux/ethtool.h
    const SIOCETHTOOL: Opcode = 0x8946;
    const ETHTOOL_STXCSUM: u32 = 0x17;
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Command {
        command: u32,
        data: u32,
    }
    /// `struct ifreq`, which has 16 bytes for the name and 24 for what belongs to the call.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        command: *const Command,
        rest: [u64; 2],
    }
    let mut name = [0; 16];
    let text = CString::new(card).unwrap();
    name[..text.as_bytes().len()].copy_from_slice(text.as_bytes());
    let command = Command {
        command: ETHTOOL_STXCSUM,
        data: 0,
    };
    let request = Request {
        name,
        command: &raw const command,
        rest: [0; 2],
    };
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // SAFETY: the call takes a `struct ifreq` with a pointer to what the command reads, which lives until it returns.
    unsafe { ioctl(&any, Setter::<SIOCETHTOOL, Request>::new(request)) }.unwrap();
}

/// Patch 0091.
#[test]
#[ignore = "boots virtual machines"]
fn a_guest_is_understood_behind_a_card_that_computes_no_sums() {
    /// More than a frame, so that some of them are full.
    const LENGTH: u32 = 100_000;
    with_a_guest_far_away(|| {
        let mut stream = TcpStream::connect_timeout(&GUEST.into(), DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes came back", received.len());
        let socket = UdpSocket::bind((FAR, 0)).unwrap();
        // The guest's socket for datagrams may come after the one that it listens on.
        assert_eq!(
            echoed(&socket, || _ = socket.send_to(b"odd", GUEST).unwrap()),
            b"odd"
        );
    });
}

/// What comes back. It is sent again if nothing does: datagrams may be lost.
fn echoed(socket: &UdpSocket, send: impl Fn()) -> Vec<u8> {
    let mut answer = [0; 1500];
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let begin = Instant::now();
    loop {
        send();
        match socket.recv(&mut answer) {
            Ok(length) => break answer[..length].to_vec(),
            Err(error) => assert!(begin.elapsed() < DEADLINE, "no answer: {error}"),
        }
    }
}

/// Patch 0092.
#[test]
#[ignore = "boots virtual machines"]
fn what_was_damaged_on_its_way_is_not_received() {
    with_a_guest_far_away(|| {
        let sender = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP)).unwrap();
        let send = |datagram: &[u8]| {
            let sent = sendto(&sender, datagram, SendFlags::empty(), &GUEST);
            assert_eq!(sent, Ok(datagram.len()));
        };
        // From a socket each: what was sent more than once is answered more than once.
        let sockets = [(); 2].map(|()| UdpSocket::bind((FAR, 0)).unwrap());
        let [from_one, from_other] = sockets
            .each_ref()
            .map(|socket| socket.local_addr().unwrap().port());
        let first = datagram(from_one, b"first");
        assert_eq!(echoed(&sockets[0], || send(&first)), b"first");
        let [flaws, last] = [b"flaws", b"final"].map(|words| datagram(from_other, words));
        let damaged = [&flaws[..flaws.len() - 1], b"d"].concat();
        let send_both = || {
            send(&damaged);
            send(&last);
        };
        assert_eq!(echoed(&sockets[1], send_both), b"final");
    });
}

/// A datagram from a port of [`FAR`] to [`GUEST`], with its header (RFC 768).
fn datagram(from: u16, words: &[u8]) -> Vec<u8> {
    const HEADER: u16 = 8;
    const PROTOCOL: u16 = 17;
    let length = HEADER + words.len() as u16;
    let mut datagram = [from, GUEST.port(), length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(words);
    let pseudo_header = [
        &FAR.octets()[..],
        &GUEST.ip().octets(),
        &PROTOCOL.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat();
    let bytes = [&pseudo_header[..], &datagram, &[0][..words.len() % 2]].concat();
    let sum = bytes
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}
