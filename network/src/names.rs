//! Who is called what on a network: each guest by its own name, and services by a name that several guests share.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The top-level domain of networks: reserved for private use, never delegated.
pub const DOMAIN: &str = "internal";

/// Names and their addresses, in small letters.
#[derive(Debug)]
pub struct Names {
    /// The name of the network, in small letters.
    network: String,
    addresses: BTreeMap<String, Vec<Ipv4Addr>>,
    turn: usize,
}

/// What a question's name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A name of ours: its addresses, the first another one each time.
    Addresses(Vec<Ipv4Addr>),
    /// A name that would be ours, and is nobody's.
    Nobody,
    /// A name of the world's.
    Elsewhere,
}

impl Names {
    /// No names, in the network of that name.
    #[must_use]
    pub fn new(network: &str) -> Self {
        Self {
            network: network.to_ascii_lowercase(),
            addresses: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Gives `address` the name `name`, besides those that have it.
    pub fn add(&mut self, name: &str, address: Ipv4Addr) {
        let addresses = self.addresses.entry(name.to_ascii_lowercase()).or_default();
        if let Err(place) = addresses.binary_search(&address) {
            addresses.insert(place, address);
        }
    }

    /// Takes all names from `address`.
    pub fn remove(&mut self, address: Ipv4Addr) {
        self.addresses.retain(|_, addresses| {
            addresses.retain(|&a| a != address);
            !addresses.is_empty()
        });
    }

    /// Looks a name up: `kv`, `kv.<network>`, `kv.<network>.internal`, with or without a dot at the end.
    pub fn find(&mut self, name: &str) -> Found {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (name, ours) = match name.strip_suffix(&format!(".{DOMAIN}")) {
            Some(rest) => (rest, true),
            None => (name.as_str(), false),
        };
        let inside = name.strip_suffix(&self.network).and_then(|n| n.strip_suffix('.'));
        let key = inside.unwrap_or(name);
        match self.addresses.get(key) {
            Some(addresses) => {
                let mut addresses = addresses.clone();
                let turn = self.turn % addresses.len();
                addresses.rotate_left(turn);
                self.turn = self.turn.wrapping_add(1);
                Found::Addresses(addresses)
            }
            // A single word is never asked of the world.
            None if ours || inside.is_some() || !key.contains('.') => Found::Nobody,
            None => Found::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 0, last)
    }

    #[test]
    fn finds_a_guest_by_each_of_its_names() {
        let mut names = Names::new("node-micro");
        names.add("KV", address(2));
        for name in [
            "kv",
            "Kv.",
            "kv.node-micro",
            "kv.node-micro.internal",
            "KV.NODE-MICRO.INTERNAL.",
        ] {
            assert_eq!(names.find(name), Found::Addresses(vec![address(2)]), "{name}");
        }
    }

    #[test]
    fn asks_the_world_only_for_names_of_the_world() {
        let mut names = Names::new("node-micro");
        for name in [
            "db",
            "db.node-micro",
            "db.node-micro.internal",
            "db.other.internal",
            "internal",
        ] {
            assert_eq!(names.find(name), Found::Nobody, "{name}");
        }
        assert_eq!(names.find("example.org"), Found::Elsewhere);
    }

    #[test]
    fn replicas_take_turns_and_those_that_left_are_gone() {
        let mut names = Names::new("n");
        for last in [3, 2, 4, 3] {
            names.add("worker", address(last));
        }
        let first = |names: &mut Names| match names.find("worker") {
            Found::Addresses(addresses) => addresses[0],
            other => panic!("{other:?}"),
        };
        let firsts: Vec<_> = (0..4).map(|_| first(&mut names)).collect();
        assert_eq!(firsts, [address(2), address(3), address(4), address(2)]);
        names.remove(address(2));
        names.remove(address(4));
        assert_eq!(names.find("worker"), Found::Addresses(vec![address(3)]));
        names.remove(address(3));
        assert_eq!(names.find("worker"), Found::Nobody);
    }
}
