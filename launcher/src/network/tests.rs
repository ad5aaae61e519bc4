//! What a user asks for, and what the machine gets on each kind of host.

use super::*;
use crate::forward::Forward;
use crate::network::lan::CardChoice;

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
        "qemu:stream,addr.type=unix,addr.path=/x",
    ] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
    for (text, message) in [
        ("wan", "`wan` is not a network; a network is `user`"),
        ("", "`` is not a network"),
        ("qemu:", "is not a network"),
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
    let card: fn(&mut RunRequest) = |r| r.card = CardChoice::Socket;
    let alias: fn(&mut RunRequest) = |r| r.aliases = vec!["kv".to_owned(), "a b".to_owned()];
    for (network, change, message) in [
        ("user", alias, "alias `kv` needs the network `lan`, not `user`"),
        ("user", card, "`--card` needs the network `lan`, not `user`"),
        (
            "qemu:stream",
            forward,
            "needs the network `user` or `lan`, not `qemu:stream`",
        ),
        ("lan:app", alias, "`a b` is no alias"),
        (
            "tap",
            forward,
            "`127.0.0.1:0:80` needs the network `user` or `lan`, not `tap`",
        ),
        ("user", bridge, "the network `user` has no bridge `office`"),
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
