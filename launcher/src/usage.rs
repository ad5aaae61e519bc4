//! What an instance uses of this host: its QEMU's time on the CPUs, memory, and the traffic of its tap device.
//!
//! A LAN's process counts the traffic of its guests ([`hermitage_network`]). QEMU counts none of its user network: there
//! the guest is asked ([`crate::service::traffic`]), and may say what it likes.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use serde::{Deserialize, Serialize};

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
    /// What went over its tap device, where it has one.
    pub traffic: Option<Traffic>,
}

/// What a guest received and sent since its network card is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of the frames that it was given.
    pub received: u64,
    /// Bytes of the frames that it sent.
    pub sent: u64,
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
        let traffic = traffic(process.pid);
        // What was read may be another's, if the process ended before.
        if !process.lives() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            at,
            cpu: Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)),
            resident: resident(&status).unwrap_or_default(),
            traffic,
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

/// What went over the tap device that a process has open, in the process's own network namespace.
fn traffic(pid: u32) -> Option<Traffic> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    // `drivers/net/tun.c` of Linux tells the device's name there.
    let device = files.filter_map(Result::ok).find_map(|file| {
        let facts = fs::read_to_string(file.path()).ok()?;
        let name = facts.lines().find_map(|line| line.strip_prefix("iff:\t"))?;
        Some(name.to_owned())
    })?;
    device_traffic(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?, &device)
}

/// A tap device's line of `/proc/PID/net/dev`: `name:`, eight numbers of what the host received from it, eight of what
/// the host sent to it, bytes first (proc(5)).
fn device_traffic(devices: &str, name: &str) -> Option<Traffic> {
    let numbers = devices
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let mut numbers = numbers.split_whitespace().map(str::parse);
    let sent = numbers.next()?.ok()?;
    let received = numbers.nth(7)?.ok()?;
    Some(Traffic { received, sent })
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

    #[test]
    fn what_the_host_sent_to_a_device_is_what_its_guest_received() {
        let devices = "Inter-|   Receive                  |  Transmit\n face |bytes packets ...\n    \
            lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
            hermit1: 11 2 0 0 0 0 0 0 22 4 0 0 0 0 0 0\n\
            hermit10: 5 2 0 0 0 0 0 0 6 4 0 0 0 0 0 0\n";
        let traffic = device_traffic(devices, "hermit1");
        assert_eq!(
            traffic,
            Some(Traffic {
                received: 22,
                sent: 11
            })
        );
        assert_eq!(device_traffic(devices, "hermit"), None);
        assert_eq!(device_traffic("hermit: 1 2 x", "hermit"), None);
    }
}
