//! TCP across the gateway: each connection is two, one with the guest (smoltcp's) and one with the host, and bytes are
//! carried between them.
//!
//! Out of the network: a guest's SYN is held back while the host connects. If that works, smoltcp is given a listening
//! socket and the SYN, else the SYN alone, and refuses it: so a guest sees the connection that the host sees.
//! Into the network: a port of the host is accepted from once the guest has its address; until then the host's own
//! backlog holds the connections, and no SYN is lost in a guest that is not up yet. A user can also dial: hand over a
//! stream of its own, which becomes the host's side of a connection to a guest's port.
//!
//! - [`stream`]: the host's side; [`device`]: what smoltcp takes for a network card.

mod device;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint, Ipv4Cidr};

use self::device::Frames;
use self::stream::{carry_in, carry_out, nodelay, start_connecting};
use super::packet;
use crate::frame::Station;
use crate::poller::{Interest, Poller, Token};
use crate::subnet::{GATEWAY_MAC, Subnet};

/// Bytes of each buffer of a connection: a window that a guest on this host cannot outrun.
const BUFFER: usize = 128 * 1024;

/// Most connections at once: each is a descriptor of the host and two buffers, and a process may have 1024.
const MAX_CONNECTIONS: usize = 512;

/// A guest that does not acknowledge for so long is gone.
const PATIENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// Ports of the gateway from which it connects to guests: the dynamic ports of RFC 6335, section 6.
const FIRST_PORT: u16 = 49_152;

#[derive(Debug)]
enum Phase {
    /// The host connects; the guest's SYN waits.
    Connecting {
        syn: Vec<u8>,
        from: SocketAddrV4,
        to: SocketAddrV4,
    },
    /// Both sides exist.
    Open { handle: SocketHandle },
}

#[derive(Debug)]
struct Connection {
    guest: Ipv4Addr,
    /// A stream socket: TCP's, or one that a user handed over.
    host: OwnedFd,
    /// The user who dialled and has no answer yet.
    dialler: Option<u32>,
    phase: Phase,
    /// What is waited for at the host's side; `None` once both have ended, since then there is nothing to hear.
    interest: Option<Interest>,
    /// The host has sent its last byte.
    host_ended: bool,
    /// The guest has, and the host knows.
    guest_ended: bool,
}

#[derive(Debug)]
struct Forward {
    listener: TcpListener,
    station: Station,
    port: u16,
    /// Whether connections are accepted: the guest has its address.
    open: bool,
}

/// The TCP of a gateway, with all else that smoltcp answers: ARP and pings.
pub(super) struct Tcp {
    interface: Interface,
    sockets: SocketSet<'static>,
    frames: Frames,
    connections: BTreeMap<u32, Connection>,
    forwards: BTreeMap<u32, Forward>,
    subnet: Subnet,
    epoch: Instant,
    /// Users who dialled, and whether the guest took the connection.
    answers: Vec<(u32, bool)>,
    next: u32,
    next_port: u16,
}

