//! How a guest is connected: what a user asks for, and what the machine gets.
//!
//! `Network -- connect() --> Link -- Tap::open() --> QEMU`
//!
//! | network | the guest is connected to | rights |
//! | --- | --- | --- |
//! | `user` | a NAT of its own, inside QEMU | none |
//! | `lan` | the rootless LAN of that name ([`lan`]) | none |
//! | `tap`, `bridge` | a bridge of this host, or a tap device that somebody made | `CAP_NET_ADMIN`, or one that was given |
//! | `vhost` | the same; the host's kernel moves the frames | also `/dev/vhost-net` |
//! | `qemu` | what QEMU has, in its own words | what that takes |
//!
//! [`connect`] decides and changes nothing; [`tap`] makes devices; [`host`] looks at what this host has; [`subnet`] has
//! the addresses of the user network. It does not own QEMU's notation for all this: `command_line` does.

pub(crate) mod backlog;
pub mod error;
pub mod host;
pub mod lan;
pub mod subnet;
pub(crate) mod tap;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use hermitage_boot::Ipv4Cidr;
use hermitage_network::NetworkName;

pub use error::NetworkError;
use host::{HostNetwork, NoVhost};
use lan::{Card, Lan};
use subnet::UserSubnet;

use crate::forward::Forward;
use crate::spec::RunRequest;
use crate::units::{InterfaceName, ParseError, serialized_as_text};

serialized_as_text!(Network);

/// The bridges that are taken where none is named, the first that exists: what people call their own, and libvirt's.
pub const DEFAULT_BRIDGES: [&str; 2] = ["br0", "virbr0"];

/// How a guest is to be connected, as a user says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// QEMU's user network: a NAT of its own for each guest; needs no rights.
    #[default]
    User,
    /// A rootless LAN: guests see each other by name.
    Lan(NetworkName),
    /// A tap device: this one, or one of our own on a bridge.
    Tap(Option<InterfaceName>),
    /// A bridge: this one, or the default.
    Bridge(Option<InterfaceName>),
    /// As `Tap`, with the frames moved by the host's kernel.
    Vhost(Option<InterfaceName>),
    /// Whatever else QEMU has, in its own words: a `-netdev` without its id.
    Qemu(String),
}

impl FromStr for Network {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a network is `user`, `lan`, `tap`, `bridge` or `vhost`, `lan` with a network and the \
                                latter three with a device behind a colon if need be, such as `tap:tap0`; or `qemu:` \
                                and what QEMU's `-netdev` takes";
        if let Some(netdev) = text.strip_prefix("qemu:").filter(|netdev| !netdev.is_empty()) {
            return Ok(Self::Qemu(netdev.to_owned()));
        }
        if let Some(name) = text.strip_prefix("lan:") {
            let name = name.parse::<NetworkName>();
            return name
                .map(Self::Lan)
                .map_err(|_| ParseError::new(text, "names no network", EXPECTED));
        }
        let (word, device) = match text.split_once(':') {
            Some((word, device)) => (word, Some(device.parse::<InterfaceName>()?)),
            None => (text, None),
        };
        match (word, device) {
            ("user", None) => Ok(Self::User),
            ("user", Some(_)) => Err(ParseError::new(text, "takes no device", EXPECTED)),
            ("tap", device) => Ok(Self::Tap(device)),
            ("bridge", device) => Ok(Self::Bridge(device)),
            ("vhost", device) => Ok(Self::Vhost(device)),
            ("lan", None) => Ok(Self::Lan(NetworkName::default())),
            _ => Err(ParseError::new(text, "is not a network", EXPECTED)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, device) = match self {
            Self::User => ("user", &None),
            Self::Lan(name) if name.as_str() == NetworkName::DEFAULT => ("lan", &None),
            Self::Lan(name) => return write!(f, "lan:{name}"),
            Self::Tap(device) => ("tap", device),
            Self::Bridge(device) => ("bridge", device),
            Self::Vhost(device) => ("vhost", device),
            Self::Qemu(netdev) => return write!(f, "qemu:{netdev}"),
        };
        match device {
            Some(device) => write!(f, "{word}:{device}"),
            None => f.write_str(word),
        }
    }
}

/// What a machine's network card is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// QEMU's user network, with addresses of its own choice if `None`.
    User(Option<UserSubnet>),
    /// A rootless LAN.
    Lan(Lan),
    /// What QEMU has, in its own words.
    Qemu(String),
    /// A tap device.
    Tap {
        /// Where it comes from.
        source: TapSource,
        /// Who moves its frames.
        mover: Mover,
    },
}

impl Link {
    /// The router that a guest with a given address has here.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.subnet().map(|subnet| subnet.gateway)
    }

    /// The name server that a guest with a given address has here.
    #[must_use]
    pub fn name_server(&self) -> Option<Ipv4Addr> {
        self.subnet().map(|subnet| subnet.name_server)
    }

    /// Whether the guest's memory is another process's too.
    pub(crate) fn shares_memory(&self) -> bool {
        matches!(self, Self::Lan(lan) if matches!(lan.card, Card::Shared { .. }))
    }

    /// Why frames go through a socket where they were to go through shared memory.
    #[must_use]
    pub fn no_vhost_user(&self) -> Option<&str> {
        match self {
            Self::Lan(Lan {
                card: Card::Socket(why),
                ..
            }) => why.as_deref(),
            _ => None,
        }
    }

    /// Why QEMU moves the frames where the host's kernel was to do it.
    #[must_use]
    pub fn no_vhost(&self) -> Option<&NoVhost> {
        match self {
            Self::Tap {
                mover: Mover::Qemu(why),
                ..
            } => why.as_ref(),
            _ => None,
        }
    }

    fn subnet(&self) -> Option<&UserSubnet> {
        match self {
            Self::User(subnet) => subnet.as_ref(),
            Self::Lan(_) | Self::Tap { .. } | Self::Qemu(_) => None,
        }
    }
}

