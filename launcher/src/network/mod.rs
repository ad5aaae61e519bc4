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
use lan::Lan;
use subnet::UserSubnet;

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
}

impl FromStr for Network {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a network is `user`, `lan`, `tap`, `bridge` or `vhost`, `lan` with a network and the \
                                latter three with a device behind a colon if need be, such as `tap:tap0`";
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
            Self::Lan(_) | Self::Tap { .. } => None,
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
    lan::check_aliases(request)?;
    let (device, bridge, wants_vhost) = match &request.network {
        Network::User => {
            if let Some(bridge) = &request.bridge {
                return Err(NetworkError::UnusedBridge {
                    bridge: bridge.clone(),
                });
            }
            return Ok(Link::User(UserSubnet::of(request)?));
        }
        Network::Lan(network) => {
            if let Some(bridge) = &request.bridge {
                return Err(NetworkError::UnusedBridge {
                    bridge: bridge.clone(),
                });
            }
            return Ok(Link::Lan(Lan {
                network: network.clone(),
                aliases: request.aliases.clone(),
                address: request.address.as_ref().map(Ipv4Cidr::address),
            }));
        }
        Network::Tap(device) => (device, None, false),
        Network::Vhost(device) => (device, None, true),
        Network::Bridge(bridge) => (&None, bridge.as_ref(), false),
    };
    if let Some(&forward) = request.forwards.first() {
        return Err(NetworkError::ForwardWithoutNat {
            forward,
            network: request.network.clone(),
        });
    }
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
mod tests {
    use super::*;
    use crate::forward::Forward;

    fn name(text: &str) -> InterfaceName {
        text.parse().unwrap()
    }

    /// A host where root has a bridge.
    fn root() -> HostNetwork {
        HostNetwork {
            may_administer: true,
            interfaces: vec![name("virbr0"), name("office")],
            helper: Some(PathBuf::from("/usr/lib/qemu/qemu-bridge-helper")),
            vhost: Ok(()),
        }
    }

    /// The same for another user.
    fn user() -> HostNetwork {
        HostNetwork {
            may_administer: false,
            ..root()
        }
    }

    fn request(network: &str) -> RunRequest {
        RunRequest {
            network: network.parse().unwrap(),
            ..RunRequest::new("kv.qcow2", "kv".parse().unwrap())
        }
    }

    fn link(network: &str, host: &HostNetwork) -> Link {
        connect(&request(network), host).unwrap()
    }

    fn ours(device: Option<&str>, bridge: Option<&str>) -> TapSource {
        TapSource::Launcher {
            device: device.map(name),
            bridge: bridge.map(name),
        }
    }

