//! Guests on a network: addresses, names, ways in and out, and what none of them may do.

mod guest;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread;

use guest::{DEADLINE, Network, attachment, eventually, forward, mac};
use hermitage_network::control::{Client, card};
use hermitage_network::{Mac, NetworkName, Settings};
use smoltcp::socket::tcp;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress,
};

fn network() -> Network {
    Network::new(Settings::default())
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);

#[test]
fn a_guest_gets_its_address_for_ever() {
    let network = network();
    let mut first = network.guest(1, "kv", &[]);
    let (cidr, router, servers) = first.lease();
    assert_eq!(cidr.to_string(), "10.89.0.2/24");
    assert_eq!(cidr.address(), first.attached.address);
    assert_eq!((router, servers), (Some(GATEWAY), vec![GATEWAY]));
    let second = network.guest(2, "db", &[]);
    assert_eq!(second.attached.address.to_string(), "10.89.0.3");
    drop((first, second));
    network.ended();
    // A new process, and the other one first.
    assert_eq!(
        network.guest(2, "db", &[]).attached.address.to_string(),
        "10.89.0.3"
    );
    assert_eq!(
        network.guest(1, "kv", &[]).attached.address.to_string(),
        "10.89.0.2"
    );
}

#[test]
fn guests_talk_to_each_other() {
    let network = network();
    let (mut server, mut client) = (network.guest(1, "kv", &[]), network.guest(2, "db", &[]));
    let to = SocketAddrV4::new(server.lease().0.address(), 9000);
    client.lease();
    let server = server.echo(9000);
    // More than all buffers on the way hold together.
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let handle = client.tcp();
    client.connect(handle, to, 40_000);
    let (mut done, mut got) = (0, Vec::new());
    client.until("all bytes back", |client| {
        let socket = client.socket(handle);
        if socket.can_send() {
            done += socket.send_slice(&sent[done..]).unwrap();
        }
        while socket.can_recv() {
            socket
                .recv(|bytes| (bytes.len(), got.extend_from_slice(bytes)))
                .unwrap();
        }
        if done == sent.len() {
            socket.close();
        }
        // To the server's end, not only to this side's: its acknowledgement of the server's end may be delayed.
        server.is_finished().then_some(())
    });
    assert!(got == sent);
    let mut server = server.join().unwrap();
    let members = server.client.members().unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(members[0].name, "kv");
    assert!(members[0].counters.received_bytes > 2_000_000);
    assert_eq!(members[0].counters.refused, 0);
}

#[test]
fn names_are_found_from_guests_and_from_the_host() {
    let network = network();
    let mut kv = network.guest(1, "kv", &[]);
    let _db = network.guest(2, "db", &[]);
    kv.lease();
    let address = kv.attached.address;
    assert_eq!(kv.client.find("kv.app.internal").unwrap(), [address]);
    assert_eq!(kv.client.find("all").unwrap().len(), 2);
    assert!(kv.client.find("nobody").unwrap().is_empty());

    let mut query = simple_dns::Packet::new_query(7);
    let name = simple_dns::Name::new_unchecked("db");
    let question = simple_dns::Question::new(
        name,
        simple_dns::TYPE::A.into(),
        simple_dns::CLASS::IN.into(),
        false,
    );
    query.questions.push(question);
    let handle = kv.udp(5353);
    let (reply, from) = kv.ask(
        handle,
        SocketAddrV4::new(GATEWAY, 53),
        &query.build_bytes_vec().unwrap(),
    );
    assert_eq!(from.to_string(), "10.89.0.1:53");
    let reply = simple_dns::Packet::parse(&reply).unwrap();
    let [answer] = reply.answers.as_slice() else {
        panic!("{reply:?}")
    };
    let simple_dns::rdata::RData::A(a) = &answer.rdata else {
        panic!("{answer:?}")
    };
    assert_eq!(Ipv4Addr::from_bits(a.address).to_string(), "10.89.0.3");
}

#[test]
fn a_port_of_the_host_leads_to_a_guest_and_waits_until_it_is_up() {
    let network = network();
    let mut guest = network.guest(1, "kv", &[forward(9000, false)]);
    let port = guest.attached.ports[0];
    // Before the guest has an address, let alone a listener.
    let mut host = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    host.set_read_timeout(Some(DEADLINE)).unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253) as u8).collect();
    let writer = {
        let (mut host, sent) = (host.try_clone().unwrap(), sent.clone());
        thread::spawn(move || {
            host.write_all(&sent).unwrap();
            host.shutdown(Shutdown::Write).unwrap();
        })
    };
    let handle = guest.tcp();
    guest.socket(handle).listen(9000).unwrap();
    guest.sockets.remove(handle);
    // The listener comes with the echo, in the same poll as the address: nothing is refused in between.
    guest.lease();
    let guest = guest.echo(9000);
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert_eq!(got.len(), sent.len());
    assert!(got == sent);
    guest.join().unwrap();
}

