//! UDP across the gateway: a guest's datagrams leave through sockets of the host, and a port of the host leads to a
//! guest. A flow that is silent is forgotten.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::packet::{Datagram, MAX_DATAGRAM};
use crate::poller::{Interest, Poller, Token};

/// Most flows at once: each is a socket of the host, and a process may have 1024 descriptors.
const MAX_FLOWS: usize = 256;

/// Most peers of all forwarded ports at once: each has a port of the gateway.
const MAX_PEERS: usize = 4096;

/// A flow that is silent for so long is over: RFC 4787, section 4.3, recommends two minutes at least.
const IDLE: Duration = Duration::from_secs(120);

/// The first port of the gateway that stands for a peer.
const FIRST_PEER_PORT: u16 = 32_768;

/// A datagram for a guest.
#[derive(Debug)]
pub(super) struct ToGuest {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) payload: Vec<u8>,
}

/// The guest and where it believes to send to.
type FlowKey = (SocketAddrV4, SocketAddrV4);

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    socket: UdpSocket,
    last: Instant,
}

#[derive(Debug)]
struct Forward {
    socket: UdpSocket,
    guest: SocketAddrV4,
    /// Whether datagrams are taken: the guest has its address.
    open: bool,
}

/// A peer of a forwarded port, and when it was last heard.
#[derive(Debug)]
struct Peer {
    forward: u32,
    address: SocketAddr,
    last: Instant,
}

/// The UDP of a gateway.
#[derive(Debug, Default)]
pub(super) struct Udp {
    flows: BTreeMap<u32, Flow>,
    by_key: BTreeMap<FlowKey, u32>,
    forwards: BTreeMap<u32, Forward>,
    /// By the port of the gateway that stands for it.
    peers: BTreeMap<u16, Peer>,
    next: u32,
}

