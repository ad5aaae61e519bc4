//! Instances on disk: `<root>/instances/<name>`, a folder for each.
//!
//! ```text
//! create() -> created -- start --> running <--> paused (disk full)
//!                |                   |   ^
//!                |                   v   |
//!                |              exited, restarting (by its policy)
//!                +------ remove() ---+
//! ```
//!
//! | file | what it is | written by |
//! | --- | --- | --- |
//! | `instance.json` | what the instance is ([`Record`]) | its creation, and who renames it |
//! | `state.json` | what it does ([`State`]) | its supervisor |
//! | `console.log`, `console.log.1`, ... | its console ([`crate::log`]) | its supervisor |
//! | `disk.qcow2` | its disk, an overlay of the image | QEMU |
//! | `lock` | an `flock` on it is held by whoever owns the instance | nobody |
//! | `supervisor.sock` | where the supervisor is talked to ([`crate::service`]) | its supervisor |
//!
//! A folder is there wholly or not at all: it is made and removed under another name, which starts with a dot. The
//! kernel frees the lock with its owner's last breath, so what a killed one left behind never blocks a name. Readers
//! take no lock: files are replaced, not changed, and [`State::now`] sees through what a killed supervisor left.
//!
//! This module owns the folders. Running what is in them is [`crate::lifecycle`]. Start reading at [`Instances`].

mod files;
mod folder;
mod record;
mod restart;
mod state;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use folder::Pinned;
pub use record::{FORMAT, Options, Record};
pub use restart::RestartPolicy;
pub use state::{Phase, State};

pub(crate) use files::{SOCKET, SUPERVISOR};
pub(crate) use folder::Lock;
pub(crate) use restart::Restarts;

use crate::command_line::file;
use crate::error::Error;
use crate::launch::Launch;
use crate::process::ProcessId;
use crate::spec::RunRequest;
use crate::units::InstanceName;

/// Most numbers that are tried for an instance that was given no name.
const MAX_NUMBER: u32 = 10_000;

/// The instances below one root.
#[derive(Clone, Debug)]
pub struct Instances {
    folder: PathBuf,
}

/// An instance as it was seen at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name.
    pub name: InstanceName,
    /// Its folder.
    pub folder: PathBuf,
    /// What it is.
    pub record: Record,
    /// What it does.
    pub state: State,
}

/// An instance that this process owns: nobody else starts, renames or removes it meanwhile.
#[derive(Debug)]
pub struct Instance {
    name: InstanceName,
    folder: PathBuf,
    record: Record,
    state: State,
    lock: Lock,
}

impl Instances {
    /// The instances below `root`. Nothing is made.
    ///
    /// # Errors
    /// The current folder, from which a relative `root` starts, is gone.
    pub fn below(root: &Path) -> Result<Self, Error> {
        // Absolute, because QEMU runs in the folders of instances.
        let root = std::path::absolute(root).map_err(Error::io("find", root))?;
        Ok(Self {
            folder: root.join("instances"),
        })
    }

    /// Creates the instance that `launch` was planned for.
    ///
    /// # Errors
    /// There is one of that name; files cannot be written.
    pub fn create(&self, launch: &Launch, options: Options) -> Result<Instance, Error> {
        let record = Record::new(launch, options);
        let name = record.request.name.clone();
        let state = State::created();
        let folder = self.folder.join(name.as_str());
        let mut new = folder::New::make(&self.folder, &record, &state)?;
        loop {
            new = match new.publish(&folder)? {
                Ok(lock) => {
                    return Ok(Instance {
                        name,
                        folder,
                        record,
                        state,
                        lock,
                    });
                }
                Err(new) => new,
            };
            let there = match self.open(&name) {
                Ok(there) => there,
                // It was removed meanwhile.
                Err(Error::NoInstance { .. }) => continue,
                Err(error) => return Err(error),
            };
            if !there.is_leftover() {
                return Err(Error::Exists { name });
            }
            there.remove()?;
        }
    }