    #[test]
    fn reads_what_it_shows_and_refuses_the_rest() {
        for text in [
            "user",
            "lan",
            "lan:node-micro",
            "tap",
            "tap:tap0",
            "bridge",
            "bridge:br-lan",
            "vhost",
            "vhost:tap1",
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for (text, message) in [
            ("wan", "`wan` is not a network; a network is `user`"),
            ("", "`` is not a network"),
            ("user:eth0", "`user:eth0` takes no device"),
            ("lan:A", "`lan:A` names no network"),
            ("tap:", "`` is not a network device"),
            ("tap:../x", "`../x` is not a network device"),
            ("tap:sixteen-letters-", "is not a network device"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn each_network_of_root_is_a_tap_device_of_ours() {
        let tap = |source, vhost| Link::Tap {
            source,
            mover: if vhost { Mover::Kernel } else { Mover::Qemu(None) },
        };
        for (network, expected) in [
            ("user", Link::User(None)),
            ("tap", tap(ours(None, Some("virbr0")), false)),
            ("tap:tap0", tap(ours(Some("tap0"), None), false)),
            ("bridge", tap(ours(None, Some("virbr0")), false)),
            ("bridge:office", tap(ours(None, Some("office")), false)),
            ("vhost", tap(ours(None, Some("virbr0")), true)),
            ("vhost:tap0", tap(ours(Some("tap0"), None), true)),
        ] {
            assert_eq!(link(network, &root()), expected, "{network}");
        }
        let mut named = request("vhost:tap0");
        named.bridge = Some(name("office"));
        let expected = tap(ours(Some("tap0"), Some("office")), true);
        assert_eq!(connect(&named, &root()).unwrap(), expected);
    }

    #[test]
    fn without_rights_it_is_qemus_helper_or_an_error_that_says_what_to_grant() {
        for network in ["tap", "bridge", "vhost"] {
            let Link::Tap { source, mover } = link(network, &user()) else {
                panic!("{network} is no tap");
            };
            assert!(
                matches!(source, TapSource::Helper { .. }),
                "{network}: {source:?}"
            );
            assert_eq!(mover == Mover::Kernel, network == "vhost");
            let without = HostNetwork {
                helper: None,
                ..user()
            };
            let error = connect(&request(network), &without).unwrap_err();
            let hint = error.hint().unwrap();
            for part in ["CAP_NET_ADMIN", "ip tuntap add", "bridge.conf", "-n user"] {
                assert!(hint.contains(part), "{hint}");
            }
        }
        // It may be its owner who asks; the kernel will tell.
        assert!(matches!(link("tap:tap0", &user()), Link::Tap { .. }));
    }

    #[test]
    fn without_vhost_it_is_a_plain_tap_and_the_reason() {
        let host = HostNetwork {
            vhost: Err(NoVhost::NoDevice),
            ..root()
        };
        for (network, reason) in [("vhost", Some(NoVhost::NoDevice)), ("tap", None)] {
            let link = link(network, &host);
            assert!(
                matches!(
                    &link,
                    Link::Tap {
                        mover: Mover::Qemu(_),
                        ..
                    }
                ),
                "{network}: {link:?}"
            );
            assert_eq!(link.no_vhost(), reason.as_ref());
        }
    }

    #[test]
    fn takes_the_first_default_bridge_that_is_there() {
        let host = |interfaces: &[&str]| HostNetwork {
            interfaces: interfaces.iter().map(|text| name(text)).collect(),
            ..root()
        };
        let both = link("tap", &host(&["virbr0", "br0"]));
        assert!(matches!(both, Link::Tap { source, .. } if source == ours(None, Some("br0"))));
        let error = connect(&request("tap"), &host(&["eth0"])).unwrap_err();
        assert!(matches!(error, NetworkError::NoBridge));
        let error = connect(&request("bridge:br7"), &host(&["br0"])).unwrap_err();
        assert!(matches!(error, NetworkError::NoSuchBridge { .. }));
    }

    #[test]
    fn refuses_what_does_not_fit_together() {
        let refused = |network: &str, change: fn(&mut RunRequest)| {
            let mut request = request(network);
            change(&mut request);
            connect(&request, &root()).unwrap_err().to_string()
        };
        let forward: fn(&mut RunRequest) = |r| r.forwards = vec![Forward::tcp_from_any_port(80)];
        let bridge: fn(&mut RunRequest) = |r| r.bridge = Some("office".parse().unwrap());
        let gateway: fn(&mut RunRequest) = |r| r.gateway = Some("10.0.0.1".parse().unwrap());
        let elsewhere: fn(&mut RunRequest) = |r| {
            r.address = Some("10.0.1.2/24".parse().unwrap());
            r.gateway = Some("10.0.0.1".parse().unwrap());
        };
        let itself: fn(&mut RunRequest) = |r| {
            r.address = Some("10.0.1.2/24".parse().unwrap());
            r.gateway = Some("10.0.1.2".parse().unwrap());
        };
        let small: fn(&mut RunRequest) = |r| r.address = Some("10.0.1.2/30".parse().unwrap());
        let alias: fn(&mut RunRequest) = |r| r.aliases = vec!["kv".to_owned(), "a b".to_owned()];
        for (network, change, message) in [
            ("user", alias, "alias `kv` needs the network `lan`, not `user`"),
            ("lan:app", alias, "`a b` is no alias"),
            (
                "tap",
                forward,
                "`127.0.0.1:0:80` needs the network `user` or `lan`, not `tap`",
            ),
            (
                "user",
                bridge,
                "the networks `user` and `lan` have no bridge `office`",
            ),
            ("bridge:virbr0", bridge, "`virbr0` and `office` are two bridges"),
            (
                "tap",
                gateway,
                "gateway `10.0.0.1` is given without the guest's own address",
            ),
            (
                "tap",
                elsewhere,
                "gateway `10.0.0.1` is not another host of `10.0.1.2/24`",
            ),
            (
                "user",
                itself,
                "gateway `10.0.1.2` is not another host of `10.0.1.2/24`",
            ),
            ("user", small, "`10.0.1.2/30` leaves no room"),
        ] {
            let error = refused(network, change);
            assert!(error.contains(message), "{error}");
        }
    }
}