#[test]
fn a_udp_port_of_the_host_leads_to_a_guest() {
    let network = network();
    let mut guest = network.guest(1, "kv", &[forward(7, true)]);
    let handle = guest.udp(7);
    let port = guest.attached.ports[0];
    let guest = thread::spawn(move || {
        // What comes before waits at the host.
        guest.lease();
        for _ in 0..2 {
            guest.until("a datagram", |guest| {
                let socket = guest.sockets.get_mut::<smoltcp::socket::udp::Socket<'_>>(handle);
                let (bytes, meta) = socket.recv().ok()?;
                let answer = [bytes, b"!"].concat();
                socket.send_slice(&answer, meta.endpoint).unwrap();
                Some(())
            });
        }
        guest
    });
    // Two peers, each of which gets its own answer.
    let peers = ["one", "two"].map(|text| {
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        host.set_read_timeout(Some(DEADLINE)).unwrap();
        host.send_to(text.as_bytes(), (Ipv4Addr::LOCALHOST, port))
            .unwrap();
        (host, text)
    });
    for (host, text) in peers {
        let mut buffer = [0; 16];
        let (length, from) = host.recv_from(&mut buffer).unwrap();
        assert_eq!(from.port(), port);
        assert_eq!(
            std::str::from_utf8(&buffer[..length]).unwrap(),
            format!("{text}!")
        );
    }
    guest.join().unwrap();
}

#[test]
fn a_user_dials_a_guest_once_it_is_up() {
    let network = network();
    let mut guest = network.guest(1, "kv", &[]);
    let error = network.client().dial("nobody", 9000).unwrap_err().to_string();
    assert!(error.contains("`nobody`"), "{error}");
    // Dialled before the guest has an address; the port has no listener yet.
    let early = network.client();
    let early = thread::spawn(move || early.dial("kv", 9000).map(drop).unwrap_err().to_string());
    guest.lease();
    guest.until("a refusal", |_| early.is_finished().then_some(()));
    assert!(early.join().unwrap().contains("refuses"));
    let guest = guest.echo(9000);
    let mut stream = eventually("the echo listens", || {
        network.client().dial("kv.app.internal", 9000).ok()
    });
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got, "hello");
    guest.join().unwrap();
}

#[test]
fn the_host_is_reached_only_where_that_was_asked_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = SocketAddrV4::new(GATEWAY, listener.local_addr().unwrap().port());
    let ask = |settings: Settings, server: Option<TcpListener>| {
        let network = Network::new(settings);
        let mut guest = network.guest(1, "kv", &[]);
        guest.lease();
        let answer = server.map(|listener| {
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4];
                stream.read_exact(&mut bytes).unwrap();
                stream.write_all(&bytes).unwrap();
            })
        });
        let handle = guest.tcp();
        guest.connect(handle, to, 40_000);
        let got = guest.until("an answer or a refusal", |guest| {
            let socket = guest.socket(handle);
            if socket.can_send() && socket.send_queue() == 0 && socket.state() == tcp::State::Established {
                socket.send_slice(b"ping").unwrap();
            }
            if socket.can_recv() {
                let mut bytes = [0; 4];
                assert_eq!(socket.recv_slice(&mut bytes).unwrap(), 4);
                return Some(bytes.to_vec());
            }
            (socket.state() == tcp::State::Closed).then(Vec::new)
        });
        if let Some(answer) = answer {
            answer.join().unwrap();
        }
        got
    };
    let host_access = Settings {
        host_access: true,
        ..Settings::default()
    };
    assert_eq!(ask(host_access, listener.try_clone().ok()), b"ping");
    assert_eq!(ask(Settings::default(), None), b"");
    drop(listener);
    // The host refuses, so the guest is refused.
    assert_eq!(ask(host_access, None), b"");
}

/// Frames that a guest may not send, and one that it may, so that the test sees the difference.
#[test]
fn nobody_takes_anothers_mac_or_address() {
    let network = network();
    let mut good = network.guest(1, "good", &[]);
    let evil = network.guest(2, "evil", &[]);
    let (ours, theirs) = (evil.attached.address, good.attached.address);
    let arp = |mac_of_frame: Mac, mac_of_arp: Mac, address: Ipv4Addr| {
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: mac_of_arp,
            source_protocol_addr: address,
            target_hardware_addr: mac(1),
            target_protocol_addr: theirs,
        };
        let mut bytes = vec![0; 14 + arp.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        EthernetRepr {
            src_addr: mac_of_frame,
            dst_addr: mac(1),
            ethertype: EthernetProtocol::Arp,
        }
        .emit(&mut frame);
        arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        bytes
    };
    evil.card.send(&arp(mac(1), mac(2), ours));
    evil.card.send(&arp(mac(2), mac(1), ours));
    evil.card.send(&arp(mac(2), mac(2), GATEWAY));
    evil.card.send(&arp(mac(2), mac(2), theirs));
    evil.card.send(&[0; 3]);
    evil.card.send(&[0xff; 1600]);
    let allowed = arp(mac(2), mac(2), ours);
    evil.card.send(&allowed);
    // The gateway asks whether the guest is up; all else is from the other guest.
    let gateway = |frame: &Vec<u8>| frame[6..12] == hermitage_network::subnet::GATEWAY_MAC.0;
    let first = loop {
        good.card.wait(DEADLINE);
        let frame = good.card.frame().expect("a frame, in time");
        if !gateway(&frame) {
            break frame;
        }
    };
    assert!(
        first == allowed,
        "the first frame that arrives is the only good one"
    );
    let members = good.client.members().unwrap();
    let evil = members.iter().find(|member| member.name == "evil").unwrap();
    assert_eq!(evil.counters.refused, 6);

    let error = network.try_guest(1, "thief", &[]).err().unwrap().to_string();
    assert!(error.contains("`good`"), "{error}");
}