/// Who moves frames between a guest and a tap device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mover {
    /// QEMU, and why it is not the host's kernel if that was asked for.
    Qemu(Option<NoVhost>),
    /// The host's kernel, through `/dev/vhost-net`.
    Kernel,
}

/// Where a tap device comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapSource {
    /// The launcher opens it, and hands it to QEMU. Made if it does not exist, and gone then with its last holder.
    Launcher {
        /// The device; one of the kernel's choice if `None`.
        device: Option<InterfaceName>,
        /// The bridge that it becomes a port of.
        bridge: Option<InterfaceName>,
    },
    /// QEMU's helper, which has the rights that we lack, makes one on a bridge that `/etc/qemu/bridge.conf` allows.
    Helper {
        /// The helper.
        program: PathBuf,
        /// The bridge.
        bridge: InterfaceName,
    },
}

/// Decides what a guest is connected to.
///
/// # Errors
/// A request whose parts do not fit; no such bridge; no rights.
pub fn connect(request: &RunRequest, host: &HostNetwork) -> Result<Link, NetworkError> {
    check_addresses(request)?;
    lan::check(request)?;
    let (device, bridge, wants_vhost) = match &request.network {
        Network::User => {
            refuse_bridge(request)?;
            return Ok(Link::User(UserSubnet::of(request)?));
        }
        Network::Qemu(netdev) => {
            refuse_bridge(request)?;
            refuse_forwards(request)?;
            return Ok(Link::Qemu(netdev.clone()));
        }
        Network::Lan(network) => {
            refuse_bridge(request)?;
            return Ok(Link::Lan(Lan {
                network: network.clone(),
                aliases: request.aliases.clone(),
                address: request.address,
                card: request.card.into(),
            }));
        }
        Network::Tap(device) => (device, None, false),
        Network::Vhost(device) => (device, None, true),
        Network::Bridge(bridge) => (&None, bridge.as_ref(), false),
    };
    refuse_forwards(request)?;
    let bridge = match (bridge, &request.bridge) {
        (Some(first), Some(second)) if first != second => {
            return Err(NetworkError::TwoBridges {
                first: first.clone(),
                second: second.clone(),
            });
        }
        (Some(bridge), _) | (None, Some(bridge)) => Some(bridge.clone()),
        // Who names a tap device has connected it.
        (None, None) if device.is_some() => None,
        (None, None) => Some(host.default_bridge().ok_or(NetworkError::NoBridge)?),
    };
    if let Some(bridge) = bridge.as_ref().filter(|bridge| !host.has(bridge)) {
        return Err(NetworkError::NoSuchBridge {
            bridge: bridge.clone(),
        });
    }
    Ok(Link::Tap {
        source: source(device.clone(), bridge, host)?,
        mover: match &host.vhost {
            _ if !wants_vhost => Mover::Qemu(None),
            Ok(()) => Mover::Kernel,
            Err(why) => Mover::Qemu(Some(why.clone())),
        },
    })
}

fn refuse_bridge(request: &RunRequest) -> Result<(), NetworkError> {
    let unused = |bridge: &InterfaceName| NetworkError::UnusedBridge {
        bridge: bridge.clone(),
        network: request.network.clone(),
    };
    request
        .bridge
        .as_ref()
        .map_or(Ok(()), |bridge| Err(unused(bridge)))
}

fn refuse_forwards(request: &RunRequest) -> Result<(), NetworkError> {
    let without = |&forward: &Forward| NetworkError::ForwardWithoutNat {
        forward,
        network: request.network.clone(),
    };
    request
        .forwards
        .first()
        .map_or(Ok(()), |forward| Err(without(forward)))
}

/// A gateway is another host of the guest's network.
fn check_addresses(request: &RunRequest) -> Result<(), NetworkError> {
    match (request.address, request.gateway) {
        (_, None) => Ok(()),
        (None, Some(gateway)) => Err(NetworkError::GatewayAlone(gateway)),
        (Some(cidr), Some(gateway)) => {
            let host = Ipv4Cidr::new(gateway, cidr.prefix());
            if host.is_ok() && cidr.contains(gateway) && gateway != cidr.address() {
                Ok(())
            } else {
                Err(NetworkError::GatewayElsewhere { gateway, cidr })
            }
        }
    }
}

/// A device that is named may be its owner's, which the kernel knows; one of our own needs the right to make it.
fn source(
    device: Option<InterfaceName>,
    bridge: Option<InterfaceName>,
    host: &HostNetwork,
) -> Result<TapSource, NetworkError> {
    match (device, bridge, &host.helper) {
        (None, Some(bridge), Some(program)) if !host.may_administer => Ok(TapSource::Helper {
            program: program.clone(),
            bridge,
        }),
        (None, bridge, _) if !host.may_administer => Err(NetworkError::NoRights { bridge }),
        (device, bridge, _) => Ok(TapSource::Launcher { device, bridge }),
    }
}

#[cfg(test)]
mod tests;
