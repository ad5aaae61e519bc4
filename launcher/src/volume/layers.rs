//! Layers: what a volume was, kept apart from what is new since.
//!
//! ```text
//! db.qcow2                     a volume without a past
//! db.qcow2 -> 18a.layer        after `freeze`: the layer is never written again, all that is new goes into `db.qcow2`
//! db2.qcow2 -> 18a.layer       a clone: volumes over one layer do not know of each other
//! ```
//!
//! A layer is whatever the volume's file was at that moment: it keeps its content and gets another name, so that it costs
//! nothing. All files lie in one folder and name each other without it. A layer is needed as long as a snapshot is it, or
//! a file stands on it; [`Volumes::tidy`] removes the others, and takes those together that only one file stands on.
//!
//! A machine that runs has the volume's file open, and as it goes on with a new one QEMU opens the old one again, by its
//! name, without the right to write. So the new file has a name of its own, `.db.18a.next`, until the machine writes to
//! it, and becomes `db.qcow2` then.
//!
//! Failures: whoever freezes is killed in between. A `.next` that is left holds all that is on the volume, and what the
//! machine has written since, if it does already: whoever takes the lock next gives it its name first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hermitage_disk::qcow2::{Header, create_layer};

use super::{Format, VolumeError, VolumeName, Volumes, convert, live};
use crate::error::Error;

/// A layer's extension: no volume's.
const LAYER: &str = "layer";

/// How the name of a file ends that a machine is to go on with.
const NEXT: &str = ".next";

impl Volumes {
    /// Makes a layer of all that is on a volume at this moment, up to the last write that its guest was told is done; the
    /// layer's file. A machine that runs goes on. The caller holds the lock.
    pub(super) fn freeze(&self, name: &VolumeName) -> Result<PathBuf, Error> {
        let file = self.file(name)?;
        if Format::of(&file) != Some(Format::Qcow2) {
            return Err(VolumeError::Raw(file).into());
        }
        let writer = self.users(&file).into_iter().find(|user| !user.read_only);
        let size = Header::read(&file)?.size;
        let layer = self.new_layer();
        let partial = self.partial(name);
        create_layer(
            Path::new(layer.file_name().unwrap_or_default()),
            size,
            &partial.path,
        )?;
        fs::hard_link(&file, &layer).map_err(Error::io("make", &layer))?;
        let id = layer.file_stem().unwrap_or_default().to_string_lossy();
        let next = self.folder().join(format!(".{name}.{id}{NEXT}"));
        partial.replace(&next)?;
        let switched = match writer.filter(super::User::has_machine) {
            Some(user) => live::overlay(name, &user, &next),
            None => Ok(()),
        };
        if let Err(Error::Volume(VolumeError::Live { refusal, .. })) = &switched {
            // Otherwise it may have, and then its writes are in the new file.
            if refusal.is_certain {
                for file in [&next, &layer] {
                    fs::remove_file(file).map_err(Error::io("remove", file))?;
                }
                return switched.map(|()| layer);
            }
        }
        finish(&next, &file)?;
        switched.map(|()| layer)
    }

    /// Gives new files their names that one who was killed has left. The caller holds the lock.
    pub(super) fn finish_all(&self) -> Result<(), Error> {
        let folder = self.folder();
        let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        let mut left: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let next = entry.file_name().into_string().ok()?;
                let (name, _) = next.strip_prefix('.')?.strip_suffix(NEXT)?.rsplit_once('.')?;
                Some((entry.path(), folder.join(format!("{name}.qcow2"))))
            })
            .collect();
        // The oldest first, by the time in their names.
        left.sort();
        left.iter().try_for_each(|(next, file)| finish(next, file))
    }

    /// A name for a layer that none had before: numbers are not used again, as somebody may have copied a file that
    /// stands on one.
    fn new_layer(&self) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut number = now.as_nanos();
        loop {
            let layer = self.folder().join(format!("{number:x}.{LAYER}"));
            if !layer.exists() {
                return layer;
            }
            number += 1;
        }
    }

    /// Makes a volume's file that stands on a layer and has nothing of its own.
    pub(super) fn on_layer(&self, layer: &Path, name: &VolumeName) -> Result<super::store::Partial, Error> {
        let partial = self.partial(name);
        let size = Header::read(layer)?.size;
        create_layer(
            Path::new(layer.file_name().unwrap_or_default()),
            size,
            &partial.path,
        )?;
        Ok(partial)
    }

    /// Removes layers that nobody needs, and takes those together that only one file stands on. The caller holds the lock.
    ///
    /// What cannot be done is left for the next time: nothing depends on it, but the room on the disk.
    pub(super) fn tidy(&self) {
        while let Some(files) = Files::read(self) {
            let unneeded = files.unneeded();
            if unneeded.is_empty() {
                let Some((child, layer)) = files.alone(self) else {
                    return;
                };
                if !take_together(&child, &layer) {
                    return;
                }
            }
            for layer in unneeded {
                if fs::remove_file(&layer).is_err() {
                    return;
                }
            }
        }
    }
}

