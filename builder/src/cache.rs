//! The per-user cache: what is provided or built once and used by every run, in every workspace.
//!
//! | entry | what |
//! | --- | --- |
//! | `toolchain/<version>-<origin>/` | a guest toolchain, complete or not there at all |
//! | `toolchain/downloads/` | packages of an install that was interrupted |
//! | `build/<name>-<digest>` | a build's result; the digest covers all of the build's inputs |
//! | `*.lock` | held by the process that adds an entry of that kind; says which |
//!
//! An entry appears by a rename, when it is complete and on disk: whoever sees it may use it, and a run that was
//! killed leaves nothing but a `.partial` that the next one removes. The folder may be deleted at any time.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::environment::Environment;
use crate::event::{Event, Observer, Outcome};

/// Results of builds that are kept of each kind: enough for some branches and workspaces to live side by side, at 6 MB
/// each for libhermit.
const KEPT: usize = 16;

/// How often a lock is tried whose folder vanishes meanwhile: once for each process that removes what is locked just
/// then.
const ATTEMPTS: usize = 100;

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Nothing says where it is.
    #[error("no folder for the cache: `HERMITAGE_CACHE`, `XDG_CACHE_HOME` and `HOME` are unset")]
    NoFolder,
    /// The system refused something.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl CacheError {
    /// Whether something is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoFolder => Some("set `HERMITAGE_CACHE` to a folder of yours".to_owned()),
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::StorageFull => Some(format!(
                "free some space on the file system of `{}`, or set `HERMITAGE_CACHE` to a folder elsewhere",
                path.display()
            )),
            Self::Io { .. } => None,
        }
    }
}

/// Turns an [`io::Error`] into a [`CacheError`] that names what was tried, and on what.
pub(crate) fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CacheError + 'a {
    move |source| CacheError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The cache's folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache that the environment names; nothing is created yet.
    ///
    /// # Errors
    /// The environment names none.
    pub fn new(environment: &Environment) -> Result<Self, CacheError> {
        let root = environment.cache.clone().ok_or(CacheError::NoFolder)?;
        Ok(Self { root })
    }

    /// The result of a build: `build/<kind>-<digest><suffix>`. If it is not there, `make` makes it, under the lock of its kind,
    /// and the oldest results of that kind beyond [`KEPT`] are removed.
    pub(crate) fn result<E: From<CacheError>>(
        &self,
        kind: &str,
        digest: &str,
        suffix: &str,
        observer: &dyn Observer,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(PathBuf, Outcome), E> {
        let kinds = self.path("build").join(kind);
        let entry = suffixed(&kinds, &format!("-{digest}{suffix}"));
        if entry.exists() {
            return Ok((entry, Outcome::Cached));
        }
        let _lock = Lock::take(&kinds, kind, observer)?;
        if !entry.exists() {
            let staged = Staged::new(&entry)?;
            make(staged.path())?;
            staged.publish()?;
            self.prune(kind)?;
        }
        Ok((entry, Outcome::Done))
    }

    fn prune(&self, kind: &str) -> Result<(), CacheError> {
        let folder = self.path("build");
        let entries = fs::read_dir(&folder).map_err(failed("read", &folder))?;
        let mut results: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&format!("{kind}-"))
            })
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        results.sort();
        let old = results.len().saturating_sub(KEPT);
        results[..old].iter().try_for_each(|(_, path)| remove(path))
    }

    /// The path of an entry.
    #[must_use]
    pub fn path(&self, entry: impl AsRef<Path>) -> PathBuf {
        self.root.join(entry)
    }
}

/// A lock on what a `.lock` file stands for, held until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `path` (a file beside it); if another process holds it, says who and waits.
    pub(crate) fn take(path: &Path, what: &str, observer: &dyn Observer) -> Result<Self, CacheError> {
        let path = &suffixed(path, ".lock");
        let mut attempts = 0;
        let mut file = loop {
            attempts += 1;
            match Self::wait(path, what, observer) {
                // Whoever removes what is locked removes the lock's file, too, and the folder if that is empty then.
                Ok(file) if is_at(&file, path) => break file,
                Err(error) if attempts >= ATTEMPTS || !error.is_missing() => return Err(error),
                _ => {}
            }
        };
        let holder = format!("process {} ({})\n", std::process::id(), command_line());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(failed("write", path))?;
        Ok(Self { _file: file })
    }

    fn wait(path: &Path, what: &str, observer: &dyn Observer) -> Result<File, CacheError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed("open", path))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            // Who holds it is for the user's eye alone; a lock that cannot be read is waited for just the same.
            let _ = file.read_to_string(&mut holder);
            observer.event(&Event::Waiting {
                what: what.to_owned(),
                holder: holder.trim().to_owned(),
            });
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .map_err(io::Error::from)
                .map_err(failed("lock", path))?;
        }
        Ok(file)
    }

    /// Removes the lock's file, with what it stood for.
    pub(crate) fn remove(self, path: &Path) -> Result<(), CacheError> {
        remove(&suffixed(path, ".lock"))
    }
}

