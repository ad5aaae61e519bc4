//! What an instance uses of this host: its QEMU's time on the CPUs and memory.
//!
//! Not its network traffic: QEMU counts none of its user network that could be read.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;

use crate::process::{ProcessId, Stat};

/// What a process has used until one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// When this was looked up.
    pub at: Instant,
    /// Time on the CPUs since its start, in user and in kernel mode; exact to a clock tick, 10 ms.
    pub cpu: Duration,
    /// Bytes of memory that it has resident: QEMU's own, and what the guest has touched.
    pub resident: u64,
}

impl Usage {
    /// Looks at a process.
    ///
    /// # Errors
    /// It is gone.
    pub fn of(process: &ProcessId) -> io::Result<Self> {
        let at = Instant::now();
        let ticks = Stat::of(process.pid)?.cpu;
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
        // What was read may be another's, if the process ended before.
        if !process.lives() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            at,
            cpu: Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)),
            resident: resident(&status).unwrap_or_default(),
        })
    }

    /// The share of one CPU that was used since `earlier`; 2.0 is two CPUs.
    #[must_use]
    pub fn cpus_since(&self, earlier: &Self) -> f64 {
        let time = self.at.duration_since(earlier.at).as_secs_f64();
        let used = self.cpu.saturating_sub(earlier.cpu).as_secs_f64();
        if time > 0.0 { used / time } else { 0.0 }
    }
}

/// Bytes that `/proc/PID/status` says are resident: `VmRSS:   12345 kB`.
fn resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_is_seen_to() {
        let own = ProcessId::own().unwrap();
        let before = Usage::of(&own).unwrap();
        assert!(before.resident > 1 << 20);
        let after = loop {
            let now = Usage::of(&own).unwrap();
            if now.cpu >= before.cpu + Duration::from_millis(50) {
                break now;
            }
        };
        assert!(after.cpus_since(&before) > 0.0);
        assert_eq!(after.cpus_since(&after), 0.0);
    }

    #[test]
    fn reads_what_is_resident() {
        let status = "Name:\tqemu\nVmSize:\t  999 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(resident(status), Some(12 * 1024));
        assert_eq!(resident("Name:\tzombie\n"), None);
    }
}
