//! A gateway behind its switch, with one guest and nothing else: frames in, frames out. What fuzzers drive.

use std::io;
use std::net::Ipv4Addr;
use std::time::Instant;

use super::packet::{self, Content};
use super::{Gateway, Station};
use crate::Mac;
use crate::poller::Poller;
use crate::settings::Settings;
use crate::switch::{Switch, Targets};

/// The guest's port at the switch.
const PORT: u32 = 1;

/// A network with one guest.
pub struct Alone {
    switch: Switch,
    gateway: Gateway,
    poller: Poller,
    station: Station,
}

impl Alone {
    /// Who the guest is.
    pub const GUEST: Station = Station {
        mac: Mac([0xa2, 0x13, 0x15, 0, 0x80, 1]),
        address: Ipv4Addr::new(10, 89, 0, 2),
    };

    /// The guest is attached, and has sent nothing yet.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let settings = Settings::default();
        let mut switch = Switch::new(settings.subnet);
        switch.attach(PORT, Self::GUEST);
        Ok(Self {
            switch,
            gateway: Gateway::new("fuzz", &settings, None, 0),
            poller: Poller::new()?,
            station: Self::GUEST,
        })
    }

    /// What the guest is sent for a frame of its own.
    pub fn answer(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let now = Instant::now();
        if let Ok(Targets::Gateway) = self.switch.targets(PORT, frame)
            && !self.leaves(frame)
        {
            self.gateway.receive(frame, &self.station, now, &self.poller);
        }
        self.gateway.poll(now, &self.poller).0
    }

    /// Whether a frame would have the host connect to somebody: a fuzzer must not.
    fn leaves(&self, frame: &[u8]) -> bool {
        match packet::content(frame, self.gateway.subnet) {
            Content::Udp(datagram) => self.gateway.way_out(datagram.to).is_some(),
            Content::Tcp { to, .. } => self.gateway.way_out(to).is_some(),
            Content::Arp { .. } | Content::Icmp | Content::Other => false,
        }
    }
}
