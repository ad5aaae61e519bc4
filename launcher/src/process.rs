//! Processes: QEMU's, which never outlives its launcher, and how one is told from a later one of the same id.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, getppid, pidfd_getfd, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal,
};
use serde::{Deserialize, Serialize};

/// A process, told from any other that ever had or will have its id, also before and after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The id.
    pub pid: u32,
    /// When the process started, in clock ticks since the machine's boot (`proc(5)`, field 22 of `stat`).
    started: u64,
    /// The kernel's name for the machine's boot.
    boot: String,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn own() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            started: Stat::of(pid)?.started,
            boot: boot_id()?,
        })
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn lives(&self) -> bool {
        let same = |stat: Stat| stat.started == self.started && !stat.is_over;
        Stat::of(self.pid).is_ok_and(same) && boot_id().is_ok_and(|boot| boot == self.boot)
    }
}

/// What we need of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// A zombie, or dead.
    is_over: bool,
    /// Clock ticks that it used, in user and in kernel mode.
    pub(crate) cpu: u64,
    started: u64,
}

impl Stat {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field, the program's name in parentheses, can hold anything, parentheses too.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // As proc(5) counts them, from 1; what is split here starts with the third.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |place: usize| field(place)?.parse::<u64>().ok();
        Some(Self {
            is_over: matches!(field(3)?, "Z" | "X" | "x"),
            cpu: number(14)?.checked_add(number(15)?)?,
            started: number(22)?,
        })
    }
}

fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Starts `program` in `folder` with `arguments`, with `inherited` open under their own numbers.
///
/// The process is killed when the *thread* that calls this ends (that is how the kernel defines it), so it has to
/// be one that waits for it.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    errors: File,
    inherited: &[OwnedFd],
) -> io::Result<Child> {
    let launcher = getpid();
    let inherited: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        // Nothing of the user's environment is QEMU's business, least of all LD_LIBRARY_PATH.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        // A group of its own: Ctrl-C on the terminal reaches the launcher alone, which stops QEMU in order.
        .process_group(0);
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(launcher) {
            // It died before it could be watched.
            return Err(io::ErrorKind::NotConnected.into());
        }
        for &fd in &inherited {
            // SAFETY: the caller of `spawn` keeps `fd` open, by reference, until `spawn` returns, which is after the exec.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `prepare` makes plain system calls only; it takes no lock and does not allocate.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// A handle to a process that stays the handle to this very one, even when its id is given to another.
#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// The handle of a child that was not waited for yet.
    pub(crate) fn of(child: &Child) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// The sockets that the process has open, each also open here from now on.
    ///
    /// # Errors
    /// The process is gone, or the system lets nobody look into it.
    pub(crate) fn sockets(&self, pid: u32) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let target = fs::read_link(&path).unwrap_or_default();
            if let Some(number) = number.filter(|_| target.as_os_str().as_bytes().starts_with(b"socket:")) {
                sockets.push(pidfd_getfd(&self.0, number, PidfdGetfdFlags::empty())?);
            }
        }
        Ok(sockets)
    }

    /// Kills the process; one that is dead already stays so.
    pub(crate) fn kill(&self) {
        // Fails only where the process is dead.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_process_whose_name_is_meant_to_confuse() {
        let head = "7 (a) Z 1 (b) c) ";
        let rest = "S 1 7 7 0 -1 4194304 99 0 0 0 11 4 0 0 20 0 1 0 4321 2441216 219";
        let stat = Stat::parse(&format!("{head}{rest}")).unwrap();
        let expected = Stat {
            is_over: false,
            cpu: 15,
            started: 4321,
        };
        assert_eq!(stat, expected);
        let zombie = rest.replacen('S', "Z", 1);
        assert!(Stat::parse(&format!("{head}{zombie}")).unwrap().is_over);
        for text in ["", "7 (a", "7 (a) S 1 2"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_lives_only_under_its_own_start_and_boot() {
        let own = ProcessId::own().unwrap();
        assert!(own.lives());
        let later = ProcessId {
            started: own.started + 1,
            ..own.clone()
        };
        let rebooted = ProcessId {
            boot: "another".to_owned(),
            ..own
        };
        assert!(!later.lives() && !rebooted.lives());

        let mut child = Command::new("true").spawn().unwrap();
        let child_id = ProcessId::of(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!child_id.lives());
    }
}
