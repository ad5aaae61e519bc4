//! Hands frames from guest to guest, and to the gateway.
//!
//! Who is at which port is known from the start, so there is nothing to learn, nothing to flood and nothing to poison:
//! a frame to a MAC address that nobody has goes nowhere.

use std::collections::BTreeMap;

use smoltcp::wire::EthernetAddress;

use crate::frame::{self, Destination, Refusal, Station};
use crate::subnet::Subnet;

/// A guest's network card, at the switch.
pub type Port = u32;

/// What became of a port's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Frames that the guest sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that the guest was given.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames of the guest that were refused.
    pub refused: u64,
    /// Frames for the guest that were dropped, because it did not take those before.
    pub dropped: u64,
}

/// Who is to have a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// The gateway.
    Gateway,
    /// One guest.
    Port(Port),
    /// Every guest but the sender.
    Others,
    /// Nobody: it is for a station that is not there.
    Nobody,
}

/// The ports of a network.
#[derive(Debug, Default)]
pub struct Switch {
    subnet: Subnet,
    stations: BTreeMap<Port, Station>,
    ports: BTreeMap<EthernetAddress, Port>,
}

impl Switch {
    /// A switch without ports.
    #[must_use]
    pub fn new(subnet: Subnet) -> Self {
        Self {
            subnet,
            ..Self::default()
        }
    }

    /// Adds a port. A MAC address is at one port at a time: `false` if it is at another one already.
    pub fn attach(&mut self, port: Port, station: Station) -> bool {
        if self.ports.contains_key(&station.mac) {
            return false;
        }
        self.ports.insert(station.mac, port);
        self.stations.insert(port, station);
        true
    }

    /// Removes a port.
    pub fn detach(&mut self, port: Port) -> Option<Station> {
        let station = self.stations.remove(&port)?;
        self.ports.remove(&station.mac);
        Some(station)
    }

    /// Who is at a port.
    #[must_use]
    pub fn station(&self, port: Port) -> Option<&Station> {
        self.stations.get(&port)
    }

    /// The port of a MAC address.
    #[must_use]
    pub fn port(&self, mac: EthernetAddress) -> Option<Port> {
        self.ports.get(&mac).copied()
    }

    /// Who is to have a frame that came from `port`.
    ///
    /// # Errors
    /// The frame is not one that the guest at this port may send.
    pub fn targets(&self, port: Port, frame: &[u8]) -> Result<Targets, Refusal> {
        let Some(sender) = self.stations.get(&port) else {
            return Ok(Targets::Nobody);
        };
        Ok(match frame::judge(frame, sender, self.subnet)? {
            Destination::Gateway => Targets::Gateway,
            Destination::Others => Targets::Others,
            Destination::Station(mac) => match self.port(mac) {
                Some(to) if to != port => Targets::Port(to),
                _ => Targets::Nobody,
            },
        })
    }
}
