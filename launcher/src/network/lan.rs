//! A guest's place on a rootless LAN ([`hermitage_network`]).
//!
//! The network's process sees the guest's frames in the guest's own memory, of which QEMU tells it over a connection
//! (vhost-user), or it gets them through a pair of datagram sockets whose other end is QEMU's: [`Card`]. This process
//! keeps a copy of its end - of the pair, or of the socket to which QEMU connects - as long as the guest runs: when the
//! network's process is gone it is started again and given the same socket, and the guest goes on.
//!
//! The network's process is the program that uses this library, with the arguments `network serve NAME` and the root in
//! its environment: it says a line when it listens, and outlives whoever started it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hermitage_network::control::{self, Attachment, Client, ControlError};
use hermitage_network::{NetworkName, Store};
use serde::{Deserialize, Serialize};

use hermitage_boot::Ipv4Cidr;

use super::{Network, NetworkError};
use crate::environment;
use crate::forward::{Forward, Protocol};
use crate::spec::{MachineSpec, RunRequest};

/// How long after a failed attempt a guest is attached again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a network's process that goes away while a guest is attached is started again, and how long after. One that
/// nobody used may just have ended, and one that was killed takes connections as long as the kernel cleans up after it.
const ATTEMPTS: usize = 5;
const SOON: Duration = Duration::from_millis(10);

/// The program that runs: by a name that leads to it also when its file was replaced meanwhile, by a build.
const OURSELVES: &str = "/proc/self/exe";

/// Where a network's process writes what it has to say.
const LOG: &str = "network.log";

/// Name of the socket in an instance's folder, where QEMU runs, to which it connects to share the guest's memory.
pub(crate) const SOCKET: &str = "card";

/// How frames are to get from a guest to its network, as a user says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardChoice {
    /// Through shared memory, and where QEMU has no way to share it, through a socket.
    #[default]
    Auto,
    /// Through shared memory, or an error.
    VhostUser,
    /// Through a socket.
    Socket,
}

/// How frames get from a guest to its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Card {
    /// The network's process sees the guest's memory, and takes frames out of it and puts frames into it.
    Shared {
        /// Whether a socket would do as well.
        required: bool,
    },
    /// QEMU sends and receives each through a socket; why it is not memory, if it was to be.
    Socket(Option<String>),
}

impl From<CardChoice> for Card {
    fn from(choice: CardChoice) -> Self {
        match choice {
            CardChoice::Auto => Self::Shared { required: false },
            CardChoice::VhostUser => Self::Shared { required: true },
            CardChoice::Socket => Self::Socket(None),
        }
    }
}

impl Card {
    /// What is left where QEMU did not start and said `words`: it was built without what sharing memory takes, or may
    /// not make such memory.
    pub(crate) fn without(&self, words: &str) -> Option<Self> {
        let takes = ["vhost-user", "memfd", "reconnect"];
        let why = words
            .lines()
            .find(|line| takes.iter().any(|word| line.contains(word)))?;
        (*self == Self::Shared { required: false }).then(|| Self::Socket(Some(why.to_owned())))
    }
}

/// A network, and what a guest wants to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// The network.
    pub network: NetworkName,
    /// Names that the guest shares with others, beside its own.
    pub aliases: Vec<String>,
    /// Its address; by its MAC address if `None`.
    pub address: Option<Ipv4Cidr>,
    /// How its frames get there.
    pub card: Card,
}

/// Whether what is said of a LAN is said of one, and the names that are to be shared are names.
pub(super) fn check(request: &RunRequest) -> Result<(), NetworkError> {
    if request.card != CardChoice::Auto && !matches!(request.network, Network::Lan(_)) {
        let network = request.network.clone();
        return Err(NetworkError::CardWithoutLan { network });
    }
    let Some(alias) = request.aliases.first() else {
        return Ok(());
    };
    if !matches!(request.network, Network::Lan(_)) {
        return Err(NetworkError::AliasWithoutLan {
            alias: alias.clone(),
            network: request.network.clone(),
        });
    }
    // A network's name is what an alias is, a label of a DNS name.
    let mut aliases = request.aliases.iter();
    match aliases.find(|alias| alias.parse::<NetworkName>().is_err()) {
        Some(alias) => Err(NetworkError::NoAlias(alias.clone())),
        None => Ok(()),
    }
}

/// A guest's place on its network. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    /// What ends the connection to the network's process.
    connection: Option<UnixStream>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No thread leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what ends the connection; ends it at once if that is wanted already.
    fn keep(&self, client: &Client) {
        let connection = client.handle().ok();
        let mut state = self.state();
        if state.over {
            connection.inspect(end);
        } else {
            state.connection = connection;
        }
    }

    /// Waits; gives whether it is over.
    fn is_over_within(&self, time: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), time, |state| !state.over);
        waited.unwrap_or_else(PoisonError::into_inner).0.over
    }
}

/// What a machine gets on a network.
#[derive(Debug)]
pub(crate) struct Joined {
    /// QEMU's end of the network card, where that has no name.
    pub(crate) card: Option<OwnedFd>,
    /// Held as long as the guest runs.
    pub(crate) place: Place,
}

