//! The process of a network: one loop over the guests' cards, the users' connections and the gateway's sockets.
//!
//! ```text
//! start -> serving -> nobody uses it for LINGER, or its network is removed -> end
//! ```
//!
//! Killed, it leaves nothing that matters: the addresses are on disk before they are given out, the guests' cards live
//! in those who attached them, and the lock goes with the process.

mod client;
mod port;
mod start;

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoltcp::wire::EthernetAddress;

use crate::control::{self, Attached, Attachment, Member, Reply, Request};
use crate::file::FileError;
use crate::frame::{Station, mac_text};
use crate::gateway::{Dial, Gateway};
use crate::leases::{LeaseError, Leases};
use crate::names::Found;
use crate::poller::{Interest, Poller, Token};
use crate::settings::Settings;
use crate::subnet::{GATEWAY_MAC, Subnet};
use crate::switch::{Switch, Targets};
use client::Client;
use port::{Passing, Port, ROOM};
use start::{resolver, take};

/// Most frames that are taken from one guest before the others have their turn.
const BURST: usize = 64;

/// Most users at once: each is a descriptor, and a process may have 1024.
const MAX_CLIENTS: usize = 512;

/// How long a network that nobody uses stays: the next command that uses it often follows at once.
pub const LINGER: Duration = Duration::from_secs(2);

