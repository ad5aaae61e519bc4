//! Folders of instances: made, locked, renamed and removed so that nobody ever sees half of one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::files;
use super::record::Record;
use super::state::State;
use crate::error::Error;
use crate::units::InstanceName;

/// How a folder's name starts that is being made or removed, which no instance's does; the id of the process that does
/// so follows. What it leaves when it is killed is removed by the next creation.
const UNFINISHED: &str = ".unfinished-";

/// The lock of an instance, held until this value and its duplicates in other processes are gone.
#[derive(Debug)]
pub(crate) struct Lock(pub(crate) File);

/// A folder that is being filled. Dropped before it is published, it is removed.
#[derive(Debug)]
pub(super) struct New {
    folder: PathBuf,
    /// None when it is published.
    lock: Option<Lock>,
}

impl New {
    /// Makes a folder in `instances`, locks it, and writes the instance's first files.
    pub(super) fn make(instances: &Path, record: &Record, state: &State) -> Result<Self, Error> {
        // Consoles and disks are their owner's business alone.
        let private = |recursive, folder: &Path| {
            let made = DirBuilder::new().recursive(recursive).mode(0o700).create(folder);
            made.map_err(Error::io("create", folder))
        };
        private(true, instances)?;
        sweep(instances);
        let folder = unfinished(instances);
        private(false, &folder)?;
        let mut new = Self { folder, lock: None };
        let path = new.folder.join(files::LOCK);
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| Error::io("lock", &path)(errno.into()))?;
        new.lock = Some(Lock(file));
        let write = |name: &str, written: &dyn Fn(&Path) -> io::Result<()>| {
            let path = new.folder.join(name);
            written(&path).map_err(Error::io("write", path))
        };
        write(files::RECORD, &|path| files::write_new_json(path, record))?;
        write(files::STATE, &|path| files::write_new_json(path, state))?;
        Ok(new)
    }

    /// Gives the folder its name, if there is no other of that name.
    pub(super) fn publish(mut self, folder: &Path) -> Result<Result<Lock, Self>, Error> {
        // An instance's folder is never empty, so that this replaces nothing.
        match fs::rename(&self.folder, folder) {
            Ok(()) => match self.lock.take() {
                Some(lock) => Ok(Ok(lock)),
                None => unreachable!("`make` has locked it"),
            },
            Err(error) if is_taken(&error) => Ok(Err(self)),
            Err(error) => Err(Error::io("create", folder)(error)),
        }
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What stays is swept when this process is gone.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A folder, by a path that stays right when the folder is renamed, and is short however long its own is: that of a
/// socket may have 107 bytes.
#[derive(Debug)]
pub struct Pinned(File);

impl Pinned {
    /// Opens a folder.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(folder: &Path) -> io::Result<Self> {
        File::open(folder).map(Self)
    }

    /// The path, in this process, as long as this value lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Takes the lock of the instance in `folder`.
pub(super) fn lock(folder: &Path, name: &InstanceName) -> Result<Lock, Error> {
    let path = folder.join(files::LOCK);
    loop {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoInstance { name: name.clone() });
            }
            opened => opened.map_err(Error::io("open", &path))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Running {
                    name: name.clone(),
                    holder: None,
                });
            }
            Err(errno) => return Err(Error::io("lock", path)(errno.into())),
        }
        // It may have been removed, and another one made, after we opened the file.
        if is_still_there(&file, &path) {
            return Ok(Lock(file));
        }
    }
}

/// Gives a folder another name, whose owner calls this.
pub(super) fn rename(folder: &Path, target: &Path, name: &InstanceName) -> Result<(), Error> {
    fs::rename(folder, target).map_err(|error| {
        if is_taken(&error) {
            return Error::Exists { name: name.clone() };
        }
        Error::io("rename", folder)(error)
    })
}

/// Removes a folder, whose owner calls this: at once for everybody else.
pub(super) fn remove(folder: &Path, lock: Lock) -> Result<(), Error> {
    let unfinished = unfinished(folder.parent().unwrap_or(folder));
    fs::rename(folder, &unfinished).map_err(Error::io("remove", folder))?;
    let removed = fs::remove_dir_all(&unfinished);
    drop(lock);
    removed.map_err(Error::io("remove", unfinished))
}

/// A new name for a folder that is not to be seen.
fn unfinished(instances: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    instances.join(format!("{UNFINISHED}{}-{number}", process::id()))
}

/// Removes what processes left that were killed. Nothing depends on it, but the room on the disk.
fn sweep(instances: &Path) {
    for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED));
        let pid = maker.and_then(|maker| maker.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

fn is_still_there(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => identity(ours) == identity(there),
        _ => false,
    }
}