/// Whether a path names an opened file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(there)) => identity(opened) == identity(there),
        _ => false,
    }
}

fn command_line() -> String {
    let words: Vec<_> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

/// How the temporary name of what is being made goes on behind its final one.
pub(crate) const PARTIAL: &str = ".partial";

/// `path` with something behind its name.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A folder or file that is being made, under a temporary name beside its final one. Dropped without
/// [`Staged::publish`], it is removed. Whoever makes one holds the [`Lock`] of its final path.
#[derive(Debug)]
pub(crate) struct Staged {
    partial: PathBuf,
    target: PathBuf,
}

impl Staged {
    /// Starts anew: what an earlier run left is removed.
    pub(crate) fn new(target: &Path) -> Result<Self, CacheError> {
        let staged = Self {
            partial: suffixed(target, PARTIAL),
            target: target.to_owned(),
        };
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
        }
        remove(&staged.partial)?;
        Ok(staged)
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Puts all of it on disk, then gives it its final name, in place of what may be there.
    pub(crate) fn publish(self) -> Result<(), CacheError> {
        let partial = File::open(&self.partial).map_err(failed("open", &self.partial))?;
        // One call for all files of a folder; without it, a power cut after the rename could leave empty files.
        rustix::fs::syncfs(&partial)
            .map_err(io::Error::from)
            .map_err(failed("write", &self.partial))?;
        if self.target.is_dir() {
            remove(&self.target)?;
        }
        fs::rename(&self.partial, &self.target).map_err(failed("write", &self.target))
    }

    /// As [`Staged::publish`], for one file whose writer has put it on disk already.
    pub(crate) fn publish_file(self) -> Result<(), CacheError> {
        let folder = self.target.parent().unwrap_or(Path::new(".")).to_owned();
        self.publish_cache()?;
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("write", &folder))
    }

    /// As [`Staged::publish`], for one file that may be lost, or half of it, in a power cut.
    pub(crate) fn publish_cache(self) -> Result<(), CacheError> {
        fs::rename(&self.partial, &self.target).map_err(failed("write", &self.target))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // The error that brought us here counts; what remains is removed by the next run.
        let _ = remove(&self.partial);
    }
}

/// Removes a file or a folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), CacheError> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn what_is_not_published_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("entry");
        let staged = Staged::new(&target).unwrap();
        fs::create_dir(staged.path()).unwrap();
        fs::write(staged.path().join("file"), "half").unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn replaces_a_folder_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("entry");
        for round in ["one", "two"] {
            let staged = Staged::new(&target).unwrap();
            fs::create_dir(staged.path()).unwrap();
            fs::write(staged.path().join(round), "").unwrap();
            staged.publish().unwrap();
        }
        let names: Vec<_> = fs::read_dir(&target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["two"]);
    }

    #[test]
    fn keeps_the_newest_results_of_a_kind_and_makes_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache {
            root: folder.path().to_owned(),
        };
        let result = |digest: &str| {
            let make = |staged: &Path| fs::write(staged, digest).map_err(failed("write", staged));
            cache
                .result::<CacheError>("thing", digest, ".x", &Silent, make)
                .unwrap()
        };
        let other = cache.path("build/other-1");
        fs::create_dir_all(&other).unwrap();
        let first = result("0").0;
        // The times of files are coarse; the first is to be the oldest for sure.
        File::open(&first)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        for digest in 1..KEPT {
            assert_eq!(result(&digest.to_string()).1, Outcome::Done);
        }
        assert_eq!(result("0"), (first.clone(), Outcome::Cached));
        result("one more");
        assert!(!first.exists());
        assert!(result("1").0.exists());
        assert!(other.exists());
    }

    #[test]
    fn the_second_waits_for_the_first_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entry");
        let first = Mutex::new(Some(Lock::take(&path, "the entry", &Silent).unwrap()));
        let released = AtomicBool::new(false);
        let told = Mutex::new(Vec::new());
        // The first gives way when, and only when, the second says that it waits.
        let observer = |event: &Event| {
            told.lock().unwrap().push(event.clone());
            released.store(true, Ordering::SeqCst);
            first.lock().unwrap().take();
        };
        thread::scope(|scope| {
            scope.spawn(|| Lock::take(&path, "the entry", &observer).unwrap());
        });
        assert!(released.load(Ordering::SeqCst));
        let told = told.into_inner().unwrap();
        let [Event::Waiting { what, holder }] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(what, "the entry");
        assert!(
            holder.starts_with(&format!("process {} (", std::process::id())),
            "{holder}"
        );
    }
}