impl Tcp {
    pub(super) fn new(subnet: Subnet, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(GATEWAY_MAC.into());
        config.random_seed = seed;
        let mut frames = Frames::default();
        let mut interface = Interface::new(config, &mut frames, SmolInstant::ZERO);
        let gateway = subnet.gateway();
        interface.update_ip_addrs(|addresses| {
            // An interface without addresses has room for one.
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(gateway, subnet.prefix())));
        });
        // All addresses of the world are ours, as far as guests can see.
        interface.set_any_ip(true);
        let route = interface.routes_mut().add_default_ipv4_route(gateway);
        debug_assert!(route.is_ok());
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            frames,
            connections: BTreeMap::new(),
            forwards: BTreeMap::new(),
            subnet,
            epoch: now,
            answers: Vec::new(),
            next: 0,
            next_port: FIRST_PORT,
        }
    }

    /// Takes a frame for smoltcp: ARP, a ping, a segment of a connection that is there.
    pub(super) fn receive(&mut self, frame: &[u8]) {
        self.frames.incoming.push_back(frame.to_vec());
    }

    /// Takes a guest's SYN; `host` is where it really goes.
    pub(super) fn connect(
        &mut self,
        syn: &[u8],
        station: &Station,
        from: SocketAddrV4,
        to: SocketAddrV4,
        host: SocketAddrV4,
        poller: &Poller,
    ) {
        let again = self
            .connections
            .values()
            .any(|connection| match &connection.phase {
                Phase::Connecting { from: f, to: t, .. } => (*f, *t) == (from, to),
                Phase::Open { handle } => {
                    let socket = self.sockets.get::<tcp::Socket<'_>>(*handle);
                    socket.remote_endpoint() == Some(IpEndpoint::from(from))
                        && socket.local_endpoint() == Some(IpEndpoint::from(to))
                        && socket.state() != tcp::State::TimeWait
                }
            });
        if again {
            return;
        }
        let opened = self.room().and_then(|()| start_connecting(host));
        let id = self.id();
        let added = opened.and_then(|host| {
            poller.add(&host, Token::Tcp(id), Interest::WRITE)?;
            Ok(host)
        });
        match added {
            Ok(host) => {
                let phase = Phase::Connecting {
                    syn: syn.to_vec(),
                    from,
                    to,
                };
                self.connections.insert(
                    id,
                    Connection {
                        guest: station.address,
                        host,
                        dialler: None,
                        phase,
                        interest: Some(Interest::WRITE),
                        host_ended: false,
                        guest_ended: false,
                    },
                );
            }
            // Nobody listens, so smoltcp refuses it.
            Err(_) => self.receive(syn),
        }
    }

    /// Leads a listening socket of the host to a guest's port.
    pub(super) fn forward(&mut self, listener: TcpListener, station: Station, port: u16) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let id = self.id();
        self.forwards.insert(
            id,
            Forward {
                listener,
                station,
                port,
                open: false,
            },
        );
        Ok(())
    }

    /// A guest has its address: connections to it are accepted from now on.
    pub(super) fn ready(&mut self, station: &Station, poller: &Poller) {
        for (&id, forward) in &mut self.forwards {
            if forward.station == *station && !forward.open {
                forward.open = poller
                    .add(&forward.listener, Token::TcpForward(id), Interest::READ)
                    .is_ok();
            }
        }
    }

    /// Forgets a guest.
    pub(super) fn forget(&mut self, guest: Ipv4Addr) {
        self.forwards
            .retain(|_, forward| forward.station.address != guest);
        let ids = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.guest == guest)
            .map(|(&id, _)| id);
        for id in ids.collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    fn room(&self) -> io::Result<()> {
        if self.connections.len() < MAX_CONNECTIONS {
            Ok(())
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        }
    }

    fn id(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.connections.contains_key(&self.next) && !self.forwards.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    /// Accepts what waits at a forwarded port.
    pub(super) fn accept(&mut self, id: u32, poller: &Poller) {
        while let Some(forward) = self.forwards.get(&id) {
            let (station, port) = (forward.station, forward.port);
            let Ok((host, _)) = forward.listener.accept() else {
                return;
            };
            // What cannot be carried is closed: its client sees the end at once.
            if self.room().is_ok() {
                let _ = nodelay(&host).and_then(|()| self.carry(host.into(), station, port, None, poller));
            }
        }
    }

    /// Connects to a guest's port on behalf of a user; the answer comes with [`answers`](Self::answers).
    pub(super) fn dial(&mut self, host: OwnedFd, station: Station, port: u16, user: u32, poller: &Poller) {
        let carried = self
            .room()
            .and_then(|()| self.carry(host, station, port, Some(user), poller));
        if carried.is_err() {
            self.answers.push((user, false));
        }
    }

    /// The answers to those who dialled.
    pub(super) fn answers(&mut self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.answers)
    }

    /// Connects to a guest on behalf of `host`.
    fn carry(
        &mut self,
        host: OwnedFd,
        station: Station,
        port: u16,
        dialler: Option<u32>,
        poller: &Poller,
    ) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&host, true)?;
        self.introduce(&station);
        let local = self.port(SocketAddrV4::new(station.address, port));
        let mut socket = new_socket();
        let remote = IpEndpoint::new(IpAddress::Ipv4(station.address), port);
        let gateway = IpEndpoint::new(IpAddress::Ipv4(self.subnet.gateway()), local);
        socket
            .connect(self.interface.context(), remote, gateway)
            .map_err(|_| io::ErrorKind::AddrNotAvailable)?;
        let id = self.id();
        poller.add(&host, Token::Tcp(id), Interest::READ)?;
        let handle = self.sockets.add(socket);
        self.connections.insert(
            id,
            Connection {
                guest: station.address,
                host,
                dialler,
                phase: Phase::Open { handle },
                interest: Some(Interest::READ),
                host_ended: false,
                guest_ended: false,
            },
        );
        Ok(())
    }

    /// Tells smoltcp the station's MAC address, so that it never has to ask: a guest that is just coming up may miss
    /// the question, and the next one comes a second later.
    fn introduce(&mut self, station: &Station) {
        self.frames
            .incoming
            .push_back(packet::arp_of(station, self.subnet.gateway()));
        self.poll_interface();
    }

    /// A port of the gateway from which nothing is connected to `remote`.
    fn port(&mut self, remote: SocketAddrV4) -> u16 {
        let taken = |port: u16| {
            self.connections
                .values()
                .any(|connection| match connection.phase {
                    Phase::Open { handle } => {
                        let socket = self.sockets.get::<tcp::Socket<'_>>(handle);
                        socket.remote_endpoint() == Some(IpEndpoint::from(remote))
                            && socket.local_endpoint().is_some_and(|local| local.port == port)
                    }
                    Phase::Connecting { .. } => false,
                })
        };
        let mut port = self.next_port;
        // There are more ports than connections, so this ends.
        while taken(port) {
            port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    /// Whose connection it is.
    pub(super) fn guest(&self, id: u32) -> Option<Ipv4Addr> {
        self.connections.get(&id).map(|connection| connection.guest)
    }

    /// The host's side of a connection is ready.
    pub(super) fn host_ready(&mut self, id: u32, station: Option<Station>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let whole = matches!(sockopt::socket_error(&connection.host), Ok(Ok(())));
        let Phase::Connecting { syn, to, .. } = &mut connection.phase else {
            if !whole {
                self.remove(id);
            }
            return;
        };
        let (syn, to) = (std::mem::take(syn), *to);
        let connected = whole && rustix::net::getpeername(&connection.host).is_ok();
        let Some(station) = station.filter(|_| connected) else {
            self.connections.remove(&id);
            self.receive(&syn);
            return;
        };
        // It only makes small answers faster.
        let _ = nodelay(&connection.host);
        let mut socket = new_socket();
        let listening = socket.listen(IpEndpoint::from(to)).is_ok();
        debug_assert!(listening, "a port of a SYN is not zero");
        connection.phase = Phase::Open {
            handle: self.sockets.add(socket),
        };
        self.introduce(&station);
        // At once, before another SYN to the same address can take the socket.
        self.receive(&syn);
        self.poll_interface();
    }

    /// Carries all that can be carried; the frames that go to guests, and when to come again at the latest.
    pub(super) fn poll(&mut self, poller: &Poller) -> (Vec<Vec<u8>>, Option<Duration>) {
        loop {
            self.poll_interface();
            let ids: Vec<_> = self.connections.keys().copied().collect();
            let mut moved = false;
            for id in ids {
                moved |= self.carry_bytes(id, poller);
            }
            if !moved && self.frames.incoming.is_empty() {
                break;
            }
        }
        let delay = self.interface.poll_delay(self.now(), &self.sockets);
        (
            std::mem::take(&mut self.frames.outgoing),
            delay.map(Duration::from),
        )
    }

    fn now(&self) -> SmolInstant {
        SmolInstant::from_micros(i64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn poll_interface(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.frames, &mut self.sockets);
    }

    fn remove(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(user) = connection.dialler {
            self.answers.push((user, false));
        }
        if let Phase::Open { handle } = connection.phase {
            // A socket that is removed says nothing more, so it is ended and heard first.
            self.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
            self.poll_interface();
            self.sockets.remove(handle);
        }
    }

    /// Carries bytes between the two sides of a connection; whether any were carried, or a side ended.
    fn carry_bytes(&mut self, id: u32, poller: &Poller) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let Phase::Open { handle } = connection.phase else {
            return false;
        };
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        if socket.state() == tcp::State::Established
            && let Some(user) = connection.dialler.take()
        {
            self.answers.push((user, true));
        }
        let carried = carry_in(connection, socket).and_then(|a| Ok(carry_out(connection, socket)? | a));
        let over = match socket.state() {
            tcp::State::Closed => true,
            tcp::State::TimeWait => connection.guest_ended,
            _ => false,
        };
        let Ok(moved) = carried else {
            self.remove(id);
            return true;
        };
        if over {
            self.remove(id);
            return true;
        }
        let interest = (!connection.host_ended || !connection.guest_ended).then(|| Interest {
            read: !connection.host_ended && socket.can_send(),
            write: socket.can_recv(),
        });
        if interest != connection.interest {
            connection.interest = interest;
            match interest {
                Some(interest) if poller.change(&connection.host, Token::Tcp(id), interest).is_err() => {
                    self.remove(id);
                    return true;
                }
                Some(_) => {}
                None => poller.remove(&connection.host),
            }
        }
        moved
    }
}

fn new_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_timeout(Some(PATIENCE));
    socket.set_keep_alive(Some(PATIENCE / 2));
    socket
}
