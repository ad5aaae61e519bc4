//! When the loader did what. Steps are always noted, which costs nothing, because whether anybody wants to see
//! them is known only in the middle of it; writing to a serial port costs more than all the rest.

use alloc::string::String;
use core::fmt::Write as _;

use hermitage_boot::control::mark;
use hermitage_boot::{BootConfig, Record};

use super::clock;
use super::uart::Uart;

/// Most steps that are kept; there are about ten.
const MAX_STEPS: usize = 16;

/// The steps so far, with the time-stamp counter at each one's end.
pub(crate) struct Timeline {
    start: u64,
    steps: [(&'static str, u64); MAX_STEPS],
    count: usize,
}

impl Timeline {
    /// None so far; `start` is the loader's first moment.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            start,
            steps: [("", 0); MAX_STEPS],
            count: 0,
        }
    }

    /// A step is done.
    pub(crate) fn done(&mut self, step: &'static str) {
        if let Some(slot) = self.steps.get_mut(self.count) {
            *slot = (step, clock::now());
            self.count += 1;
        }
    }

    /// Tells all of it to those who asked: people on the console, the launcher on the control channel.
    pub(crate) fn tell(&self, config: &BootConfig, tsc_khz: u32) {
        let now = clock::now();
        if config.verbose {
            let mut console = Uart::console();
            let micros = |tsc: u64| tsc * 1000 / u64::from(tsc_khz).max(1);
            let steps = &self.steps[..self.count];
            for (step, tsc) in [("start", self.start)].iter().chain(steps) {
                let micros = micros(*tsc);
                let _ = writeln!(
                    console,
                    "[{:6}.{:03} ms] loader: {step}",
                    micros / 1000,
                    micros % 1000
                );
            }
        }
        if config.trace {
            let mut control = Uart::control();
            let mark = |name, tsc| Record::Mark {
                name: String::from(name),
                tsc,
            };
            for record in [
                Record::Khz(tsc_khz),
                mark(mark::LOADER, self.start),
                mark(mark::KERNEL, now),
            ] {
                let _ = write!(control, "{record}");
            }
        }
    }
}
