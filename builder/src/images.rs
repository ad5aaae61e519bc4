//! Composed images as files: removed and renamed, with what lies beside them.
//!
//! An image is the file `<name>.qcow2`, with its index, and the lock of who composes it, beside it. In a folder of images
//! it has a folder of its own, `<name>/<name>.qcow2`.
//!
//! What is done to an image is done by who holds it: nobody composes, updates, starts, removes or renames it then. So
//! a caller can look for what else depends on the image before it goes. Start at [`Held::take`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hermitage_disk::lock;
use rustix::fs::{CWD, RenameFlags};

use crate::cache::{CacheError, Lock, PARTIAL, failed, remove, suffixed};
use crate::event::Observer;
use crate::index::{self, Index};
use crate::manifest::PackageName;

/// Why an image cannot be removed or renamed.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// Somebody runs the image.
    #[error("`{}` is in use", .0.display())]
    InUse(PathBuf),
    /// An image has the new name already.
    #[error("there is an image `{}` already", .0.display())]
    Exists(PathBuf),
    /// The image cannot be opened.
    #[error(transparent)]
    Disk(hermitage_disk::Error),
    /// A file or folder cannot be used.
    #[error(transparent)]
    Folder(#[from] CacheError),
}

impl ImagesError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse(_) => Some("stop what runs on it".to_owned()),
            Self::Exists(_) => Some("remove that one first, or choose another name".to_owned()),
            Self::Disk(error) => error.hint(),
            Self::Folder(error) => error.hint(),
        }
    }
}

/// An image that nobody else uses.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// Keeps compositions away.
    composition: Lock,
    /// Keeps machines away.
    _image: lock::Lock,
}

impl Held {
    /// Takes hold of an image. Waits for who composes it, not for who runs it. Whoever holds several takes them in the
    /// order of their paths, so that two who want the same never wait for each other.
    ///
    /// # Errors
    /// There is no such file, or it is in use.
    pub fn take(path: &Path, observer: &dyn Observer) -> Result<Self, ImagesError> {
        // Before the lock, whose file would make a folder for an image that is not there.
        fs::symlink_metadata(path).map_err(failed("find", path))?;
        let composition = Lock::take(path, &format!("the image `{}`", path.display()), observer)?;
        let image = lock::exclude(path).map_err(|error| match error {
            hermitage_disk::Error::InUse { path } => ImagesError::InUse(path),
            error => ImagesError::Disk(error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            composition,
            _image: image,
        })
    }

    /// The image's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the image and what lies beside it. A file that is not ours keeps the folder.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(self) -> Result<(), ImagesError> {
        // The image last: as long as it is there, so is a name to remove the rest by.
        self.remove_beside()?;
        remove(&self.path)?;
        self.leave()
    }

    /// Gives the image another name, and its folder, if it has one of its own; the new path.
    ///
    /// # Errors
    /// The name is taken, or something cannot be renamed.
    pub fn rename(self, name: &PackageName, observer: &dyn Observer) -> Result<PathBuf, ImagesError> {
        let path = renamed(&self.path, name);
        // Before the lock, which is ours already if the names are the same.
        if path.exists() {
            return Err(ImagesError::Exists(path));
        }
        // The folder is one's own or was made now: an empty one that a failure leaves is none of anybody's images.
        let lock = Lock::take(&path, &format!("the image `{name}`"), observer)?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, &path, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return Err(ImagesError::Exists(path)),
            result => result
                .map_err(io::Error::from)
                .map_err(failed("rename", &self.path))?,
        }
        let [old, new] = [&self.path, &path].map(|path| suffixed(path, index::SUFFIX));
        match fs::rename(&old, &new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("rename", &old)(error).into());
            }
            _ => sync_folder(&path)?,
        }
        drop(lock);
        self.remove_beside()?;
        self.leave()?;
        Ok(path)
    }

    fn remove_beside(&self) -> Result<(), CacheError> {
        remove(&suffixed(&self.path, PARTIAL))?;
        Index::remove_partial(&self.path)?;
        Index::remove(&self.path)
    }

    /// Removes the lock, and the image's own folder if nothing else is in it.
    fn leave(self) -> Result<(), ImagesError> {
        self.composition.remove(&self.path)?;
        if let Some(folder) = own_folder(&self.path) {
            match fs::remove_dir(folder) {
                // Somebody else's files, or those of who composes it again already.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(failed("remove", folder))?,
            }
        }
        Ok(())
    }
}

