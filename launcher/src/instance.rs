//! An instance's folder, `<root>/instances/<name>`: its disk, its logs, its lock.
//!
//! The lock is an `flock` on the file `lock`, held by the launcher as long as the instance runs. The kernel frees
//! it with the launcher's last breath, so what a killed launcher left behind never blocks a name; the next run
//! of that name cleans it up. The process id in the file is for messages alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{FlockOperation, flock};

use crate::command_line::file;
use crate::error::Error;
use crate::units::InstanceName;

/// Name of the lock's file.
const LOCK: &str = "lock";

/// How often taking the lock is tried again when the folder vanishes meanwhile, which happens once for each run
/// of the same name that ends at that moment.
const ATTEMPTS: usize = 100;

/// An instance's folder, locked. Dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct Instance {
    folder: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Instance {
    /// Makes the folder and takes its lock.
    pub(crate) fn create(root: &Path, name: &InstanceName) -> Result<Self, Error> {
        // Absolute, because QEMU runs inside it.
        let folder = std::path::absolute(root)
            .map_err(Error::io("find", root))?
            .join("instances")
            .join(name.as_str());
        let mut lock = Self::lock(&folder, name)?;
        // From here on the folder is ours, and removed when this value is dropped.
        let clean = clean(&folder).map_err(Error::io("clean up", &folder));
        let write = lock
            .set_len(0)
            .and_then(|()| write!(lock, "{}", process::id()))
            .map_err(Error::io("write", folder.join(LOCK)));
        let instance = Self { folder, _lock: lock };
        clean.and(write).map(|()| instance)
    }

    /// The folder, as an absolute path.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock(folder: &Path, name: &InstanceName) -> Result<File, Error> {
        let path = folder.join(LOCK);
        for _ in 0..ATTEMPTS {
            // Consoles and disks are their owner's business alone.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(Error::io("create", folder))?;
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            let mut lock = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(Error::io("open", &path))?,
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut holder = String::new();
                    // Only a message depends on it.
                    let _ = lock.read_to_string(&mut holder);
                    let name = name.clone();
                    return Err(Error::Running { name, holder });
                }
                Err(errno) => return Err(Error::io("lock", path)(errno.into())),
            }
            // The last run may have removed the folder after we opened its file.
            if is_still_there(&lock, &path) {
                return Ok(lock);
            }
        }
        Err(Error::io("lock", path)(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The lock's file last: from then on the folder may be the next run's, and is not empty then. What cannot
        // be removed is cleaned up by the next run of this name.
        let _ = clean(&self.folder)
            .and_then(|()| fs::remove_file(self.folder.join(LOCK)))
            .and_then(|()| fs::remove_dir(&self.folder));
    }
}

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
    let Ok(image) = fs::canonicalize(image) else {
        return users;
    };
    let entries = fs::read_dir(root.join("instances"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let folder = entry.path();
        let backing = hermitage_disk::qcow2::backing_file(&folder.join(file::DISK));
        let backing = backing
            .ok()
            .flatten()
            .and_then(|path| fs::canonicalize(path).ok());
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if backing.as_ref() != Some(&image) {
            continue;
        }
        match is_locked(&folder.join(LOCK)) {
            true => users.running.push(name),
            false => users.stopped.push(name),
        }
    }
    users.running.sort_unstable();
    users.stopped.sort_unstable();
    users
}

/// Whether a launcher that lives holds a lock. One that nobody holds is taken for a moment, in a folder that a killed
/// launcher left.
fn is_locked(path: &Path) -> bool {
    let lock = |file| flock(&file, FlockOperation::NonBlockingLockShared);
    File::open(path).is_ok_and(|file| lock(file) == Err(rustix::io::Errno::WOULDBLOCK))
}

fn is_still_there(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => identity(ours) == identity(there),
        _ => false,
    }
}

/// Removes all but the lock.
fn clean(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> InstanceName {
        "kv".parse().unwrap()
    }

    #[test]
    fn refuses_a_second_run_of_a_name_and_names_the_first() {
        let root = tempfile::tempdir().unwrap();
        let first = Instance::create(root.path(), &name()).unwrap();
        let error = Instance::create(root.path(), &name()).unwrap_err().to_string();
        assert!(error.contains("`kv`"), "{error}");
        assert!(error.contains(&process::id().to_string()), "{error}");
        assert!(Instance::create(root.path(), &"db".parse().unwrap()).is_ok());
        drop(first);
        assert!(Instance::create(root.path(), &name()).is_ok());
    }

    #[test]
    fn leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let instance = Instance::create(root.path(), &name()).unwrap();
        fs::write(instance.folder().join("console.log"), "x").unwrap();
        let folder = instance.folder().to_owned();
        drop(instance);
        assert!(!folder.exists());
    }

    #[test]
    fn names_the_instances_on_an_image_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let images = ["one", "two"].map(|name| root.path().join(name));
        for image in &images {
            hermitage_disk::qcow2::Qcow2::create(image, 1 << 20).unwrap();
        }
        let start = |name: &str, image: &Path| {
            let instance = Instance::create(root.path(), &name.parse().unwrap()).unwrap();
            hermitage_disk::create_overlay(image, &instance.folder().join(file::DISK)).unwrap();
            instance
        };
        let first = [
            start("kv", &images[0]),
            start("a", &images[0]),
            start("b", &images[1]),
        ];
        // What a killed launcher left runs no more.
        let left = root.path().join("instances/left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "4194305").unwrap();
        hermitage_disk::create_overlay(&images[0], &left.join(file::DISK)).unwrap();
        let users = instances_on(root.path(), &images[0]);
        assert_eq!(
            (users.running, users.stopped),
            (vec!["a".to_owned(), "kv".to_owned()], vec!["left".to_owned()])
        );
        let users = instances_on(root.path(), &images[1]);
        assert_eq!((users.running, users.stopped), (vec!["b".to_owned()], vec![]));
        drop(first);
        assert!(instances_on(root.path(), &images[0]).running.is_empty());
        assert_eq!(
            instances_on(&root.path().join("nothing"), &images[0]),
            Users::default()
        );
    }

    #[test]
    fn cleans_up_after_a_killed_launcher() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("instances/kv");
        fs::create_dir_all(folder.join("more")).unwrap();
        fs::write(folder.join("disk.qcow2"), "stale").unwrap();
        fs::write(folder.join(LOCK), "4194305").unwrap();
        let instance = Instance::create(root.path(), &name()).unwrap();
        let left: Vec<_> = fs::read_dir(instance.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [LOCK]);
        assert_eq!(
            fs::read_to_string(folder.join(LOCK)).unwrap(),
            process::id().to_string()
        );
    }

    #[test]
    fn many_runs_of_one_name_never_share_it() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let root = tempfile::tempdir().unwrap();
        let (inside, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let run = || {
            while runs.load(SeqCst) < 100 {
                let Ok(instance) = Instance::create(root.path(), &name()) else {
                    continue;
                };
                assert_eq!(inside.fetch_add(1, SeqCst), 0);
                // Many files, so that their removal takes a while.
                let files = (0..64).map(|n| instance.folder().join(n.to_string()));
                files.clone().for_each(|file| fs::write(file, "").unwrap());
                std::thread::yield_now();
                assert!(files.clone().all(|file| file.exists()));
                assert!(instance.folder().join(LOCK).exists());
                inside.fetch_sub(1, SeqCst);
                runs.fetch_add(1, SeqCst);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(run);
            }
        });
    }
}
