//! The gateway: what a guest finds at the first address of its network.
//!
//! - `dhcp`: its address; `arrival`: whether it has put that on; `dns`: names; `udp`, `tcp`: the way out, and ports of the host that lead in;
//! - `packet`: frames taken apart and made;
//! - [`alone`]: all of it without a host, for fuzzers.
//!
//! Not reachable through it: other networks, what is no single machine, and the host's own loopback addresses; the
//! latter, at the gateway's address, where the network was made with access to the host.

pub mod alone;
mod arrival;
mod dhcp;
mod dns;
pub(crate) mod packet;
mod tcp;
mod udp;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::frame::{DHCP_SERVER, Station};
use crate::names::Names;
use crate::poller::Poller;
use crate::settings::Settings;
use crate::subnet::Subnet;
use arrival::Arrivals;
use packet::{Content, Datagram};
use tcp::Tcp;
use udp::{ToGuest, Udp};

/// Port of DNS servers (RFC 1035, section 4.2).
const DNS: u16 = 53;

/// A user who wants a connection to a guest.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) user: u32,
    /// The user's stream.
    pub(crate) host: OwnedFd,
    pub(crate) station: Station,
    pub(crate) port: u16,
}

/// A network's gateway.
pub struct Gateway {
    subnet: Subnet,
    /// Who is called what.
    pub names: Names,
    /// The host's DNS server.
    resolver: Option<SocketAddrV4>,
    /// Whether the gateway's ports are those of the host's 127.0.0.1.
    host_access: bool,
    tcp: Tcp,
    udp: Udp,
    arrivals: Arrivals,
    /// The guests that are up.
    up: BTreeSet<Ipv4Addr>,
    /// Users who dial a guest that is not up yet.
    dials: Vec<Dial>,
    /// Frames for guests.
    out: Vec<Vec<u8>>,
}

impl Gateway {
    /// A gateway of the network `name`. `resolver`: who answers for the names of the world; `seed`: from which TCP's
    /// initial sequence numbers come.
    #[must_use]
    pub fn new(name: &str, settings: &Settings, resolver: Option<SocketAddrV4>, seed: u64) -> Self {
        let subnet = settings.subnet;
        Self {
            subnet,
            host_access: settings.host_access,
            names: Names::new(name),
            resolver,
            tcp: Tcp::new(subnet, seed, Instant::now()),
            udp: Udp::default(),
            arrivals: Arrivals::default(),
            up: BTreeSet::new(),
            dials: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes a frame that the switch sent here.
    pub(crate) fn receive(&mut self, frame: &[u8], station: &Station, now: Instant, poller: &Poller) {
        match packet::content(frame, self.subnet) {
            Content::Arp { from } => {
                if from == station.address {
                    self.ready(station, poller);
                }
                self.tcp.receive(frame);
            }
            Content::Icmp => self.tcp.receive(frame),
            Content::Udp(datagram) => self.receive_udp(&datagram, station, now, poller),
            Content::Tcp { from, to, starts } => {
                match self.way_out(to).filter(|_| starts) {
                    Some(host) => self.tcp.connect(frame, station, from, to, host, poller),
                    // What belongs to no connection, smoltcp refuses.
                    None => self.tcp.receive(frame),
                }
            }
            Content::Other => {}
        }
    }

    fn receive_udp(&mut self, datagram: &Datagram<'_>, station: &Station, now: Instant, poller: &Poller) {
        let to = datagram.to;
        if to.port() == DHCP_SERVER {
            if let Some(answer) = dhcp::answer(datagram.payload, station, self.subnet) {
                self.out.push(answer.frame);
                if answer.bound {
                    self.arrivals.ask(*station, now);
                }
            }
        } else if *to.ip() == self.subnet.gateway() && to.port() == DNS {
            match (dns::answer(datagram.payload, &mut self.names), self.resolver) {
                (dns::Answer::Reply(reply), _) => {
                    let reply = Datagram {
                        from: to,
                        to: datagram.from,
                        payload: &reply,
                    };
                    self.out.extend(packet::udp(&reply, station));
                }
                (dns::Answer::AskHost, Some(resolver)) => self.udp.send(datagram, resolver, now, poller),
                (dns::Answer::AskHost, None) | (dns::Answer::Ignore, _) => {}
            }
        } else if *to.ip() == self.subnet.gateway() && self.udp.answer(datagram, now) {
            // It went to the peer of a forwarded port.
        } else if let Some(host) = self.way_out(to) {
            self.udp.send(datagram, host, now, poller);
        }
    }

    /// Where the host finds what guests know as `to`; `None` if it is nothing that they may reach.
    fn way_out(&self, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let address = *to.ip();
        if self.host_access && address == self.subnet.gateway() {
            return Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, to.port()));
        }
        let barred = self.subnet.contains(address)
            || address.is_loopback()
            || address.is_unspecified()
            || address.is_broadcast()
            || address.is_multicast()
            || address.is_link_local();
        (!barred).then_some(to)
    }

