//! An instance in a process of its own, which outlives the one that started it.
//!
//! The program starts itself once more, or another one, with [`hand_over`]; there, [`adopt`] comes first. The lock is
//! handed on open, so that nobody can take the instance meanwhile.
//!
//! | descriptor of the new process | is |
//! | --- | --- |
//! | 0 | the instance's lock |
//! | 1 | a pipe to the one who waits: a line when the guest runs, or the end without one |
//! | 2 | that of the one who waits, for errors, until the guest runs; then `supervisor.log` |

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;

use crate::environment;
use crate::error::Error;
use crate::instance::{Instance, Instances, Lock, SUPERVISOR};
use crate::units::InstanceName;

/// What is said when the guest runs.
const READY: &[u8] = b"running\n";

/// How a handover ended.
#[derive(Debug)]
pub enum Handover {
    /// The guest runs.
    Running,
    /// The other process ended before, with this code; it has said why on stderr.
    Failed(Option<i32>),
}

/// Hands `instance`, which lies below `root`, to a process of its own: `command`, in a session of its own, with little
/// of this one's environment. Waits until the guest runs, or cannot.
///
/// # Errors
/// The process cannot be started.
pub fn hand_over(instance: Instance, root: &Path, mut command: Command) -> Result<Handover, Error> {
    let fault = |source| Error::Process {
        step: "start the instance's supervisor",
        source,
    };
    let root = std::path::absolute(root).map_err(fault)?;
    let folder = instance.folder().to_owned();
    command
        .current_dir(folder)
        .env_clear()
        .env(environment::ROOT, root)
        .env(environment::PATH, environment::path())
        .stdin(Stdio::from(instance.into_lock().0))
        .stdout(Stdio::piped());
    let others = open_files().map_err(fault)?;
    let prepare = move || {
        // Neither the terminal's Ctrl-C nor its end reach it.
        rustix::process::setsid()?;
        for &fd in &others {
            // SAFETY: the number is used for this one call, which fails where no file has it; the standard library's own
            // files are closed by the exec anyway.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        Ok(())
    };
    // SAFETY: between fork and exec `prepare` makes plain system calls only; it takes no lock and does not allocate.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.spawn().map_err(fault)?;
    if is_ready(&mut child).map_err(fault)? {
        return Ok(Handover::Running);
    }
    let status = child.wait().map_err(fault)?;
    Ok(Handover::Failed(status.code()))
}

fn is_ready(child: &mut Child) -> io::Result<bool> {
    let Some(output) = child.stdout.take() else {
        return Ok(false);
    };
    let mut line = Vec::new();
    BufReader::new(output).read_until(b'\n', &mut line)?;
    Ok(line == READY)
}

/// Takes over the instance `name` below `root`, whose lock is this process's stdin. It has to come first in `main`.
///
/// # Errors
/// Its files are damaged; stdin is no lock.
pub fn adopt(root: &Path, name: &InstanceName) -> Result<Instance, Error> {
    let fault = |source| Error::Process {
        step: "take over the instance",
        source,
    };
    let lock = io::stdin().as_fd().try_clone_to_owned().map_err(fault)?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(fault)?;
    rustix::stdio::dup2_stdin(null).map_err(|errno| fault(errno.into()))?;
    Instances::below(root)?.take(name, Lock(File::from(lock)))
}

/// Tells the one who waits that the guest runs, and lets go of its terminal. `folder` is the instance's; it may have
/// ended, and be gone.
///
/// # Errors
/// There is no `/dev/null`.
pub fn let_go(folder: &Path) -> Result<(), Error> {
    // Who waited may have been killed; the guest runs.
    let _ = io::stdout().write_all(READY).and_then(|()| io::stdout().flush());
    let log = || File::create(folder.join(SUPERVISOR)).or_else(|_| File::create("/dev/null"));
    let let_go = || {
        let log = log()?;
        rustix::stdio::dup2_stdout(&log)?;
        rustix::stdio::dup2_stderr(&log)?;
        Ok(())
    };
    let_go().map_err(|source| Error::Process {
        step: "let go of the terminal",
        source,
    })
}

/// The files, beside the three of every process, that this one has open. Whoever started it may have left some open by
/// mistake, and a pipe that ends with its last writer would never end.
fn open_files() -> io::Result<Vec<RawFd>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let number: Option<RawFd> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        files.extend(number.filter(|&fd| fd > 2));
    }
    Ok(files)
}