impl Udp {
    /// Sends a guest's datagram on, to `host`: where it really goes.
    pub(super) fn send(
        &mut self,
        datagram: &Datagram<'_>,
        host: SocketAddrV4,
        now: Instant,
        poller: &Poller,
    ) {
        let key = (datagram.from, datagram.to);
        let id = match self.by_key.get(&key) {
            Some(&id) => id,
            None => match self.open(key, host, now, poller) {
                Ok(id) => id,
                // As a network does that has no way there: the datagram is lost.
                Err(_) => return,
            },
        };
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.last = now;
            let _ = flow.socket.send(datagram.payload);
        }
    }

    fn open(&mut self, key: FlowKey, host: SocketAddrV4, now: Instant, poller: &Poller) -> io::Result<u32> {
        if self.flows.len() >= MAX_FLOWS {
            let oldest = self
                .flows
                .iter()
                .min_by_key(|(_, flow)| flow.last)
                .map(|(&id, _)| id);
            if let Some(id) = oldest {
                self.close(id);
            }
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(host)?;
        let id = self.id();
        poller.add(&socket, Token::Udp(id), Interest::READ)?;
        self.flows.insert(
            id,
            Flow {
                key,
                socket,
                last: now,
            },
        );
        self.by_key.insert(key, id);
        Ok(id)
    }

    fn close(&mut self, id: u32) {
        if let Some(flow) = self.flows.remove(&id) {
            self.by_key.remove(&flow.key);
        }
    }

    /// A number that no flow and no forward has.
    fn id(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.flows.contains_key(&self.next) && !self.forwards.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    /// Leads a socket of the host to a guest, once that is [`ready`](Self::ready).
    pub(super) fn forward(&mut self, socket: UdpSocket, guest: SocketAddrV4) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let id = self.id();
        let open = false;
        self.forwards.insert(id, Forward { socket, guest, open });
        Ok(())
    }

    /// A guest has its address: what comes for it is taken from now on.
    pub(super) fn ready(&mut self, guest: Ipv4Addr, poller: &Poller) {
        for (&id, forward) in &mut self.forwards {
            if *forward.guest.ip() == guest && !forward.open {
                let added = poller.add(&forward.socket, Token::UdpForward(id), Interest::READ);
                forward.open = added.is_ok();
            }
        }
    }

    /// Forgets all that leads to or comes from a guest.
    pub(super) fn forget(&mut self, guest: Ipv4Addr) {
        let flows: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, flow)| *flow.key.0.ip() == guest)
            .map(|(&id, _)| id)
            .collect();
        flows.into_iter().for_each(|id| self.close(id));
        self.forwards.retain(|_, forward| *forward.guest.ip() != guest);
        let forwards = &self.forwards;
        self.peers.retain(|_, peer| forwards.contains_key(&peer.forward));
    }

    /// What came back on a flow.
    pub(super) fn receive_flow(&mut self, id: u32, now: Instant, out: &mut Vec<ToGuest>) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        let mut buffer = [0; MAX_DATAGRAM + 1];
        loop {
            let length = match flow.socket.recv(&mut buffer) {
                Ok(length) => length,
                // News of an earlier datagram that found nobody: nothing that a guest could be told.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            flow.last = now;
            if length <= MAX_DATAGRAM {
                let (guest, from) = flow.key;
                out.push(ToGuest {
                    from,
                    to: guest,
                    payload: buffer[..length].to_vec(),
                });
            }
        }
    }

    /// What came in at a forwarded port; `gateway` is where the guest will see it come from.
    pub(super) fn receive_forward(
        &mut self,
        id: u32,
        gateway: Ipv4Addr,
        now: Instant,
        out: &mut Vec<ToGuest>,
    ) {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        while let Some(forward) = self.forwards.get(&id) {
            let guest = forward.guest;
            let (length, address) = match forward.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let Some(port) = self.peer(id, address, now) else {
                continue;
            };
            if length <= MAX_DATAGRAM {
                let from = SocketAddrV4::new(gateway, port);
                out.push(ToGuest {
                    from,
                    to: guest,
                    payload: buffer[..length].to_vec(),
                });
            }
        }
    }

    /// The port of the gateway that stands for a peer.
    fn peer(&mut self, forward: u32, address: SocketAddr, now: Instant) -> Option<u16> {
        let known = self
            .peers
            .iter_mut()
            .find(|(_, peer)| peer.forward == forward && peer.address == address);
        if let Some((&port, peer)) = known {
            peer.last = now;
            return Some(port);
        }
        if self.peers.len() >= MAX_PEERS {
            return None;
        }
        let port = (FIRST_PEER_PORT..=u16::MAX).find(|port| !self.peers.contains_key(port))?;
        self.peers.insert(
            port,
            Peer {
                forward,
                address,
                last: now,
            },
        );
        Some(port)
    }

    /// Hands a guest's answer to the peer that a port of the gateway stands for; whether it stands for one.
    pub(super) fn answer(&mut self, datagram: &Datagram<'_>, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&datagram.to.port()) else {
            return false;
        };
        let Some(forward) = self
            .forwards
            .get(&peer.forward)
            .filter(|forward| forward.guest == datagram.from)
        else {
            return false;
        };
        peer.last = now;
        let _ = forward.socket.send_to(datagram.payload, peer.address);
        true
    }

    /// Forgets what is silent; when to come again.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<Duration> {
        let over = |last: &Instant| now.duration_since(*last) >= IDLE;
        let flows: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, flow)| over(&flow.last))
            .map(|(&id, _)| id)
            .collect();
        flows.into_iter().for_each(|id| self.close(id));
        self.peers.retain(|_, peer| !over(&peer.last));
        let oldest = self
            .flows
            .values()
            .map(|flow| flow.last)
            .chain(self.peers.values().map(|peer| peer.last))
            .min();
        oldest.map(|last| IDLE.saturating_sub(now.duration_since(last)))
    }
}