    /// Removes an instance that has ended, if there is one of this name.
    ///
    /// # Errors
    /// It runs; its files cannot be removed.
    pub fn make_room(&self, name: &InstanceName) -> Result<(), Error> {
        match self.discard(name) {
            Err(Error::NoInstance { .. }) => Ok(()),
            done => done,
        }
    }

    /// Removes an instance that does not run, even one whose files are damaged.
    ///
    /// # Errors
    /// There is none; it runs; its files cannot be removed.
    pub fn discard(&self, name: &InstanceName) -> Result<(), Error> {
        let folder = self.folder.join(name.as_str());
        let lock = self.lock(name)?;
        folder::remove(&folder, lock)
    }

    /// The first of `name`, `name-2`, `name-3` and so on that is free at this moment.
    #[must_use]
    pub fn free_name(&self, name: &InstanceName) -> InstanceName {
        let numbered = |number| match number {
            1 => name.clone(),
            _ => name.numbered(number),
        };
        let is_free = |name: &InstanceName| match self.see(name) {
            Err(Error::NoInstance { .. }) => true,
            Ok(seen) => seen.is_leftover(),
            Err(_) => false,
        };
        let mut names = (1..MAX_NUMBER).map(numbered);
        names.find(is_free).unwrap_or_else(|| name.clone())
    }

    /// Takes an instance that nobody else owns.
    ///
    /// # Errors
    /// There is none; it runs; its files are damaged.
    pub fn open(&self, name: &InstanceName) -> Result<Instance, Error> {
        let lock = self.lock(name)?;
        self.take(name, lock)
    }

    /// The instance whose lock this is.
    pub(crate) fn take(&self, name: &InstanceName, lock: Lock) -> Result<Instance, Error> {
        let folder = self.folder.join(name.as_str());
        Ok(Instance {
            name: name.clone(),
            record: Record::read(&folder)?,
            state: State::now(&folder)?,
            folder,
            lock,
        })
    }

