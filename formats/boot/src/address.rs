//! The addresses of a guest's network card, where they are given and not leased.

use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

/// An address of a host, and how many of its bits name the network that it is in: `192.168.7.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

/// Why something is no address of a host in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotACidr {
    /// Not of the form `A.B.C.D/PREFIX`.
    Form,
    /// A prefix that leaves no room for two hosts, or that is none.
    Prefix,
    /// An address that no single host has: the network's own, its broadcast address, a multicast or loopback address.
    NoHost,
}

impl fmt::Display for NotACidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "is not an address with a prefix",
            Self::Prefix => "has a prefix that is not 1 to 30",
            Self::NoHost => "is not the address of one host",
        })
    }
}

impl core::error::Error for NotACidr {}

impl Ipv4Cidr {
    /// Longest prefix: with 30 bits a network has two hosts, the least that makes sense beside a gateway.
    pub const MAX_PREFIX: u8 = 30;

    /// Puts an address and its prefix together.
    ///
    /// # Errors
    /// They do not make the address of a host.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, NotACidr> {
        if prefix == 0 || prefix > Self::MAX_PREFIX {
            return Err(NotACidr::Prefix);
        }
        let cidr = Self { address, prefix };
        let host = address.to_bits() & !cidr.mask().to_bits();
        let is_broadcast = host == !cidr.mask().to_bits();
        if host == 0 || is_broadcast || !is_host(address) {
            return Err(NotACidr::NoHost);
        }
        Ok(cidr)
    }

    /// The host's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// How many bits name the network.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The same as a mask: `255.255.255.0` for 24.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (u32::BITS - u32::from(self.prefix)))
    }

    /// Whether another address is in this network.
    #[must_use]
    pub fn contains(&self, other: Ipv4Addr) -> bool {
        (self.address.to_bits() ^ other.to_bits()) & self.mask().to_bits() == 0
    }
}

/// Whether one host can have this address on a network.
fn is_host(address: Ipv4Addr) -> bool {
    // Network 0 and those from 240 on (class E) are for nobody; between them lies multicast.
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback()
}

impl FromStr for Ipv4Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (address, prefix) = text.split_once('/').ok_or(NotACidr::Form)?;
        let address = address.parse().map_err(|_| NotACidr::Form)?;
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotACidr::Form);
        }
        Self::new(address, prefix.parse().map_err(|_| NotACidr::Prefix)?)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address that a guest is given, in place of one that it leases by DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// Its own address, and its network.
    pub cidr: Ipv4Cidr,
    /// The router to all other networks; without one the guest reaches its own network alone.
    pub gateway: Option<Ipv4Addr>,
}

impl StaticAddress {
    /// Bytes of the encoding: address, prefix, gateway (0.0.0.0 where there is none).
    pub(crate) const ENCODED: usize = 9;

    pub(crate) fn encode(&self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[..4].copy_from_slice(&self.cidr.address.octets());
        bytes[4] = self.cidr.prefix;
        let gateway = self.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED);
        bytes[5..].copy_from_slice(&gateway.octets());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, d, prefix, e, f, g, h] = bytes else {
            return None;
        };
        let cidr = Ipv4Cidr::new(Ipv4Addr::new(a, b, c, d), prefix).ok()?;
        let gateway = Ipv4Addr::new(e, f, g, h);
        let gateway = (!gateway.is_unspecified()).then_some(gateway);
        Some(Self { cidr, gateway })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reads_what_it_shows() {
        for (text, mask) in [
            ("192.168.7.2/24", "255.255.255.0"),
            ("10.1.2.3/8", "255.0.0.0"),
            ("10.0.2.15/20", "255.255.240.0"),
            ("10.0.0.1/30", "255.255.255.252"),
            ("129.0.0.1/1", "128.0.0.0"),
        ] {
            let cidr: Ipv4Cidr = text.parse().unwrap();
            assert_eq!(cidr.to_string(), text);
            assert_eq!(cidr.mask().to_string(), mask);
        }
    }

    #[test]
    fn refuses_what_is_no_hosts_address() {
        for (text, fault) in [
            ("", NotACidr::Form),
            ("10.0.0.1", NotACidr::Form),
            ("10.0.0/24", NotACidr::Form),
            ("10.0.0.1/+8", NotACidr::Form),
            ("10.0.0.1/x", NotACidr::Form),
            ("host/24", NotACidr::Form),
            ("10.0.0.1/", NotACidr::Prefix),
            ("10.0.0.1/0", NotACidr::Prefix),
            ("10.0.0.1/31", NotACidr::Prefix),
            ("10.0.0.1/256", NotACidr::Prefix),
            ("10.0.0.0/24", NotACidr::NoHost),
            ("10.0.0.255/24", NotACidr::NoHost),
            ("127.0.0.1/8", NotACidr::NoHost),
            ("224.0.0.1/24", NotACidr::NoHost),
            ("0.0.0.1/8", NotACidr::NoHost),
        ] {
            assert_eq!(text.parse::<Ipv4Cidr>(), Err(fault), "{text}");
        }
    }

    #[test]
    fn knows_its_own_network() {
        let cidr: Ipv4Cidr = "10.0.17.2/20".parse().unwrap();
        assert!(cidr.contains("10.0.31.255".parse().unwrap()));
        assert!(!cidr.contains("10.0.32.1".parse().unwrap()));
    }
}
