//! What a network's process needs of the host before it serves: that nobody else does, and whom to ask for names.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddrV4};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use super::ServeError;
use crate::file::FileError;

/// How long one that was just killed or has ended may keep the lock: until the kernel has cleaned up after it.
const HANDOVER: Duration = Duration::from_secs(5);

/// Name of the file in a network's folder whose lock its process holds.
const LOCK: &str = "lock";

/// Makes the folder, opens it, and takes its lock; both.
pub(super) fn take(folder: &Path) -> Result<(File, File), ServeError> {
    fs::create_dir_all(folder).map_err(FileError::io("create", folder))?;
    let opened = File::open(folder).map_err(FileError::io("open", folder))?;
    let path = folder.join(LOCK);
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let lock = openat(&opened, LOCK, flags, Mode::from_raw_mode(0o666))
        .map_err(|errno| FileError::io("open", &path)(errno.into()))?;
    let deadline = Instant::now() + HANDOVER;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok((opened, lock.into())),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(Errno::WOULDBLOCK) => return Err(ServeError::Served(folder.to_owned())),
            Err(errno) => return Err(FileError::io("lock", &path)(errno.into()).into()),
        }
    }
}

/// The host's DNS server: the first one of `/etc/resolv.conf` (resolv.conf(5)) that has an IPv4 address.
pub(super) fn resolver() -> Option<SocketAddrV4> {
    let text = fs::read_to_string("/etc/resolv.conf").ok()?;
    let address = |line: &str| {
        let rest = line.strip_prefix("nameserver")?;
        match rest.trim().parse().ok()? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    };
    let address = text.lines().find_map(address)?;
    Some(SocketAddrV4::new(address, 53))
}
