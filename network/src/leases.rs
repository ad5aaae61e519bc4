//! Which MAC address has which IPv4 address: the first time by order, and then for as long as there are others.
//!
//! The file, `leases.json` in the network's folder, is written before an address is given out, so a network that is
//! killed at any moment gives each guest the address that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smoltcp::wire::EthernetAddress;

use crate::file::{self, FileError};
use crate::frame::mac_text;
use crate::subnet::Subnet;

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// All addresses are those of guests that are there.
    #[error("network has no address left: all {0} are guests'")]
    Full(usize),
    /// Another guest has the address that was asked for.
    #[error("address {address} is {holder}'s")]
    Taken {
        /// The address.
        address: Ipv4Addr,
        /// Whose it is.
        holder: String,
    },
    /// The address that was asked for is none of the subnet's.
    #[error("address {address} is none that a guest of {subnet} can have")]
    Outside {
        /// The address.
        address: Ipv4Addr,
        /// The network's addresses.
        subnet: Subnet,
    },
}

/// The addresses that are given out.
#[derive(Debug)]
pub struct Leases {
    subnet: Subnet,
    path: PathBuf,
    by_mac: BTreeMap<String, Ipv4Addr>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    leases: BTreeMap<String, Ipv4Addr>,
}

/// Version of the file. 1: the first.
const VERSION: u32 = 1;

impl Leases {
    /// Reads `path`; without it, no address is given out yet.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(path: &Path, subnet: Subnet) -> Result<Self, LeaseError> {
        let by_mac = match file::read::<Stored>(path)? {
            Some(stored) if stored.version == VERSION => stored.leases,
            Some(_) => {
                return Err(LeaseError::from(FileError::Damaged {
                    path: path.to_owned(),
                    source: serde::de::Error::custom("an unknown version"),
                }));
            }
            None => BTreeMap::new(),
        };
        Ok(Self {
            subnet,
            path: path.to_owned(),
            by_mac,
        })
    }

    /// The address of `mac`: the one that it has, else `wanted`, else the lowest that nobody has, else the lowest of
    /// somebody who is not there. `is_there` knows who is.
    ///
    /// # Errors
    /// `wanted` is another's or none of the subnet's, no address is left, or the file cannot be written.
    pub fn address_of(
        &mut self,
        mac: EthernetAddress,
        wanted: Option<Ipv4Addr>,
        is_there: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<Ipv4Addr, LeaseError> {
        let mac = mac_text(mac);
        let has = self.by_mac.get(&mac).copied();
        let has = has.filter(|&address| self.subnet.hosts().any(|host| host == address));
        let address = match (wanted, has) {
            (Some(wanted), _) => self.claim(&mac, wanted)?,
            (None, Some(has)) => has,
            (None, None) => self.lowest(is_there)?,
        };
        if has != Some(address) {
            let before = self.by_mac.clone();
            self.by_mac.retain(|_, taken| *taken != address);
            self.by_mac.insert(mac, address);
            if let Err(error) = self.write() {
                self.by_mac = before;
                return Err(error);
            }
        }
        Ok(address)
    }

    fn claim(&self, mac: &str, address: Ipv4Addr) -> Result<Ipv4Addr, LeaseError> {
        let subnet = self.subnet;
        if !subnet.hosts().any(|host| host == address) {
            return Err(LeaseError::Outside { address, subnet });
        }
        match self.by_mac.iter().find(|&(_, &taken)| taken == address) {
            Some((holder, _)) if holder != mac => Err(LeaseError::Taken {
                address,
                holder: holder.clone(),
            }),
            _ => Ok(address),
        }
    }

    fn lowest(&self, is_there: impl Fn(Ipv4Addr) -> bool) -> Result<Ipv4Addr, LeaseError> {
        let taken: BTreeSet<_> = self.by_mac.values().copied().collect();
        let free = self.subnet.hosts().find(|host| !taken.contains(host));
        let free = free.or_else(|| self.subnet.hosts().find(|&host| !is_there(host)));
        free.ok_or_else(|| LeaseError::Full(self.subnet.hosts().count()))
    }

    fn write(&self) -> Result<(), LeaseError> {
        let stored = Stored {
            version: VERSION,
            leases: self.by_mac.clone(),
        };
        Ok(file::write(&self.path, &stored)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> EthernetAddress {
        EthernetAddress([0xa2, 0x13, 0x15, 0, 0x80, last])
    }

    /// Everybody is there.
    fn anybody(_: Ipv4Addr) -> bool {
        true
    }

    fn open(folder: &Path) -> Leases {
        Leases::open(&folder.join("leases.json"), "10.1.0.0/29".parse().unwrap()).unwrap()
    }

    #[test]
    fn an_address_is_given_once_and_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut leases = open(folder.path());
        let first = leases.address_of(mac(1), None, anybody).unwrap();
        let second = leases.address_of(mac(2), None, anybody).unwrap();
        assert_eq!([first.to_string(), second.to_string()], ["10.1.0.2", "10.1.0.3"]);
        drop(leases);
        let mut leases = open(folder.path());
        assert_eq!(leases.address_of(mac(2), None, anybody).unwrap(), second);
        assert_eq!(leases.address_of(mac(1), None, anybody).unwrap(), first);
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_unless_it_is_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let mut leases = open(folder.path());
        let wanted = "10.1.0.5".parse().unwrap();
        assert_eq!(leases.address_of(mac(1), Some(wanted), anybody).unwrap(), wanted);
        assert_eq!(leases.address_of(mac(1), Some(wanted), anybody).unwrap(), wanted);
        let error = leases
            .address_of(mac(2), Some(wanted), anybody)
            .unwrap_err()
            .to_string();
        assert!(error.contains("a2:13:15:00:80:01"), "{error}");
        let gateway = "10.1.0.1".parse().unwrap();
        assert!(matches!(
            leases.address_of(mac(2), Some(gateway), anybody),
            Err(LeaseError::Outside { .. })
        ));
    }

    #[test]
    fn takes_the_address_of_one_that_is_gone_when_no_other_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut leases = open(folder.path());
        let given: Vec<_> = (0..5)
            .map(|n| leases.address_of(mac(n), None, anybody).unwrap())
            .collect();
        let only_third_is_gone = |address| address != given[2];
        assert_eq!(
            leases.address_of(mac(9), None, only_third_is_gone).unwrap(),
            given[2]
        );
        drop(leases);
        // It is the new one's, and the one that had it gets another.
        let mut leases = open(folder.path());
        assert_eq!(leases.address_of(mac(9), None, anybody).unwrap(), given[2]);
        let first_is_gone = |address| address != given[0];
        assert_eq!(leases.address_of(mac(2), None, first_is_gone).unwrap(), given[0]);
    }

    #[test]
    fn says_so_when_none_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut leases = open(folder.path());
        for n in 0..5 {
            leases.address_of(mac(n), None, anybody).unwrap();
        }
        assert!(matches!(
            leases.address_of(mac(9), None, anybody),
            Err(LeaseError::Full(5))
        ));
    }

    #[test]
    fn refuses_a_damaged_file() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"version":2,"leases":{}}"#] {
            std::fs::write(folder.path().join("leases.json"), text).unwrap();
            let opened = Leases::open(&folder.path().join("leases.json"), Subnet::default());
            assert!(
                matches!(opened, Err(LeaseError::File(FileError::Damaged { .. }))),
                "{text}"
            );
        }
    }
}
