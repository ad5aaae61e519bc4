//! Who is up: a guest that answers an ARP request (RFC 826) at its address hears what is sent there.
//!
//! A guest that was just told its address takes a moment to put it on, and what comes in that moment is lost: for TCP a
//! second until the SYN is sent again. So it is asked, often at first, and what leads to it is opened by its answer.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::packet;
use crate::frame::Station;

/// The first wait for an answer; it doubles with each question.
const FIRST: Duration = Duration::from_millis(1);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Question {
    station: Station,
    again: Instant,
    wait: Duration,
}

/// The guests that are asked.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    questions: BTreeMap<Ipv4Addr, Question>,
}

impl Arrivals {
    /// Asks a guest from now on.
    pub(super) fn ask(&mut self, station: Station, now: Instant) {
        let question = Question {
            station,
            again: now,
            wait: FIRST,
        };
        self.questions.insert(station.address, question);
    }

    /// Asks a guest no longer.
    pub(super) fn forget(&mut self, address: Ipv4Addr) {
        self.questions.remove(&address);
    }

    /// The questions that are due, and when to come again.
    pub(super) fn poll(
        &mut self,
        gateway: Ipv4Addr,
        now: Instant,
        out: &mut Vec<Vec<u8>>,
    ) -> Option<Duration> {
        for question in self
            .questions
            .values_mut()
            .filter(|question| question.again <= now)
        {
            out.push(packet::arp_question(&question.station, gateway));
            question.again = now + question.wait;
            question.wait = (question.wait * 2).min(LONGEST);
        }
        let next = self.questions.values().map(|question| question.again).min()?;
        Some(next.saturating_duration_since(now))
    }
}
