//! Stories of guests on a bridge: addresses by DHCP, and connections among themselves.

#[path = "../../../launcher/tests/namespace/mod.rs"]
#[expect(dead_code, reason = "the launcher's tests use all of it")]
mod namespace;

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use launcher::usage::Usage;
use launcher::{Entry, Machine, RunRequest};
use namespace::BRIDGE;

use super::{DEADLINE, image, request};

/// Two guests, known by their MAC addresses.
const FIRST: (&str, Ipv4Addr) = ("a2:13:15:00:80:01", Ipv4Addr::new(10, 77, 0, 11));
const SECOND: (&str, Ipv4Addr) = ("a2:13:15:00:80:02", Ipv4Addr::new(10, 77, 0, 12));

/// dnsmasq, ended with the test.
struct DhcpServer(
    Child,
    #[expect(dead_code, reason = "kept until the server has ended")] tempfile::TempDir,
);

impl DhcpServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
            ])
            .args([
                "--bind-interfaces",
                "--log-facility=-",
                "--dhcp-authoritative",
                "--no-ping",
            ])
            .arg(format!("--interface={BRIDGE}"))
            .arg("--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0")
            .arg(format!("--dhcp-leasefile={}", file("leases")))
            .arg(format!("--pid-file={}", file("pid")));
        for (mac, address) in [FIRST, SECOND] {
            command.arg(format!("--dhcp-host={mac},{address}"));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(
            command
                .spawn()
                .expect("dnsmasq: `cargo xtask doctor --fix` installs it"),
            folder,
        )
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path, name: &str, mac: &str, network: &str, command: &str) -> Machine {
    let request = RunRequest {
        name: name.parse().unwrap(),
        mac: Some(mac.parse().unwrap()),
        network: network.parse().unwrap(),
        ..request(image(), Entry::Direct, &format!("probe {command}"))
    };
    let launch = launcher::plan(&request).unwrap();
    launch.start(root, io::sink()).unwrap()
}

fn console(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console().unwrap()).into_owned()
}

#[test]
#[ignore = "boots virtual machines"]
fn two_guests_get_addresses_by_mac_and_talk_to_each_other() {
    namespace::within(|| {
        let _server = DhcpServer::start();
        let root = tempfile::tempdir().unwrap();
        // Where there is no `/dev/vhost-net`, vhost is a plain tap.
        let first = start(root.path(), "first", FIRST.0, "bridge", "echo-all");
        let to = format!("call {}:9000 word", FIRST.1);
        let second = start(root.path(), "second", SECOND.0, "vhost", &to);
        let exit = second.wait_for(DEADLINE);
        let said = console(&second);
        assert!(exit.is_some(), "second: {said}; first: {}", console(&first));
        assert_eq!(exit.unwrap().code(), 0, "{said}");
        assert_eq!(said, format!("{} was answered: word\n", SECOND.1));
        let usage = Usage::of(&first.process().unwrap()).unwrap();
        let traffic = usage.traffic.expect("it has a tap device");
        assert!(traffic.received > 0 && traffic.sent > 0, "{traffic:?}");
    });
}
