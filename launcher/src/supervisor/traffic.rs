//! What a guest says of the traffic of its network card, when it is asked.
//!
//! The guest may be hostile: whatever it answers are two numbers, an answer that nobody asked for is as good as any, and
//! one that does not come is not waited for.

use std::io::Write as _;
use std::mem;
use std::time::{Duration, Instant};

use hermitage_boot::control::Request;

use super::Shared;
use crate::usage::Traffic;

/// How long a guest may take to answer. It does so in an interrupt; where the host is busy, its CPU has to come to its turn
/// first.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was asked, and what was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Whether the guest has said that it answers.
    pub(super) answers: bool,
    /// Whether it was asked and has not answered.
    is_asked: bool,
    /// How often it has answered.
    count: u64,
    last: Option<Traffic>,
}

impl Heard {
    /// The guest has answered.
    pub(super) fn take(&mut self, traffic: Traffic) {
        self.is_asked = false;
        self.count = self.count.wrapping_add(1);
        self.last = Some(traffic);
    }
}

impl Shared {
    /// Asks the guest what went over its network card, if it has said that it answers that.
    pub(crate) fn ask_for_traffic(&self) -> Option<Traffic> {
        let (count, is_asked) = {
            let heard = &mut self.state().traffic;
            if !heard.answers {
                return None;
            }
            // Who has not answered is not asked again: what a guest does not read fills the socket, and then we would wait.
            (heard.count, mem::replace(&mut heard.is_asked, true))
        };
        if !is_asked {
            let question = Request::Traffic.to_string();
            (&self.control).write_all(question.as_bytes()).ok()?;
        }
        let deadline = Instant::now().checked_add(PATIENCE);
        let answer = self.wait_until(deadline, |state| {
            let is_new = state.traffic.count != count;
            (is_new || state.exit.is_some()).then_some(state.traffic.last.filter(|_| is_new))
        });
        answer.flatten()
    }
}