    /// Looks at an instance.
    ///
    /// # Errors
    /// There is none; its files are damaged.
    pub fn see(&self, name: &InstanceName) -> Result<Seen, Error> {
        let folder = self.folder.join(name.as_str());
        let absent = |error: Error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                Error::NoInstance { name: name.clone() }
            }
            error => error,
        };
        Ok(Seen {
            record: Record::read(&folder).map_err(absent)?,
            state: State::now(&folder).map_err(absent)?,
            name: name.clone(),
            folder,
        })
    }

    /// The names of all instances, sorted; one may be gone when it is looked at.
    ///
    /// # Errors
    /// The folder cannot be read. That there is none yet is no error.
    pub fn names(&self) -> Result<Vec<InstanceName>, Error> {
        let fault = Error::io("read", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries
                .and_then(Iterator::collect::<io::Result<Vec<_>>>)
                .map_err(fault)?,
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut names: Vec<_> = entries.into_iter().filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Gives an instance that does not run another name; of one that does, [`crate::service::rename`] asks its supervisor.
    /// Its disk, MAC address and log stay.
    ///
    /// # Errors
    /// There is none; it runs; the name is taken.
    pub fn rename(&self, from: &InstanceName, to: &InstanceName) -> Result<(), Error> {
        self.open(from)?.rename(to)
    }

    fn lock(&self, name: &InstanceName) -> Result<Lock, Error> {
        let folder = self.folder.join(name.as_str());
        let deadline = Instant::now() + LETTING_GO;
        loop {
            let error = match folder::lock(&folder, name) {
                Err(Error::Running { .. }) => {
                    let state = State::now(&folder).ok();
                    let ended = state.as_ref().is_some_and(|state| !state.phase.is_supervised());
                    if ended && Instant::now() < deadline {
                        // A lock of another process is no event that one can wait for until a deadline.
                        thread::sleep(LOCK_PERIOD);
                        continue;
                    }
                    Error::Running {
                        name: name.clone(),
                        holder: state.and_then(|state| state.supervisor),
                    }
                }
                Err(error) => error,
                Ok(lock) => return Ok(lock),
            };
            return Err(error);
        }
    }
}

impl Seen {
    /// Whether it was to be removed at its end, and whoever had to do that was killed.
    #[must_use]
    pub fn is_leftover(&self) -> bool {
        self.record.options.remove && is_over(&self.state)
    }
}

/// Whether nobody starts or supervises an instance.
fn is_over(state: &State) -> bool {
    match state.phase {
        Phase::Exited => true,
        Phase::Created => !state.supervisor.as_ref().is_some_and(ProcessId::lives),
        Phase::Running | Phase::Paused | Phase::Restarting => false,
    }
}

impl Instance {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &InstanceName {
        &self.name
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root below which it lies: `<root>/instances/<name>`.
    pub(crate) fn root(&self) -> &Path {
        self.folder.ancestors().nth(2).unwrap_or(&self.folder)
    }

    /// What it is.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What it does.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What its machine is planned from.
    #[must_use]
    pub fn request(&self) -> RunRequest {
        RunRequest {
            name: self.name.clone(),
            ..self.record.request.clone()
        }
    }

    /// Gives it another name.
    pub(crate) fn rename(&mut self, to: &InstanceName) -> Result<(), Error> {
        let target = self.folder.with_file_name(to.as_str());
        // The folder's name is what counts: if we are killed between the two, `start` takes that.
        folder::rename(&self.folder, &target, to)?;
        self.folder = target;
        self.name = to.clone();
        self.record.request.name = to.clone();
        let path = self.folder.join(files::RECORD);
        files::write_json(&path, &self.record).map_err(Error::io("write", path))
    }

    /// Removes it, with all its files.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        folder::remove(&self.folder, self.lock)
    }

    /// Gives up the instance, but not its lock.
    pub(crate) fn into_lock(self) -> Lock {
        self.lock
    }

    /// Changes the state, and writes it, on a full disk at the cost of the reserve.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        change(&mut self.state);
        let path = self.folder.join(files::STATE);
        let mut written = files::write_json(&path, &self.state);
        if written
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        {
            // Where it is gone already, the next attempt fails as this one did.
            let _ = files::release(&self.folder);
            written = files::write_json(&path, &self.state);
        }
        written.map_err(Error::io("write", path))
    }

    /// Sets room aside on the disk for the moment in which it is full. That there is none is no reason not to start.
    pub(crate) fn reserve(&self) {
        let _ = files::reserve(&self.folder);
    }

    fn is_leftover(&self) -> bool {
        // We own it, so nobody else supervises it.
        self.record.options.remove
    }
}

/// How long an instance that has ended may take to be let go of: its supervisor writes the end down first.
const LETTING_GO: Duration = Duration::from_secs(1);

/// How often its lock is tried meanwhile.
const LOCK_PERIOD: Duration = Duration::from_millis(1);

/// The instances whose disks are overlays of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Names of those that run, sorted.
    pub running: Vec<String>,
    /// Names of those that do not, sorted.
    pub stopped: Vec<String>,
}

/// The instances below `root` whose disks are overlays of an image. An instance may end, and another one start, at any
/// moment, unless the caller holds the image's lock: then none starts.
#[must_use]
pub fn instances_on(root: &Path, image: &Path) -> Users {
    let mut users = Users::default();
    let (Ok(image), Ok(instances)) = (fs::canonicalize(image), Instances::below(root)) else {
        return users;
    };
    let backing = |name: &InstanceName| {
        let disk = instances.folder.join(name.as_str()).join(file::DISK);
        fs::canonicalize(hermitage_disk::qcow2::backing_file(&disk).ok()??).ok()
    };
    for name in instances.names().unwrap_or_default() {
        if backing(&name).as_ref() != Some(&image) {
            continue;
        }
        let runs = |seen: Seen| seen.state.phase.is_supervised();
        if instances.see(&name).is_ok_and(runs) {
            users.running.push(name.to_string());
        } else {
            users.stopped.push(name.to_string());
        }
    }
    users
}

#[cfg(test)]
mod tests;
