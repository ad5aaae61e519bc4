//! The lock on an image: whoever runs it and whoever changes it keep out of each other's way.
//!
//! | who | takes |
//! | --- | --- |
//! | runs the image, or keeps something that depends on it | [`share`]; many may |
//! | writes into it, removes it, gives it another name | [`exclude`]; one, while nobody shares it |
//! | puts a new file in its place | nothing: who has the old file open keeps it |
//!
//! It is an `flock` on the image's own file, so there is nothing to clean up: the kernel frees it with the last process
//! that holds it, however that ends. QEMU's locks on the images that it opens are of another kind, which `flock` does
//! not see. [`exclude`] asks for those, too, so that a machine which was started without the launcher counts.
//!
//! A path may be given to another file at any moment. Both functions make sure that the file which they locked is the one
//! that the path names, and it keeps that name as long as all others that rename and remove take the lock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

use crate::error::Error;

/// How long [`share`] waits for one who excludes others: an update takes milliseconds, that of an image of gigabytes
/// some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks again meanwhile. The kernel could wait by itself, but not for a limited time.
const PAUSE: Duration = Duration::from_millis(10);

/// A lock on an image, held until it is dropped or the process ends.
#[derive(Debug)]
#[must_use = "a lock that is dropped is held no more"]
pub struct Lock {
    _file: File,
}

/// Takes the lock of those who use an image as it is. Waits some seconds for one who is changing it.
///
/// # Errors
/// The file cannot be opened, or somebody keeps it to himself.
pub fn share(path: &Path) -> Result<Lock, Error> {
    share_within(path, PATIENCE)
}

fn share_within(path: &Path, patience: Duration) -> Result<Lock, Error> {
    let deadline = Instant::now() + patience;
    loop {
        let file = File::open(path).map_err(open(path))?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) if names(path, &file) => return Ok(Lock { _file: file }),
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(PAUSE),
            Err(errno) => return Err(cannot_lock(path, errno)),
        }
        if Instant::now() >= deadline {
            return Err(Error::BeingChanged {
                path: path.to_owned(),
            });
        }
    }
}

/// Takes the lock of one who changes an image, removes it or renames it. Does not wait.
///
/// # Errors
/// The file cannot be opened for writing, or somebody uses it.
pub fn exclude(path: &Path) -> Result<Lock, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let opened = File::options().read(true).write(true).open(path);
        let file = opened.map_err(open(path))?;
        // The second one is a record lock, which the system frees when this process closes the file anywhere. That is no
        // harm: QEMU takes its own locks when it starts, and the launcher has the first one by then.
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
        match locked {
            Ok(()) if names(path, &file) => return Ok(Lock { _file: file }),
            // Somebody gave the path to another file; whoever does that again and again has to stop first.
            Ok(()) if Instant::now() < deadline => {}
            Ok(()) | Err(Errno::AGAIN | Errno::ACCESS) => {
                return Err(Error::InUse {
                    path: path.to_owned(),
                });
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(cannot_lock(path, errno)),
        }
    }
}

/// Whether a path still names the file that was opened there.
fn names(path: &Path, file: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(there)) => identity(opened) == identity(there),
        _ => false,
    }
}

fn open(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Open {
        path: path.to_owned(),
        source,
    }
}

fn cannot_lock(path: &Path, errno: Errno) -> Error {
    Error::Io {
        action: "lock",
        path: path.to_owned(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kv.qcow2");
        fs::write(&path, "image").unwrap();
        (folder, path)
    }

    #[test]
    fn many_share_it_and_nobody_excludes_them() {
        let (_folder, path) = image();
        let shared = [share(&path).unwrap(), share(&path).unwrap()];
        let error = exclude(&path).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        let [first, second] = shared;
        drop(first);
        assert!(exclude(&path).is_err());
        drop(second);
        drop(exclude(&path).unwrap());
    }

    #[test]
    fn who_shares_waits_for_who_excludes() {
        let (_folder, path) = image();
        let excluded = exclude(&path).unwrap();
        assert!(exclude(&path).is_err());
        let error = share_within(&path, Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::BeingChanged { .. }), "{error}");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| share(&path));
            drop(excluded);
            drop(waiting.join().unwrap().unwrap());
        });
    }

    #[test]
    fn the_file_that_is_locked_is_the_one_at_the_path() {
        let (folder, path) = image();
        let excluded = exclude(&path).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| share(&path).unwrap());
            // In one step: at each moment there is a file at the path.
            let another = folder.path().join("another");
            fs::write(&another, "another").unwrap();
            fs::rename(&another, &path).unwrap();
            drop(excluded);
            let shared = waiting.join().unwrap();
            assert!(names(&path, &shared._file));
            assert!(exclude(&path).is_err());
        });
    }

    #[test]
    fn an_image_that_was_removed_cannot_be_locked() {
        let (_folder, path) = image();
        let excluded = exclude(&path).unwrap();
        fs::remove_file(&path).unwrap();
        drop(excluded);
        for error in [share(&path).unwrap_err(), exclude(&path).unwrap_err()] {
            assert!(matches!(error, Error::Open { .. }), "{error}");
        }
    }

    #[test]
    fn a_new_file_in_its_place_is_free() {
        let (folder, path) = image();
        let _shared = share(&path).unwrap();
        let new = folder.path().join("new");
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &path).unwrap();
        drop(exclude(&path).unwrap());
    }
}
