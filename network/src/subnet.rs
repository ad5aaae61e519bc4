//! The addresses of a network.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smoltcp::wire::EthernetAddress;

/// The gateway's MAC address: locally administered, the same in each network, since no two of them meet.
pub const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 0x4d, 0x54, 0x47, 0x01]);

/// A network's addresses. The first host is the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

/// Why a subnet is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no subnet: an address of a private range (RFC 1918) and a prefix of 16 to 29, as 10.89.0.0/24"
)]
pub struct InvalidSubnet(String);

impl Default for Subnet {
    /// 10.89.0.0/24. Each network can have the same one, since no two of them meet.
    fn default() -> Self {
        Self {
            base: Ipv4Addr::new(10, 89, 0, 0),
            prefix: 24,
        }
    }
}

impl Subnet {
    /// The prefix's length in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.prefix)))
    }

    /// The gateway's address.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// The address that all hosts of the subnet hear.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !self.mask().to_bits())
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.base.to_bits()
    }

    /// The addresses that guests can have.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.gateway().to_bits() + 1..self.broadcast().to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let parse = || {
            let (base, prefix) = text.split_once('/')?;
            let subnet = Self {
                base: base.parse().ok()?,
                prefix: prefix.parse().ok()?,
            };
            let fits = (16..=29).contains(&subnet.prefix) && subnet.base.is_private();
            (fits && subnet.contains(subnet.base)).then_some(subnet)
        };
        parse().ok_or_else(|| InvalidSubnet(text.to_owned()))
    }
}

impl TryFrom<String> for Subnet {
    type Error = InvalidSubnet;

    fn try_from(text: String) -> Result<Self, InvalidSubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_addresses() {
        let subnet: Subnet = "10.1.2.8/29".parse().unwrap();
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert_eq!(subnet.gateway(), address("10.1.2.9"));
        assert_eq!(subnet.broadcast(), address("10.1.2.15"));
        assert_eq!(subnet.mask(), address("255.255.255.248"));
        let hosts: Vec<_> = subnet.hosts().collect();
        assert_eq!(hosts.len(), 5);
        assert_eq!(hosts[0], address("10.1.2.10"));
        assert!(!subnet.contains(address("10.1.2.16")));
        assert_eq!(subnet.to_string(), "10.1.2.8/29");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/8",
            "10.0.0.0/30",
            "10.0.0.1/24",
            "8.8.8.0/24",
            "10.0.0.0/x",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
