//! QEMU as a process: it never outlives its launcher, and is never confused with another.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

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

    /// Kills the process; one that is dead already stays so.
    pub(crate) fn kill(&self) {
        // Fails only where the process is dead.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}