/// Why a network's process ends before anyone used it, or with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process serves this network.
    #[error("network in `{0}` is served by another process")]
    Served(PathBuf),
    /// A file of the network.
    #[error(transparent)]
    File(#[from] FileError),
    /// The addresses that are given out.
    #[error(transparent)]
    Leases(#[from] LeaseError),
    /// The kernel refuses what the loop needs.
    #[error("cannot wait for the guests")]
    Wait(#[source] io::Error),
}

/// A network that is about to be served: it listens, and nobody else serves it.
pub struct Server {
    /// Where it listens.
    folder: File,
    /// Held for its lock.
    _lock: File,
    listener: UnixListener,
    poller: Arc<Poller>,
    subnet: Subnet,
    leases: Leases,
    switch: Switch,
    gateway: Gateway,
    ports: BTreeMap<u32, Port>,
    clients: BTreeMap<u32, Client>,
    next: u32,
    /// It is to end: its network is removed.
    retired: bool,
}

impl Server {
    /// Takes the network `name` in `folder`.
    ///
    /// # Errors
    /// Another process serves it; its files cannot be used.
    pub fn open(folder: &Path, name: &str, settings: &Settings) -> Result<Self, ServeError> {
        let (opened, lock) = take(folder)?;
        let subnet = settings.subnet;
        let leases = Leases::open(&folder.join("leases.json"), subnet)?;
        let listener = control::listen(&opened).map_err(FileError::io("listen in", folder))?;
        let poller = Arc::new(Poller::new().map_err(ServeError::Wait)?);
        poller
            .add(&listener, Token::Control, Interest::READ)
            .map_err(ServeError::Wait)?;
        // The standard library's source of random numbers, which is the kernel's.
        let seed = RandomState::new().hash_one(name);
        Ok(Self {
            folder: opened,
            _lock: lock,
            listener,
            poller,
            subnet,
            leases,
            switch: Switch::new(subnet),
            gateway: Gateway::new(name, settings, resolver(), seed),
            ports: BTreeMap::new(),
            clients: BTreeMap::new(),
            next: 0,
            retired: false,
        })
    }

    /// Serves until nobody has used the network for `linger`.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn run(mut self, linger: Duration) -> Result<(), ServeError> {
        let mut ready = Vec::new();
        let mut unused_since = Some(Instant::now());
        loop {
            let now = Instant::now();
            let (frames, due) = self.gateway.poll(now, &self.poller);
            for mut frame in frames {
                self.deliver(&mut frame);
            }
            for (user, taken) in self.gateway.answers() {
                let refused = || Reply::Error("guest refuses the connection".to_owned());
                self.reply(user, &if taken { Reply::Dialled } else { refused() });
            }
            unused_since = if self.clients.is_empty() {
                unused_since.or(Some(now))
            } else {
                None
            };
            let left = unused_since.map(|since| linger.saturating_sub(now.duration_since(since)));
            if self.retired || left == Some(Duration::ZERO) {
                control::unlisten(&self.folder);
                return Ok(());
            }
            // Once for all the frames of this turn: it is a system call, and the guest is interrupted.
            self.ports.values_mut().for_each(Port::tell);
            let time = [left, due].into_iter().flatten().min();
            self.poller.wait(time, &mut ready).map_err(ServeError::Wait)?;
            for token in ready.drain(..) {
                self.handle(token);
            }
        }
    }

    fn handle(&mut self, token: Token) {
        let now = Instant::now();
        let (switch, ports) = (&self.switch, &self.ports);
        let station = |address| station_of(switch, ports, address);
        match token {
            Token::Control => self.accept(),
            Token::Client(id) => self.serve(id),
            Token::Port(id) => self.take_frames(id, now),
            Token::Room(id) => {
                if let Some(port) = self.ports.get_mut(&id) {
                    port.room(&self.poller);
                }
            }
            Token::Front(id) => {
                let card = self.ports.get_mut(&id).and_then(Port::shared);
                if card.is_some_and(|card| card.accept().is_err()) {
                    self.detach(id);
                }
            }
            Token::Link(id) => {
                if let Some(card) = self.ports.get_mut(&id).and_then(Port::shared) {
                    card.converse();
                }
            }
            Token::Tcp(id) => self.gateway.tcp_ready(id, station),
            Token::TcpForward(id) => self.gateway.accept(id, &self.poller),
            Token::Udp(id) => self.gateway.udp_ready(id, false, now, station),
            Token::UdpForward(id) => self.gateway.udp_ready(id, true, now, station),
        }
    }

    /// Takes frames from a guest's card, and hands it what waits.
    fn take_frames(&mut self, id: u32, now: Instant) {
        let mut buffer = [0; ROOM];
        for _ in 0..BURST {
            let Some(port) = self.ports.get_mut(&id) else {
                return;
            };
            port.flush(&self.poller);
            let mut frame = match port.receive(&mut buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => {
                    self.detach(id);
                    return;
                }
            };
            match self.switch.targets(id, frame.bytes) {
                Ok(Targets::Gateway) => {
                    if let Some(&station) = self.switch.station(id) {
                        self.gateway.receive(frame.summed(), &station, now, &self.poller);
                    }
                }
                Ok(Targets::Port(to)) => {
                    if let Some(port) = self.ports.get_mut(&to) {
                        port.send(&mut frame, &self.poller);
                    }
                }
                Ok(Targets::Others) => {
                    for (_, port) in self.ports.iter_mut().filter(|&(&to, _)| to != id) {
                        port.send(&mut frame, &self.poller);
                    }
                }
                Ok(Targets::Nobody) => {}
                Err(_) => {
                    if let Some(port) = self.ports.get_mut(&id) {
                        port.counters.refused += 1;
                    }
                }
            }
        }
    }

    /// Hands a frame of the gateway's to its guest.
    fn deliver(&mut self, frame: &mut [u8]) {
        let Some(mac) = frame.first_chunk().map(|&mac| EthernetAddress(mac)) else {
            return;
        };
        if let Some(port) = self.switch.port(mac).and_then(|id| self.ports.get_mut(&id)) {
            port.send(&mut Passing::own(frame), &self.poller);
        }
    }

    fn id(&mut self) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if !self.ports.contains_key(&self.next) && !self.clients.contains_key(&self.next) {
                return self.next;
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let id = self.id();
            // Whom we cannot serve sees the end of its connection.
            if self.clients.len() < MAX_CLIENTS
                && stream.set_nonblocking(true).is_ok()
                && self
                    .poller
                    .add(&stream, Token::Client(id), Interest::READ)
                    .is_ok()
            {
                self.clients.insert(id, Client::new(stream));
            }
        }
    }

    /// Hears a user out.
    fn serve(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let open = client.receive();
        while let Some(line) = self.clients.get_mut(&id).and_then(Client::line) {
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => self.answer(id, request),
                Err(error) => Some(Reply::Error(format!("no request: {error}"))),
            };
            if let Some(reply) = reply {
                self.reply(id, &reply);
            }
        }
        if open.is_err() {
            self.leave(id);
        }
    }

    /// Answers a user. One that does not take its answer is gone.
    fn reply(&mut self, id: u32, reply: &Reply) {
        if self
            .clients
            .get_mut(&id)
            .is_some_and(|client| client.send(reply).is_err())
        {
            self.leave(id);
        }
    }

    /// A user is gone, and its guest with it.
    fn leave(&mut self, id: u32) {
        if let Some(client) = self.clients.remove(&id) {
            self.gateway.hang_up(id);
            client.ports.into_iter().for_each(|port| self.detach(port));
        }
    }

    /// The answer to a request; `None` if it comes later.
    fn answer(&mut self, id: u32, request: Request) -> Option<Reply> {
        Some(match request {
            // It may have come in the turn in which the process learnt that it is to end.
            Request::Attach(_) if self.retired => Reply::Error("the network is removed".to_owned()),
            Request::Attach(guest) => match self.attach(id, guest) {
                Ok(attached) => Reply::Attached(attached),
                Err(message) => Reply::Error(message),
            },
            Request::Retire if self.ports.is_empty() => {
                self.retired = true;
                Reply::Retired
            }
            Request::Members | Request::Retire => Reply::Members(self.members()),
            Request::Find(name) => Reply::Addresses(match self.gateway.names.find(&name) {
                Found::Addresses(addresses) => addresses,
                Found::Nobody | Found::Elsewhere => Vec::new(),
            }),
            Request::Dial { guest, port } => match self.dial(id, &guest, port) {
                Ok(()) => return None,
                Err(message) => Reply::Error(message),
            },
        })
    }

    /// Connects a user to a guest; the answer comes when the guest has taken or refused the connection.
    fn dial(&mut self, user: u32, guest: &str, port: u16) -> Result<(), String> {
        let client = self.clients.get_mut(&user).ok_or("its user is gone")?;
        let host = client.descriptors.pop_front().ok_or("no stream came")?;
        let found = match self.gateway.names.find(guest) {
            Found::Addresses(addresses) => addresses
                .first()
                .copied()
                .and_then(|address| self.station(address)),
            Found::Nobody | Found::Elsewhere => None,
        };
        let station = found.ok_or_else(|| format!("there is no guest `{guest}`"))?;
        if port == 0 {
            return Err("0 is no port".to_owned());
        }
        let dial = Dial {
            user,
            host,
            station,
            port,
        };
        self.gateway.dial(dial, &self.poller);
        Ok(())
    }

    fn station(&self, address: Ipv4Addr) -> Option<Station> {
        station_of(&self.switch, &self.ports, address)
    }

    fn members(&self) -> Vec<Member> {
        let member = |(&id, port): (&u32, &Port)| {
            let station = self.switch.station(id)?;
            Some(Member {
                name: port.name.clone(),
                mac: mac_text(station.mac),
                address: station.address,
                aliases: port.aliases.clone(),
                counters: port.counters,
            })
        };
        self.ports.iter().filter_map(member).collect()
    }

    /// Attaches a guest, or says why not; nothing of it is left then.
    fn attach(&mut self, id: u32, guest: Attachment) -> Result<Attached, String> {
        let client = self.clients.get_mut(&id).ok_or("its user is gone")?;
        let card = client
            .descriptors
            .pop_front()
            .ok_or("no network card came with the guest")?;
        let mac: EthernetAddress = guest
            .mac
            .parse()
            .map_err(|()| format!("`{}` is no MAC address", guest.mac))?;
        if mac == GATEWAY_MAC || !mac.is_unicast() {
            return Err(format!(
                "MAC address `{}` is none that a guest can have",
                guest.mac
            ));
        }
        if let Some(other) = self.switch.port(mac).and_then(|port| self.ports.get(&port)) {
            return Err(format!("MAC address `{}` is `{}`'s", guest.mac, other.name));
        }
        let address = self
            .leases
            .address_of(mac, guest.address, |address| {
                station_of(&self.switch, &self.ports, address).is_some()
            })
            .map_err(|error| chain(&error))?;
        let station = Station { mac, address };
        let port = self.id();
        let card = Port::new(card, port, guest.name, guest.aliases, &self.poller)
            .map_err(|error| format!("cannot use the network card: {error}"))?;
        let attached = self.switch.attach(port, station);
        debug_assert!(attached, "the MAC address is free, see above");
        for name in std::iter::once(&card.name).chain(&card.aliases) {
            self.gateway.names.add(name, address);
        }
        self.ports.insert(port, card);
        let ports: Result<Vec<_>, _> = guest
            .forwards
            .iter()
            .map(|forward| self.forward(forward, station))
            .collect();
        let ports = match ports {
            Ok(ports) => ports,
            Err(message) => {
                self.detach(port);
                return Err(message);
            }
        };
        // It may run already, or have an address of its own: then nothing else tells that it is up.
        self.gateway.ask(station, Instant::now());
        if let Some(client) = self.clients.get_mut(&id) {
            client.ports.push(port);
        }
        Ok(Attached {
            address,
            prefix: self.subnet.prefix(),
            gateway: self.subnet.gateway(),
            ports,
        })
    }

    /// Opens a port of the host; its number.
    fn forward(&mut self, forward: &control::Forward, station: Station) -> Result<u16, String> {
        let host = SocketAddr::new(forward.address, forward.host);
        let opened = if forward.udp {
            UdpSocket::bind(host).and_then(|socket| {
                let port = socket.local_addr()?.port();
                self.gateway.forward_udp(socket, station, forward.guest)?;
                Ok(port)
            })
        } else {
            TcpListener::bind(host).and_then(|listener| {
                let port = listener.local_addr()?.port();
                self.gateway.forward_tcp(listener, station, forward.guest)?;
                Ok(port)
            })
        };
        opened.map_err(|error| {
            format!(
                "cannot open port {} of {}: {error}",
                forward.host, forward.address
            )
        })
    }

    fn detach(&mut self, port: u32) {
        if let Some(port) = self.ports.remove(&port) {
            port.close(&self.poller);
        }
        if let Some(station) = self.switch.detach(port) {
            for user in self.gateway.forget(station.address) {
                self.reply(user, &Reply::Error("guest is gone".to_owned()));
            }
        }
    }
}

/// Who has an address.
fn station_of(switch: &Switch, ports: &BTreeMap<u32, Port>, address: Ipv4Addr) -> Option<Station> {
    let mut stations = ports.keys().filter_map(|&port| switch.station(port));
    stations.find(|station| station.address == address).copied()
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
