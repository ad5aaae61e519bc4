//! The addresses of QEMU's user network, where the guest's is given.
//!
//! The network is then the guest's own: QEMU's DHCP leases this one address, forwards lead to it, and the gateway is
//! where the guest expects it.

use std::net::Ipv4Addr;

use hermitage_boot::Ipv4Cidr;

use super::NetworkError;
use crate::spec::RunRequest;

/// The longest prefix with room for three hosts.
const MAX_PREFIX: u8 = 29;

/// A user network: its addresses, all in one subnet, no two alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSubnet {
    /// The guest.
    pub guest: Ipv4Cidr,
    /// The gateway, which is this host to the guest.
    pub gateway: Ipv4Addr,
    /// The name server, which asks this host's.
    pub name_server: Ipv4Addr,
}

impl UserSubnet {
    /// The subnet that a request asks for; `None` if it leaves the addresses to QEMU.
    pub(super) fn of(request: &RunRequest) -> Result<Option<Self>, NetworkError> {
        let Some(guest) = request.address else {
            return Ok(None);
        };
        if guest.prefix() > MAX_PREFIX {
            return Err(NetworkError::SmallSubnet(guest));
        }
        // In the order of QEMU's own: the gateway has the lower address.
        let mut free = hosts(guest).filter(|&host| host != guest.address() && Some(host) != request.gateway);
        let mut next = || free.next().ok_or(NetworkError::SmallSubnet(guest));
        let gateway = match request.gateway {
            Some(gateway) => gateway,
            None => next()?,
        };
        Ok(Some(Self {
            guest,
            gateway,
            name_server: next()?,
        }))
    }

    /// The address of the network itself.
    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.guest.address().to_bits() & self.guest.mask().to_bits())
    }
}

/// The hosts of a network, from the lowest.
fn hosts(cidr: Ipv4Cidr) -> impl Iterator<Item = Ipv4Addr> {
    let network = cidr.address().to_bits() & cidr.mask().to_bits();
    let broadcast = network | !cidr.mask().to_bits();
    (network + 1..broadcast).map(Ipv4Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(address: &str, gateway: Option<&str>) -> Result<Option<UserSubnet>, NetworkError> {
        UserSubnet::of(&RunRequest {
            address: Some(address.parse().unwrap()),
            gateway: gateway.map(|text| text.parse().unwrap()),
            ..RunRequest::new("kv.qcow2", "kv".parse().unwrap())
        })
    }

    #[test]
    fn no_two_hosts_have_one_address() {
        for (address, gateway, expected) in [
            ("192.168.7.2/24", None, ["192.168.7.1", "192.168.7.3"]),
            ("192.168.7.1/24", None, ["192.168.7.2", "192.168.7.3"]),
            ("192.168.7.9/24", None, ["192.168.7.1", "192.168.7.2"]),
            (
                "192.168.7.2/24",
                Some("192.168.7.1"),
                ["192.168.7.1", "192.168.7.3"],
            ),
            (
                "192.168.7.1/24",
                Some("192.168.7.254"),
                ["192.168.7.254", "192.168.7.2"],
            ),
            ("10.0.0.6/29", Some("10.0.0.1"), ["10.0.0.1", "10.0.0.2"]),
        ] {
            let subnet = subnet(address, gateway).unwrap().unwrap();
            let found = [subnet.gateway.to_string(), subnet.name_server.to_string()];
            assert_eq!(found, expected, "{address} {gateway:?}");
        }
    }

    #[test]
    fn three_hosts_need_room() {
        assert!(matches!(
            subnet("10.0.0.1/30", None),
            Err(NetworkError::SmallSubnet(_))
        ));
        assert_eq!(
            subnet("10.0.17.9/20", None).unwrap().unwrap().network(),
            Ipv4Addr::new(10, 0, 16, 0)
        );
    }
}
