//! Why a guest cannot be connected as asked.

use std::io;
use std::net::Ipv4Addr;

use hermitage_boot::Ipv4Cidr;
use hermitage_network::store::StoreError;
use hermitage_network::{NetworkName, Subnet};

use super::{DEFAULT_BRIDGES, Network};
use crate::forward::Forward;
use crate::units::InterfaceName;

/// Why a guest cannot be connected as asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A guest on a bridge has an address that is reached without a forward.
    #[error("`{forward}` needs the network `user` or `lan`, not `{network}`")]
    ForwardWithoutNat {
        /// The forward.
        forward: Forward,
        /// The network that was asked for.
        network: Network,
    },
    /// Names are known on a LAN alone.
    #[error("alias `{alias}` needs the network `lan`, not `{network}`")]
    AliasWithoutLan {
        /// The alias.
        alias: String,
        /// The network.
        network: Network,
    },
    /// There is a choice on a LAN alone.
    #[error("`--card` needs the network `lan`, not `{network}`")]
    CardWithoutLan {
        /// The network.
        network: Network,
    },
    /// No label of a DNS name.
    #[error(
        "`{0}` is no alias: small letters, digits and `-`, with a letter or digit at both ends, 63 at most"
    )]
    NoAlias(String),
    /// A bridge was named for a network that has none.
    #[error("the network `{network}` has no bridge `{bridge}`")]
    UnusedBridge {
        /// The bridge.
        bridge: InterfaceName,
        /// The network.
        network: Network,
    },
    /// Two bridges were named.
    #[error("`{first}` and `{second}` are two bridges; a guest has one card")]
    TwoBridges {
        /// The one, with the network.
        first: InterfaceName,
        /// The other, by itself.
        second: InterfaceName,
    },
    /// A gateway without the network that it is in.
    #[error("gateway `{0}` is given without the guest's own address")]
    GatewayAlone(Ipv4Addr),
    /// A gateway that the guest cannot reach.
    #[error("gateway `{gateway}` is not another host of `{cidr}`")]
    GatewayElsewhere {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The guest's address.
        cidr: Ipv4Cidr,
    },
    /// QEMU's user network is three hosts: guest, gateway, name server.
    #[error("`{0}` leaves no room for the gateway and the name server of the network `user`")]
    SmallSubnet(Ipv4Cidr),
    /// No bridge was named, and none of those by default exists.
    #[error("there is no bridge `{}`", DEFAULT_BRIDGES.join("` or `"))]
    NoBridge,
    /// A bridge that does not exist.
    #[error("there is no bridge `{bridge}`")]
    NoSuchBridge {
        /// Its name.
        bridge: InterfaceName,
    },
    /// A device that no bridge's ports can be added to.
    #[error("`{bridge}` is not a bridge")]
    NotABridge {
        /// Its name.
        bridge: InterfaceName,
    },
    /// We may not make a tap device.
    #[error("making a tap device needs rights that this process lacks")]
    NoRights {
        /// The bridge that it was to be a port of.
        bridge: Option<InterfaceName>,
    },
    /// A tap device that is another's, or in use.
    #[error("tap device `{device}` cannot be used")]
    Device {
        /// Its name.
        device: InterfaceName,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A device was to join a bridge, and has done so before.
    #[error("tap device `{device}` is a port of a bridge already")]
    PortAlready {
        /// Its name.
        device: String,
    },
    /// An address whose network is another than the LAN's.
    #[error("`{cidr}` is of another size than the network `{network}`, which is `{subnet}`")]
    OtherPrefix {
        /// The address.
        cidr: Ipv4Cidr,
        /// The LAN.
        network: NetworkName,
        /// The LAN's addresses.
        subnet: Subnet,
    },
    /// A LAN that there is not, or whose settings are damaged.
    #[error(transparent)]
    Lan(#[from] StoreError),
    /// A LAN's process does not start, or refuses the guest.
    #[error("guest cannot join its network")]
    Join(#[from] hermitage_network::control::ControlError),
    /// A step that the kernel refused.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl NetworkError {
    /// Whether the request is wrong on any host, or this host lacks something.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::ForwardWithoutNat { .. }
            | Self::UnusedBridge { .. }
            | Self::TwoBridges { .. }
            | Self::GatewayAlone(_)
            | Self::GatewayElsewhere { .. }
            | Self::AliasWithoutLan { .. }
            | Self::CardWithoutLan { .. }
            | Self::NoAlias(_)
            | Self::OtherPrefix { .. }
            | Self::SmallSubnet(_) => true,
            Self::NoBridge
            | Self::Lan(_)
            | Self::Join(_)
            | Self::NoSuchBridge { .. }
            | Self::NotABridge { .. }
            | Self::NoRights { .. }
            | Self::Device { .. }
            | Self::PortAlready { .. }
            | Self::Step { .. } => false,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::ForwardWithoutNat { .. } => {
                "on a bridge the guest has an address of its own, and each of its ports is open there"
            }
            Self::UnusedBridge { .. } => "choose a network that has one: `-n tap`, `-n bridge` or `-n vhost`",
            Self::TwoBridges { .. } => "leave out one of them",
            Self::GatewayAlone(_) => "give the guest's own too: `--ip ADDRESS/PREFIX`",
            Self::GatewayElsewhere { .. } => "the gateway is in the guest's network, and not the guest",
            Self::SmallSubnet(_) => "the longest prefix there is 29",
            Self::NoBridge => {
                "name yours with `-b`, or make one: `ip link add br0 type bridge && ip link set br0 up`; \
                 `-n user` needs none"
            }
            Self::NoSuchBridge { .. } | Self::NotABridge { .. } => {
                "`ip link show type bridge` lists those that are there"
            }
            Self::NoRights { bridge } => {
                let bridge = bridge.as_ref().map_or("br0", InterfaceName::as_str);
                return Some(format!(
                    "run as root or with CAP_NET_ADMIN; or have root make a device for you, \
                     `ip tuntap add tap0 mode tap user $USER && ip link set tap0 up master {bridge}`, and use \
                     `-n tap:tap0`; or have root allow QEMU's helper: `allow {bridge}` in /etc/qemu/bridge.conf and \
                     `chmod u+s` on qemu-bridge-helper. `-n lan` and `-n user` need no rights"
                ));
            }
            Self::Device { .. } => {
                "it may be in use by another guest, belong to another user, or not be a tap device: `ip -d link show` tells"
            }
            Self::PortAlready { .. } => "leave out `-b`, or take the device off its bridge",
            Self::OtherPrefix { cidr, subnet, .. } => {
                return Some(format!(
                    "give it as `--ip {}/{}`",
                    cidr.address(),
                    subnet.prefix()
                ));
            }
            Self::Lan(StoreError::Unknown { name, .. }) => {
                return Some(format!("make it with `cargo xtask network create {name}`"));
            }
            Self::Lan(_)
            | Self::Join(_)
            | Self::AliasWithoutLan { .. }
            | Self::CardWithoutLan { .. }
            | Self::NoAlias(_)
            | Self::Step { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