/// Gives a machine its place on a network, below `root`. `folder` is the instance's.
pub(crate) fn join(
    root: &Path,
    lan: &Lan,
    spec: &MachineSpec,
    folder: &Path,
) -> Result<Joined, NetworkError> {
    let network = &lan.network;
    let store = Store::new(root);
    let subnet = store.settings(network)?.subnet;
    if let Some(cidr) = lan.address.filter(|cidr| cidr.prefix() != subnet.prefix()) {
        let network = network.clone();
        return Err(NetworkError::OtherPrefix {
            cidr,
            network,
            subnet,
        });
    }
    let made = match &lan.card {
        Card::Shared { .. } => listen(folder).map(|switch| (None, switch)),
        Card::Socket(_) => control::card().map(|(card, switch)| (Some(card), switch)),
    };
    let (card, switch) = made.map_err(|source| NetworkError::Step {
        step: "make the network card's socket",
        source,
    })?;
    let member = Member {
        root: root.to_owned(),
        network: network.clone(),
        folder: store.folder(network),
        attachment: attachment(spec, lan),
        switch,
    };
    let client = member.attach()?;
    let shared = Arc::new(Shared::default());
    shared.keep(&client);
    let keeper = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || keep(&member, client, &shared))
    };
    Ok(Joined {
        card,
        place: Place {
            shared,
            keeper: Some(keeper),
        },
    })
}

fn attachment(spec: &MachineSpec, lan: &Lan) -> Attachment {
    let forward = |forward: &Forward| control::Forward {
        address: (*forward.host.ip()).into(),
        host: forward.host.port(),
        guest: forward.guest_port,
        udp: forward.protocol == Protocol::Udp,
    };
    Attachment {
        name: spec.name.to_string(),
        mac: spec.mac.to_string(),
        aliases: lan.aliases.clone(),
        address: lan.address.as_ref().map(Ipv4Cidr::address),
        forwards: spec.forwards.iter().map(forward).collect(),
    }
}

/// A guest that is to be on a network.
struct Member {
    root: PathBuf,
    network: NetworkName,
    folder: PathBuf,
    attachment: Attachment,
    /// A copy of the network's end of the card.
    switch: OwnedFd,
}

/// Makes the socket on which the network's process waits for QEMU, in a folder that nobody else can enter.
fn listen(folder: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(folder.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Through the folder's descriptor: a socket's path has 107 bytes at most.
    let folder = File::open(folder)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
    Ok(listener.into())
}

impl Member {
    /// Attaches the guest, and starts the network's process if it does not run.
    fn attach(&self) -> Result<Client, NetworkError> {
        let mut attempt = 1;
        loop {
            let mut client = Client::open(&self.folder, || self.serve())?;
            match client.attach(self.attachment.clone(), self.switch.as_fd()) {
                Ok(_) => return Ok(client),
                Err(ControlError::Lost { .. }) if attempt < ATTEMPTS => thread::sleep(SOON),
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        }
    }

    /// Starts the network's process; waits until it listens.
    fn serve(&self) -> io::Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(LOG))?;
        let mut child = Command::new(OURSELVES)
            .args(["network", "serve", self.network.as_str()])
            .env_clear()
            .env(environment::ROOT, &self.root)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // The terminal's Ctrl-C is not for it.
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.is_empty() {
            let status = child.wait()?;
            let log = self.folder.join(LOG);
            return Err(io::Error::other(format!(
                "{status}; `{}` may say why",
                log.display()
            )));
        }
        // It ends by itself; until then somebody has to wait for it.
        thread::spawn(move || child.wait());
        Ok(())
    }
}

/// Attaches the guest again whenever the network's process is gone, until it is over.
fn keep(member: &Member, client: Client, shared: &Shared) {
    let mut client = Some(client);
    loop {
        if let Some(client) = client.take() {
            client.wait();
        } else if shared.is_over_within(PAUSE) {
            return;
        }
        if shared.state().over {
            return;
        }
        // Without the network the guest runs on; that it is alone is all that can be said.
        client = member.attach().ok();
        if let Some(client) = &client {
            shared.keep(client);
        }
    }
}

fn end(connection: &UnixStream) {
    // Ended already, it is what is wanted.
    let _ = connection.shutdown(std::net::Shutdown::Both);
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.over = true;
            state.connection.take().inspect(end);
        }
        self.shared.changed.notify_all();
        if let Some(keeper) = self.keeper.take() {
            // It panics with us or not at all; either way it is over.
            let _ = keeper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_the_place_of_memory_where_that_was_left_open_and_qemu_lacks_what_it_takes() {
        let lacks = "QEMU failed: x\nqemu: -netdev vhost-user,id=net: Parameter 'type' does not accept it";
        let [auto, required, socket] =
            [CardChoice::Auto, CardChoice::VhostUser, CardChoice::Socket].map(Card::from);
        let why = "qemu: -netdev vhost-user,id=net: Parameter 'type' does not accept it";
        assert_eq!(auto.without(lacks), Some(Card::Socket(Some(why.to_owned()))));
        assert_eq!(required.without(lacks), None);
        assert_eq!(socket.without(lacks), None);
        assert_eq!(auto.without("QEMU failed: cannot set up guest memory"), None);
    }
}