/// The folder that an image has for itself, by its name.
fn own_folder(image: &Path) -> Option<&Path> {
    image
        .parent()
        .filter(|folder| folder.file_name().is_some() && folder.file_name() == image.file_stem())
}

/// Where an image lies when it has another name.
fn renamed(image: &Path, name: &PackageName) -> PathBuf {
    let file = format!("{name}.qcow2");
    match own_folder(image).and_then(Path::parent) {
        Some(images) => images.join(name.as_str()).join(file),
        None => image.with_file_name(file),
    }
}

fn sync_folder(path: &Path) -> Result<(), CacheError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("write", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;

    /// An image with all that may lie beside it, in a folder of images.
    fn image(images: &Path, name: &str) -> PathBuf {
        fs::create_dir_all(images.join(name)).unwrap();
        let path = images.join(name).join(format!("{name}.qcow2"));
        fs::write(&path, name).unwrap();
        fs::write(suffixed(&path, ".index"), format!("index of {name}")).unwrap();
        fs::write(suffixed(&path, ".partial"), "left by a killed run").unwrap();
        path
    }

    fn hold(path: &Path) -> Result<Held, ImagesError> {
        Held::take(path, &Silent)
    }

    fn name(name: &str) -> PackageName {
        PackageName::new(name).unwrap()
    }

    /// All files below a folder, sorted.
    fn files(folder: &Path) -> Vec<String> {
        let files = crate::digest::files(folder).unwrap();
        let shown = |file: PathBuf| file.strip_prefix(folder).unwrap().display().to_string();
        files.into_iter().map(shown).collect()
    }

    #[test]
    fn nothing_stays_of_an_image_that_is_removed() {
        let images = tempfile::tempdir().unwrap();
        let [kv, db] = ["kv", "db.1"].map(|name| image(images.path(), name));
        hold(&kv).unwrap().remove().unwrap();
        assert!(!images.path().join("kv").exists());
        fs::write(images.path().join("db.1/mine"), "").unwrap();
        hold(&db).unwrap().remove().unwrap();
        assert_eq!(files(images.path()), ["db.1/mine"]);
    }

    #[test]
    fn a_renamed_image_keeps_its_index_and_leaves_nothing_behind() {
        let images = tempfile::tempdir().unwrap();
        let kv = image(images.path(), "kv");
        let path = hold(&kv).unwrap().rename(&name("db.1"), &Silent).unwrap();
        assert_eq!(path, images.path().join("db.1/db.1.qcow2"));
        assert_eq!(
            files(images.path()),
            ["db.1/db.1.qcow2", "db.1/db.1.qcow2.index", "db.1/db.1.qcow2.lock"]
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "kv");
        assert_eq!(
            fs::read_to_string(suffixed(&path, ".index")).unwrap(),
            "index of kv"
        );
        assert!(!images.path().join("kv").exists());
    }

    #[test]
    fn an_image_elsewhere_stays_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kv.qcow2");
        fs::write(&path, "").unwrap();
        let path = hold(&path).unwrap().rename(&name("db"), &Silent).unwrap();
        assert_eq!(path, folder.path().join("db.qcow2"));
        hold(&path).unwrap().remove().unwrap();
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn a_name_that_is_taken_is_refused_and_both_stay() {
        let images = tempfile::tempdir().unwrap();
        let [kv, db] = ["kv", "db"].map(|name| image(images.path(), name));
        for new in ["db", "kv"] {
            let error = hold(&kv).unwrap().rename(&name(new), &Silent).unwrap_err();
            assert!(matches!(error, ImagesError::Exists(_)), "{error}");
        }
        assert_eq!(fs::read_to_string(kv).unwrap(), "kv");
        assert_eq!(fs::read_to_string(db).unwrap(), "db");
    }

    #[test]
    fn an_image_in_use_is_not_held() {
        let images = tempfile::tempdir().unwrap();
        let kv = image(images.path(), "kv");
        let shared = lock::share(&kv).unwrap();
        assert!(matches!(hold(&kv).unwrap_err(), ImagesError::InUse(_)));
        drop(shared);
        let held = hold(&kv).unwrap();
        assert!(lock::exclude(&kv).is_err());
        drop(held);
        drop(lock::exclude(&kv).unwrap());
    }

    #[test]
    fn what_is_not_there_gets_no_folder() {
        let images = tempfile::tempdir().unwrap();
        assert!(hold(&images.path().join("kv/kv.qcow2")).is_err());
        assert!(!images.path().join("kv").exists());
    }
}
