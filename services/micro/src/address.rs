//! Where services are: an endpoint's text, and a service's own address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpStream, ToSocketAddrs as _, UdpSocket};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port` or `host`. A scheme, which users paste and the original's ui asks for, is dropped.
    #[must_use]
    pub fn parse(text: &str, default_port: u16) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("http://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, default_port),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (!host.is_empty() && host.chars().all(is_host)).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The URL of a path there.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{self}{path}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The address of this machine that others reach it by: the one from which it reaches kv. If kv is on this very
/// machine, that would be a loopback address, which is of no use to others: then the one from which it would reach
/// the rest of the world, and loopback only if there is no other.
///
/// # Errors
/// kv does not answer.
pub fn own_address(kv: &Endpoint) -> io::Result<IpAddr> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
    // One after the other: the kernel of a guest knows no list of addresses to try.
    for address in (kv.host.as_str(), kv.port).to_socket_addrs()? {
        match TcpStream::connect(address).and_then(|stream| stream.local_addr()) {
            Ok(local) if local.ip().is_loopback() => return Ok(outward_address().unwrap_or(local.ip())),
            Ok(local) => return Ok(local.ip()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The address of the interface with the default route. Nothing is sent: connecting a UDP socket only chooses a route.
fn outward_address() -> Option<IpAddr> {
    /// An address that is nobody's, for documentation (RFC 5737).
    const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((SOMEWHERE, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_with_or_without_a_scheme() {
        for (text, endpoint) in [
            ("10.0.2.2:9003", "10.0.2.2:9003"),
            ("kv", "kv:9000"),
            ("http://kv.node-micro.internal:80/", "kv.node-micro.internal:80"),
            (" localhost:1 \n", "localhost:1"),
        ] {
            assert_eq!(Endpoint::parse(text, 9000).unwrap().to_string(), endpoint);
        }
        for text in [
            "", ":", ":9000", "kv:", "kv:http", "kv:65536", "a b:1", "a/b", "a@b:1", "<html>",
        ] {
            assert_eq!(Endpoint::parse(text, 9000), None, "{text}");
        }
    }
}