/// Gives a new file its name.
fn finish(next: &Path, file: &Path) -> Result<(), Error> {
    fs::rename(next, file).map_err(Error::io("make", file))?;
    // Both were names of one file: then `rename` leaves both.
    match fs::remove_file(next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", next)(error)),
        _ => super::store::sync_folder(file),
    }
}

/// Puts what is new in `child` into the layer that it alone stands on, which then takes its place. At each moment `child`
/// reads the same: as long as it is there, it hides what has changed below.
fn take_together(child: &Path, layer: &Path) -> bool {
    let sizes = (Header::read(child), Header::read(layer));
    // A layer does not get smaller by that.
    let fits = matches!(sizes, (Ok(child), Ok(layer)) if child.size >= layer.size);
    fits && convert::commit(child).is_ok() && fs::rename(layer, child).is_ok()
}

/// The files of all volumes, and which stands on which.
struct Files {
    /// Each file, and what it stands on.
    backing: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Layers that are snapshots.
    snapshots: BTreeSet<PathBuf>,
}

impl Files {
    /// Reads them; `None` if one cannot be read: nobody knows what it needs.
    fn read(volumes: &Volumes) -> Option<Self> {
        let mut files = Self {
            backing: BTreeMap::new(),
            snapshots: BTreeSet::new(),
        };
        for entry in fs::read_dir(volumes.folder()).ok()? {
            let path = entry.ok()?.path();
            let hidden = path.file_name()?.to_string_lossy().starts_with('.');
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(LAYER | "qcow2") if !hidden => {
                    files
                        .backing
                        .insert(path.clone(), Header::read(&path).ok()?.backing);
                }
                Some(super::snapshot::FOLDER) => {
                    for link in fs::read_dir(&path).ok()? {
                        let target = fs::read_link(link.ok()?.path()).ok()?;
                        files.snapshots.insert(volumes.folder().join(target.file_name()?));
                    }
                }
                _ => {}
            }
        }
        Some(files)
    }

    fn is_layer(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == LAYER)
    }

    /// Layers that nothing stands on, and that are no snapshots.
    fn unneeded(&self) -> Vec<PathBuf> {
        let needed: BTreeSet<_> = self.backing.values().flatten().collect();
        let layers = self.backing.keys().filter(|path| Self::is_layer(path));
        layers
            .filter(|layer| !needed.contains(layer) && !self.snapshots.contains(*layer))
            .cloned()
            .collect()
    }

    /// A layer that is no snapshot and that one file alone stands on, which no machine has; that file first.
    fn alone(&self, volumes: &Volumes) -> Option<(PathBuf, PathBuf)> {
        let layers = self.backing.keys().filter(|path| Self::is_layer(path));
        layers
            .filter(|layer| !self.snapshots.contains(*layer))
            .find_map(|layer| {
                let mut children = self.standing_on(layer);
                let child = children.next()?;
                (children.next().is_none() && self.is_idle(child, volumes))
                    .then(|| (child.clone(), layer.clone()))
            })
    }

    fn standing_on(&self, layer: &Path) -> impl Iterator<Item = &PathBuf> {
        self.backing
            .iter()
            .filter(move |(_, backing)| backing.as_deref() == Some(layer))
            .map(|(file, _)| file)
    }

    /// Whether no machine has a file, or one that stands on it.
    fn is_idle(&self, file: &Path, volumes: &Volumes) -> bool {
        volumes.users(file).is_empty() && self.standing_on(file).all(|child| self.is_idle(child, volumes))
    }
}
