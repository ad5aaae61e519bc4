//! Port forwards: a port of this host that leads to a port of the guest.
//!
//! Owns their notation, their clashes, and the check that the host's port is free; QEMU does the forwarding.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::str::FromStr;

use crate::error::Error;
use crate::units::{ParseError, serialized_as_text};

serialized_as_text!(Forward);

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of this host that leads to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Address and port on this host. The address is 127.0.0.1 unless another was given: what runs in a VM is
    /// not for the whole network to see by accident. Port 0 is any free port, chosen at the start.
    pub host: SocketAddrV4,
    /// Port in the guest.
    pub guest_port: u16,
}

impl Forward {
    /// A TCP forward from any free port of 127.0.0.1.
    #[must_use]
    pub fn tcp_from_any_port(guest_port: u16) -> Self {
        Self {
            protocol: Protocol::Tcp,
            host: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
            guest_port,
        }
    }

    /// Whether `chosen` is this forward, or a choice of its port where any will do.
    pub(crate) fn may_become(&self, chosen: &Self) -> bool {
        let host = match self.host.port() {
            0 => SocketAddrV4::new(*self.host.ip(), chosen.host.port()),
            _ => self.host,
        };
        *chosen == Self { host, ..*self }
    }

    /// Checks that the host's port is free, and chooses one where any will do.
    ///
    /// QEMU would say no more than that it could not set up a rule. Between this check and QEMU's own bind the
    /// port may be lost; then QEMU's message is what the user gets.
    pub(crate) fn claim(self) -> Result<Self, Error> {
        let bound = match self.protocol {
            Protocol::Tcp => TcpListener::bind(self.host).and_then(|socket| socket.local_addr()),
            Protocol::Udp => UdpSocket::bind(self.host).and_then(|socket| socket.local_addr()),
        };
        match bound {
            Ok(address) => {
                let host = SocketAddrV4::new(*self.host.ip(), address.port());
                Ok(Self { host, ..self })
            }
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::PortInUse { forward: self })
            }
            Err(source) => Err(Error::Port {
                forward: self,
                source,
            }),
        }
    }
}

/// Checks that the debugger's port is free, and chooses one where any will do.
pub(crate) fn claim_gdb_port(port: u16) -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port())
        .map_err(|source| Error::GdbPort { port, source })
}

impl FromStr for Forward {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a forward is [ADDRESS:]HOST-PORT:GUEST-PORT[/udp], such as `9000:9000`";
        let fault = |fault| ParseError::new(text, fault, EXPECTED);
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(fault("names an unknown protocol")),
        };
        let (host, guest_port) = ports
            .rsplit_once(':')
            .ok_or_else(|| fault("names one port; which of the two is it?"))?;
        let (address, host_port) = match host.rsplit_once(':') {
            Some((address, port)) => (
                address.parse().map_err(|_| fault("has a bad IPv4 address"))?,
                port,
            ),
            None => (Ipv4Addr::LOCALHOST, host),
        };
        let port = |port: &str| -> Result<u16, ParseError> {
            port.parse()
                .map_err(|_| fault("has a port that is not 0 to 65535"))
        };
        let guest_port = port(guest_port)?;
        if guest_port == 0 {
            return Err(fault("has no port in the guest"));
        }
        Ok(Self {
            protocol,
            host: SocketAddrV4::new(address, port(host_port)?),
            guest_port,
        })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.guest_port)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// Refuses two forwards of one port of the host.
pub(crate) fn refuse_clashes(forwards: &[Forward]) -> Result<(), Error> {
    let mut by_port: HashMap<(Protocol, u16), Vec<Forward>> = HashMap::new();
    for &forward in forwards.iter().filter(|forward| forward.host.port() != 0) {
        let others = by_port
            .entry((forward.protocol, forward.host.port()))
            .or_default();
        let address = *forward.host.ip();
        let clash = others.iter().find(|other| {
            *other.host.ip() == address || other.host.ip().is_unspecified() || address.is_unspecified()
        });
        if let Some(&first) = clash {
            return Err(Error::ForwardsClash {
                first,
                second: forward,
            });
        }
        others.push(forward);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Forward {
        text.parse().unwrap()
    }

    #[test]
    fn reads_each_form() {
        for (text, shown) in [
            ("9000:80", "127.0.0.1:9000:80"),
            ("0:80", "127.0.0.1:0:80"),
            ("9000:80/tcp", "127.0.0.1:9000:80"),
            ("0.0.0.0:5353:53/udp", "0.0.0.0:5353:53/udp"),
        ] {
            assert_eq!(forward(text).to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_forward() {
        for (text, message) in [
            ("80", "names one port"),
            ("", "names one port"),
            ("80:", "0 to 65535"),
            (":80", "0 to 65535"),
            ("80:70000", "0 to 65535"),
            ("80:-1", "0 to 65535"),
            ("80:0", "no port in the guest"),
            ("80:80/sctp", "unknown protocol"),
            ("localhost:80:80", "bad IPv4 address"),
            ("1:2:3:4", "bad IPv4 address"),
            ("::1:80:80", "bad IPv4 address"),
        ] {
            let error = text.parse::<Forward>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn names_both_forwards_of_one_port() {
        let clash = |texts: &[&str]| {
            let forwards: Vec<_> = texts.iter().map(|text| forward(text)).collect();
            refuse_clashes(&forwards)
        };
        assert!(clash(&["80:80", "81:80", "80:80/udp", "127.0.0.2:80:80", "0:1", "0:2"]).is_ok());
        let error = clash(&["80:80", "0.0.0.0:80:90"]).unwrap_err().to_string();
        assert!(error.contains("`127.0.0.1:80:80`"), "{error}");
        assert!(error.contains("`0.0.0.0:80:90`"), "{error}");
    }

    #[test]
    fn chooses_a_free_port_and_refuses_one_in_use() {
        let claimed = forward("0:80").claim().unwrap();
        assert_ne!(claimed.host.port(), 0);

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Forward {
            host: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            ..claimed
        };
        let error = taken.claim().unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }), "{error}");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}
