//! Composition: packages, what was compiled for them, and the loader become an image file.
//!
//! The image is written under a temporary name, put on disk, then renamed: whoever opens
//! `images/<name>/<name>.qcow2` sees the old image or the new one, whenever composition is stopped. What a
//! stopped run leaves is removed by the next; a lock keeps two runs apart. With [`Mode::Update`] an image that is
//! there is changed instead ([`crate::update`]), unless that does not pay.
//!
//! It does not compile anything. Start at [`compose`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hermitage_disk::BlockDevice;
use hermitage_disk::qcow2::Qcow2;

use crate::cache::{CacheError, Lock, Staged};
use crate::event::{Event, Observer, Outcome, Stage};
use crate::gather::{GatherError, gather, has_role};
use crate::image::{Boot, DiskPlan, ImageError, LoaderArtifacts};
use crate::index::{self, Index};
use crate::resolve::Resolution;
use crate::update::{self, Known, Updated};

/// What is composed, and from what.
pub struct ComposeRequest<'a> {
    /// The packages.
    pub resolution: &'a Resolution,
    /// The folder that holds a folder for each image, `images`.
    pub out_dir: &'a Path,
    /// The loader.
    pub loader: &'a LoaderArtifacts,
    /// The compiled program of each role.
    pub binaries: &'a BTreeMap<String, PathBuf>,
    /// How it gets into the image.
    pub mode: Mode,
}

/// How files get into an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A new image takes the old one's place; equal inputs give equal bytes.
    #[default]
    Fresh,
    /// What changed is written into the image that is there.
    Update {
        /// Whether files are read even if size, times and inode say that they did not change.
        checksum: bool,
    },
}

/// What was composed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposeReport {
    /// The image.
    pub path: PathBuf,
    /// Bytes that it takes on disk; its length is larger, since it is sparse.
    pub bytes: u64,
    /// Regular files in it.
    pub files: usize,
    /// A digest of all that the disk holds, in hexadecimal; equal images have equal ones.
    pub digest: String,
    /// How long it took.
    pub elapsed: Duration,
    /// What was changed in the image that was there; `None` if it was composed afresh.
    pub updated: Option<Updated>,
}

/// Why an image cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// What is to be in the image cannot be gathered.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The image cannot be written.
    #[error("cannot compose `{}`", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: ImageError,
    },
    /// A machine runs on the image.
    #[error("`{}` cannot be updated: it is in use", path.display())]
    InUse {
        /// The image.
        path: PathBuf,
    },
    /// The container cannot be made.
    #[error(transparent)]
    Disk(#[from] hermitage_disk::Error),
    /// The image's folder cannot be used.
    #[error(transparent)]
    Folder(#[from] CacheError),
}

impl ComposeError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Gather(error) => error.hint(),
            Self::InUse { .. } => Some(
                "stop what runs on it, or compose without `--update`, which leaves the old image to it"
                    .to_owned(),
            ),
            Self::Disk(error) => error.hint(),
            Self::Folder(error) => error.hint(),
            _ => None,
        }
    }
}

/// Composes an image.
///
/// # Errors
/// A part is missing, two parts collide, or something cannot be read or written. The old image is intact then.
pub fn compose(request: &ComposeRequest<'_>, observer: &dyn Observer) -> Result<ComposeReport, ComposeError> {
    compose_on(request, observer, |device| device)
}

/// As [`compose`], writing through what `wrap` makes of the device: tests have it fail.
fn compose_on<D: BlockDevice>(
    request: &ComposeRequest<'_>,
    observer: &dyn Observer,
    wrap: impl Fn(Qcow2) -> D,
) -> Result<ComposeReport, ComposeError> {
    let begin = Instant::now();
    let package = request.resolution.package();
    let name = &package.name;
    let started = |stage| Event::Started {
        stage,
        subject: name.to_string(),
    };
    let finished = |stage| Event::Finished {
        stage,
        outcome: Outcome::Done,
        elapsed: begin.elapsed(),
    };

    let path = request.out_dir.join(name.as_str()).join(format!("{name}.qcow2"));
    let in_image = |source| ComposeError::Image {
        path: path.clone(),
        source,
    };
    let boot = &Boot::new(request.loader, request.resolution).map_err(in_image)?;
    let size = package.size;
    let lock = || Lock::take(&path, &format!("the image `{name}`"), observer);

    observer.event(&started(Stage::Tree));
    // Only where there is an image: a package that is wrong leaves no folder.
    let is_update = request.mode != Mode::Fresh && path.exists();
    let early_lock = is_update.then(lock).transpose()?;
    let gathered = SystemTime::now();
    // To look at the image takes about as long as to look at the files.
    let (tree, known) = thread::scope(|scope| {
        let known = is_update.then(|| scope.spawn(|| Known::find(&path, boot, size)));
        let tree = gather(request.resolution.packages(), request.binaries);
        let known = known.map_or(Err("there is no image yet"), |known| {
            known.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        (tree, known)
    });
    let tree = &tree?;
    for (set, config) in request.resolution.sets() {
        let role = config.role().unwrap_or_default();
        if !has_role(tree, role) {
            let role = String::from_utf8_lossy(role);
            let note = format!("warning: the boot set `{set}` starts `{role}`, which `{name}` does not have");
            observer.event(&Event::Note(note));
        }
    }
    observer.event(&finished(Stage::Tree));

    observer.event(&started(Stage::Image));
    let _lock = early_lock.map_or_else(lock, Ok)?;
    // An update, too, removes what a killed composition left.
    let staged = Staged::new(&path)?;
    Index::remove_partial(&path)?;
    let mut outcome = None;
    if let Mode::Update { checksum } = request.mode {
        let image = &path;
        let request = update::Request {
            image,
            tree,
            gathered,
            boot,
            checksum,
        };
        let result = match known {
            Ok(known) => update::update(&request, known, observer, &wrap)?,
            Err(reason) => update::Outcome::Afresh(reason),
        };
        match result {
            update::Outcome::Done(updated, digest) => outcome = Some((updated, digest)),
            update::Outcome::Afresh(reason) => {
                observer.event(&Event::Note(format!("composing `{name}` afresh: {reason}")));
            }
        }
    }
    let (updated, digest) = match outcome {
        Some((updated, digest)) => (Some(updated), digest),
        None => {
            let plan = DiskPlan::new(tree, boot, size).map_err(in_image)?;
            let device = wrap(Qcow2::create(staged.path(), plan.size())?);
            let mut index = index::Writer::new(&path)?;
            let (digest, superblock) = plan
                .write(&device, observer, &mut |placed| index.add(placed))
                .map_err(in_image)?;
            Index::remove(&path)?;
            staged.publish_file()?;
            let index = index.finish(&superblock, update::trusted(tree, gathered));
            update::note(index, observer);
            (None, digest)
        }
    };
    let bytes = fs::metadata(&path)
        .map_err(|error| in_image(error.into()))?
        .blocks()
        * 512;
    observer.event(&finished(Stage::Image));
    Ok(ComposeReport {
        path,
        bytes,
        files: tree.files(),
        digest: digest.to_hex().to_string(),
        elapsed: begin.elapsed(),
        updated,
    })
}

#[cfg(test)]
mod tests;