    /// Leads a TCP port of the host to a guest.
    pub(crate) fn forward_tcp(
        &mut self,
        listener: TcpListener,
        station: Station,
        port: u16,
    ) -> io::Result<()> {
        self.tcp.forward(listener, station, port)
    }

    /// Leads a UDP port of the host to a guest.
    pub(crate) fn forward_udp(&mut self, socket: UdpSocket, station: Station, port: u16) -> io::Result<()> {
        let guest = SocketAddrV4::new(station.address, port);
        self.udp.forward(socket, guest)
    }

    /// Asks a guest whether it is up.
    pub(crate) fn ask(&mut self, station: Station, now: Instant) {
        self.arrivals.ask(station, now);
    }

    /// A guest has its address: ports of the host lead to it from now on.
    fn ready(&mut self, station: &Station, poller: &Poller) {
        self.arrivals.forget(station.address);
        self.up.insert(station.address);
        self.tcp.ready(station, poller);
        self.udp.ready(station.address, poller);
        let (now, later) = std::mem::take(&mut self.dials)
            .into_iter()
            .partition(|dial| dial.station == *station);
        self.dials = later;
        for dial in now {
            self.tcp
                .dial(dial.host, dial.station, dial.port, dial.user, poller);
        }
    }

    /// Connects a user to a guest, once that is up.
    pub(crate) fn dial(&mut self, dial: Dial, poller: &Poller) {
        if self.up.contains(&dial.station.address) {
            self.tcp
                .dial(dial.host, dial.station, dial.port, dial.user, poller);
        } else {
            self.dials.push(dial);
        }
    }

    /// The answers to users who dialled: whether the guest took the connection.
    pub(crate) fn answers(&mut self) -> Vec<(u32, bool)> {
        self.tcp.answers()
    }

    /// Forgets a user.
    pub(crate) fn hang_up(&mut self, user: u32) {
        self.dials.retain(|dial| dial.user != user);
    }

    /// Forgets a guest; the users who dialled it.
    pub(crate) fn forget(&mut self, guest: Ipv4Addr) -> Vec<u32> {
        let (lost, kept): (Vec<_>, _) = std::mem::take(&mut self.dials)
            .into_iter()
            .partition(|dial| dial.station.address == guest);
        self.dials = kept;
        self.up.remove(&guest);
        self.names.remove(guest);
        self.arrivals.forget(guest);
        self.tcp.forget(guest);
        self.udp.forget(guest);
        lost.into_iter().map(|dial| dial.user).collect()
    }

    /// The host's side of a TCP connection is ready.
    pub(crate) fn tcp_ready(&mut self, id: u32, station: impl FnOnce(Ipv4Addr) -> Option<Station>) {
        let station = self.tcp.guest(id).and_then(station);
        self.tcp.host_ready(id, station);
    }

    /// A forwarded TCP port is ready.
    pub(crate) fn accept(&mut self, id: u32, poller: &Poller) {
        self.tcp.accept(id, poller);
    }

    /// A UDP flow, or a forwarded UDP port, is ready.
    pub(crate) fn udp_ready(
        &mut self,
        id: u32,
        is_forward: bool,
        now: Instant,
        station: impl Fn(Ipv4Addr) -> Option<Station>,
    ) {
        let mut datagrams = Vec::new();
        if is_forward {
            self.udp
                .receive_forward(id, self.subnet.gateway(), now, &mut datagrams);
        } else {
            self.udp.receive_flow(id, now, &mut datagrams);
        }
        for ToGuest { from, to, payload } in datagrams {
            if let Some(station) = station(*to.ip()) {
                let datagram = Datagram {
                    from,
                    to,
                    payload: &payload,
                };
                self.out.extend(packet::udp(&datagram, &station));
            }
        }
    }

    /// Does what is due; the frames for guests, and when to come again at the latest.
    pub(crate) fn poll(&mut self, now: Instant, poller: &Poller) -> (Vec<Vec<u8>>, Option<Duration>) {
        let (frames, tcp) = self.tcp.poll(poller);
        let udp = self.udp.sweep(now);
        let mut out = std::mem::take(&mut self.out);
        out.extend(frames);
        let arrivals = self.arrivals.poll(self.subnet.gateway(), now, &mut out);
        (out, [tcp, udp, arrivals].into_iter().flatten().min())
    }
}