#[test]
fn a_forward_that_cannot_be_opened_is_refused_and_leaves_nothing() {
    let network = network();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut wanted = forward(9000, false);
    wanted.host = taken.local_addr().unwrap().port();
    let error = network
        .try_guest(1, "kv", &[wanted.clone()])
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(&wanted.host.to_string()), "{error}");
    drop(taken);
    let mut guest = network.guest(1, "kv", &[wanted.clone()]);
    assert_eq!(guest.attached.ports, [wanted.host]);
    assert_eq!(guest.client.members().unwrap().len(), 1);
}

/// A network's process that is killed: the cards live on in those who attached them.
#[test]
fn guests_go_on_when_the_network_is_started_again() {
    let network = network();
    let mut client = network.client();
    let (qemu, switch) = card().unwrap();
    client.attach(attachment(1, "kv", &[]), switch.as_fd()).unwrap();
    drop(client);
    network.ended();
    // What the guest sends meanwhile is lost or late, and nothing breaks.
    rustix::net::send(&qemu, &[0; 60], rustix::net::SendFlags::NOSIGNAL).unwrap();
    let mut client = network.client();
    let attached = client.attach(attachment(1, "kv", &[]), switch.as_fd()).unwrap();
    assert_eq!(attached.address.to_string(), "10.89.0.2");
    // Asked once the frame that waited has been taken: it was refused, since it is nobody's.
    eventually("the frame is refused", || {
        (client.members().unwrap()[0].counters.refused > 0).then_some(())
    });
}

#[test]
fn two_networks_do_not_see_each_other() {
    let (one, two) = (network(), network());
    let mut guest = one.guest(1, "kv", &[]);
    let _other = two.guest(2, "kv", &[]);
    assert_eq!(guest.client.members().unwrap().len(), 1);
    assert!(guest.client.find("kv").unwrap().len() == 1);
}

#[test]
fn a_network_ends_when_nobody_uses_it_and_starts_again() {
    let network = network();
    drop(network.client());
    network.ended();
    assert!(Client::connect(&network.folder()).unwrap().is_none());
    assert!(network.client().members().unwrap().is_empty());
}

/// `down`, and `up` at once: the process before ends while the guests of the new network come.
#[test]
fn a_network_that_is_made_again_is_let_alone_by_the_process_before() {
    let removals: [fn(&Network); 2] = [
        |network| network.store().remove(&NetworkName::default()).unwrap(),
        |network| fs::remove_dir_all(network.folder()).unwrap(),
    ];
    for remove in removals {
        let network = network();
        let user = network.client();
        let before = network.process();
        remove(&network);
        let _guest = network.guest(1, "kv", &[]);
        drop(user);
        before.join().unwrap();
        let mut client = Client::connect(&network.folder()).unwrap().unwrap();
        assert_eq!(client.members().unwrap().len(), 1);
    }
}

#[test]
fn a_network_with_guests_is_not_removed_and_one_without_ends() {
    let network = network();
    let guest = network.guest(1, "kv", &[]);
    let name = NetworkName::default();
    let error = network.store().remove(&name).unwrap_err();
    assert_eq!(error.to_string(), "network `default` is in use by `kv`");
    let user = network.client();
    drop(guest);
    eventually("the guest is gone", || network.store().remove(&name).ok());
    // Whoever only asks does not keep it.
    network.ended();
    user.wait();
    assert!(!network.folder().exists());
}

#[test]
fn the_world_is_asked_from_an_address_of_its_own() {
    // Any address of this machine that is not loopback's stands for the world.
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    probe
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .expect("a machine with a network");
    let std::net::SocketAddr::V4(here) = probe.local_addr().unwrap() else {
        unreachable!()
    };
    let server = UdpSocket::bind((*here.ip(), 0)).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let std::net::SocketAddr::V4(to) = server.local_addr().unwrap() else {
        unreachable!()
    };
    let echo = thread::spawn(move || {
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
    });
    let network = network();
    let mut guest = network.guest(1, "kv", &[]);
    guest.lease();
    let handle = guest.udp(1000);
    let (answer, from) = guest.ask(handle, to, b"hello");
    assert_eq!(answer, b"hello");
    assert_eq!(from.addr, IpAddress::Ipv4(*to.ip()));
    echo.join().unwrap();
}
