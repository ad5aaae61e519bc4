//! A network with guests whose network cards are smoltcp's: what a virtual machine has, without one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hermitage_network::control::{Attached, Attachment, Client, ControlError, Forward, card};
use hermitage_network::server::Server;
use hermitage_network::{Mac, NetworkName, Settings, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{IpCidr, IpEndpoint, Ipv4Cidr};

/// Far more than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long the test's network stays when nobody uses it.
const LINGER: Duration = Duration::from_millis(50);

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::yield_now();
    }
}

/// A network in a folder of its own.
pub(crate) struct Network {
    root: tempfile::TempDir,
    settings: Settings,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Network {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            settings,
            server: Mutex::default(),
        }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.store().folder(&NetworkName::default())
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.root.path())
    }

    pub(crate) fn client(&self) -> Client {
        let start = || {
            let server = Server::open(&self.folder(), "app", &self.settings).map_err(io::Error::other)?;
            let thread = thread::spawn(move || server.run(LINGER).unwrap());
            *self.server.lock().unwrap() = Some(thread);
            Ok(())
        };
        Client::open(&self.folder(), start).unwrap()
    }

    /// Waits until the network's process has ended.
    pub(crate) fn ended(&self) {
        self.process().join().unwrap();
    }

    /// The network's process, a thread here.
    pub(crate) fn process(&self) -> JoinHandle<()> {
        self.server.lock().unwrap().take().unwrap()
    }

    /// Attaches a guest that has a card and no address yet.
    pub(crate) fn guest(&self, last: u8, name: &str, forwards: &[Forward]) -> Guest {
        self.try_guest(last, name, forwards).unwrap()
    }

    pub(crate) fn try_guest(
        &self,
        last: u8,
        name: &str,
        forwards: &[Forward],
    ) -> Result<Guest, ControlError> {
        let mut client = self.client();
        let (qemu, switch) = card().unwrap();
        let attached = client.attach(attachment(last, name, forwards), switch.as_fd())?;
        Ok(Guest::new(mac(last), qemu, attached, client))
    }
}

pub(crate) fn mac(last: u8) -> Mac {
    Mac([0xa2, 0x13, 0x15, 0, 0x80, last])
}

pub(crate) fn attachment(last: u8, name: &str, forwards: &[Forward]) -> Attachment {
    Attachment {
        name: name.to_owned(),
        mac: mac(last).to_string(),
        aliases: vec!["all".to_owned()],
        address: None,
        forwards: forwards.to_vec(),
    }
}

pub(crate) fn forward(guest: u16, udp: bool) -> Forward {
    Forward {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        host: 0,
        guest,
        udp,
    }
}

/// A guest: smoltcp on a card.
pub(crate) struct Guest {
    pub(crate) card: Card,
    pub(crate) attached: Attached,
    pub(crate) client: Client,
    interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    epoch: Instant,
}

pub(crate) struct Card(pub(crate) OwnedFd);

pub(crate) struct Received(Vec<u8>);

pub(crate) struct Sent<'a>(&'a OwnedFd);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // A full card loses frames, as cards do.
        let _ = rustix::net::send(self.0, &frame, rustix::net::SendFlags::NOSIGNAL);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received, Sent<'_>)> {
        let frame = self.frame()?;
        Some((Received(frame), Sent(&self.0)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sent<'_>> {
        Some(Sent(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl Card {
    /// The next frame that is there.
    pub(crate) fn frame(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 2048];
        let (_, length) =
            rustix::net::recv(&self.0, &mut frame[..], rustix::net::RecvFlags::DONTWAIT).ok()?;
        frame.truncate(length);
        Some(frame)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        rustix::net::send(&self.0, frame, rustix::net::SendFlags::NOSIGNAL).unwrap();
    }

    /// Waits until a frame is there, or the time is up.
    pub(crate) fn wait(&self, time: Duration) {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::try_from(time).unwrap())).unwrap();
    }
}

impl Guest {
    fn new(mac: Mac, card: OwnedFd, attached: Attached, client: Client) -> Self {
        let mut card = Card(card);
        let mut config = Config::new(mac.into());
        config.random_seed = u64::from(mac.0[5]);
        let interface = Interface::new(config, &mut card, SmolInstant::ZERO);
        Self {
            card,
            attached,
            client,
            interface,
            sockets: SocketSet::new(Vec::new()),
            epoch: Instant::now(),
        }
    }

    /// Runs the guest until `found` gives something.
    pub(crate) fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let now = SmolInstant::from_micros(i64::try_from(self.epoch.elapsed().as_micros()).unwrap());
            self.interface.poll(now, &mut self.card, &mut self.sockets);
            if let Some(value) = found(self) {
                self.interface.poll(now, &mut self.card, &mut self.sockets);
                return value;
            }
            assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
            let delay = self.interface.poll_delay(now, &self.sockets);
            let delay = delay.map_or(Duration::from_millis(100), Duration::from);
            self.card.wait(delay.min(Duration::from_millis(100)));
        }
    }

    /// Asks for an address, and takes it; what the server said.
    pub(crate) fn lease(&mut self) -> (Ipv4Cidr, Option<Ipv4Addr>, Vec<Ipv4Addr>) {
        let dhcp = self.sockets.add(dhcpv4::Socket::new());
        let (cidr, router, servers) = self.until("a lease", |guest| {
            match guest.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll() {
                Some(dhcpv4::Event::Configured(config)) => {
                    Some((config.address, config.router, config.dns_servers.to_vec()))
                }
                _ => None,
            }
        });
        self.sockets.remove(dhcp);
        self.configure(cidr, router);
        (cidr, router, servers)
    }

    /// Takes an address without asking.
    pub(crate) fn configure(&mut self, cidr: Ipv4Cidr, router: Option<Ipv4Addr>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.push(IpCidr::Ipv4(cidr)).unwrap();
        });
        if let Some(router) = router {
            self.interface
                .routes_mut()
                .add_default_ipv4_route(router)
                .unwrap();
        }
    }

    pub(crate) fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 * 1024]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub(crate) fn connect(&mut self, handle: SocketHandle, to: SocketAddrV4, from: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket
            .connect(self.interface.context(), IpEndpoint::from(to), from)
            .unwrap();
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 64 * 1024]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    /// Sends a datagram; the next one that comes to the same port, and from where.
    pub(crate) fn ask(
        &mut self,
        handle: SocketHandle,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> (Vec<u8>, IpEndpoint) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        socket.send_slice(payload, IpEndpoint::from(to)).unwrap();
        self.until("an answer", |guest| {
            let socket = guest.sockets.get_mut::<udp::Socket<'_>>(handle);
            let (bytes, meta) = socket.recv().ok()?;
            Some((bytes.to_vec(), meta.endpoint))
        })
    }

    /// Serves one connection at `port`: sends back what comes until the other side ends.
    pub(crate) fn echo(mut self, port: u16) -> JoinHandle<Self> {
        thread::spawn(move || {
            let handle = self.tcp();
            self.socket(handle).listen(port).unwrap();
            self.until("an echo's end", |guest| {
                let socket = guest.socket(handle);
                while socket.can_recv() && socket.can_send() {
                    let mut bytes = [0; 4096];
                    let room = (socket.send_capacity() - socket.send_queue()).min(bytes.len());
                    let length = socket.recv_slice(&mut bytes[..room]).unwrap();
                    assert_eq!(socket.send_slice(&bytes[..length]).unwrap(), length);
                }
                if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                    socket.close();
                }
                matches!(socket.state(), tcp::State::Closed).then_some(())
            });
            self
        })
    }
}
