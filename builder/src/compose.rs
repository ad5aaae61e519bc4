//! Composition: a manifest, what was compiled for it, and the loader become an image file.
//!
//! The image is written under a temporary name, put on disk, then renamed: whoever opens
//! `images/<name>/<name>.qcow2` sees the old image or the new one, whenever composition is stopped. What a
//! stopped run leaves is removed by the next; a lock keeps two runs apart. With [`Mode::Update`] an image that is
//! there is changed instead ([`crate::update`]), unless that does not pay.
//!
//! It does not compile anything. Start at [`compose`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hermitage_boot::BootConfig;
use hermitage_disk::BlockDevice;
use hermitage_disk::layout::SECTOR;
use hermitage_disk::qcow2::Qcow2;

use crate::cache::{CacheError, Lock, Staged};
use crate::event::{Event, Observer, Outcome, Stage};
use crate::image::{Boot, DiskPlan, ImageError, LoaderArtifacts};
use crate::index::Index;
use crate::manifest::{Command, FileRule, Manifest};
use crate::tree::{Collision, ImagePath, MODE_EXECUTABLE, MODE_FILE, Node, NodeKind, PathError, Stat, Tree};
use crate::update::{self, Updated};

/// What is composed, and from what.
pub struct ComposeRequest<'a> {
    /// The package.
    pub manifest: &'a Manifest,
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
    /// Two things bring the same path.
    #[error(transparent)]
    Collision(#[from] Collision),
    /// A path that cannot be in an image.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No program was compiled for a role.
    #[error("no program for the role `{0}`")]
    NoBinary(String),
    /// A source cannot be looked at.
    #[error("cannot read `{}`, a source of {origin}", path.display())]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// What needs it.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// A source is no file, folder or symbolic link.
    #[error("`{}`, a source of {origin}, is a device, a pipe or a socket", path.display())]
    SpecialFile {
        /// The file.
        path: PathBuf,
        /// What needs it.
        origin: String,
    },
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
            Self::Collision(_) => {
                Some("remove one of them from the manifest, or move it elsewhere".to_owned())
            }
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
    let name = &request.manifest.name;
    let started = |stage| Event::Started {
        stage,
        subject: name.to_string(),
    };
    let finished = |stage| Event::Finished {
        stage,
        outcome: Outcome::Done,
        elapsed: begin.elapsed(),
    };

    observer.event(&started(Stage::Tree));
    let gathered = SystemTime::now();
    let tree = &gather(request)?;
    observer.event(&finished(Stage::Tree));

    observer.event(&started(Stage::Image));
    let path = request.out_dir.join(name.as_str()).join(format!("{name}.qcow2"));
    let in_image = |source| ComposeError::Image {
        path: path.clone(),
        source,
    };
    let default = request.manifest.default.as_ref().map(boot_config);
    let boot = &Boot::new(request.loader, default).map_err(in_image)?;
    let size = request.manifest.size;
    let _lock = Lock::take(&path, &format!("the image `{name}`"), observer)?;
    let mut outcome = None;
    if let Mode::Update { checksum } = request.mode {
        let image = &path;
        let size = size.map(|size| size / SECTOR * SECTOR);
        let request = update::Request {
            image,
            tree,
            gathered,
            boot,
            size,
            checksum,
        };
        match update::update(&request, observer, &wrap)? {
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
            let staged = Staged::new(&path)?;
            let device = wrap(Qcow2::create(staged.path(), plan.size())?);
            let (digest, base) = plan.write(&device, observer).map_err(in_image)?;
            drop(device);
            Index::remove(&path)?;
            staged.publish_file()?;
            let stats = update::trusted(tree, gathered);
            update::save(&Index { base, stats }, &path, observer);
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

fn boot_config(command: &Command) -> BootConfig {
    let entry = |(name, value): (&String, &String)| format!("{name}={value}").into_bytes();
    BootConfig {
        arguments: command
            .arguments
            .iter()
            .map(|word| word.clone().into_bytes())
            .collect(),
        environment: command.environment.iter().map(entry).collect(),
        ..BootConfig::default()
    }
}

/// Everything that the image is to hold.
fn gather(request: &ComposeRequest<'_>) -> Result<Tree, ComposeError> {
    let mut tree = Tree::default();
    for service in &request.manifest.services {
        let role = &service.role;
        let binary = request
            .binaries
            .get(role)
            .ok_or_else(|| ComposeError::NoBinary(role.clone()))?;
        let destination = ImagePath::new(format!("/bin/{role}").as_bytes())?;
        add(
            &mut tree,
            binary,
            destination,
            Some(MODE_EXECUTABLE),
            &format!("service `{role}`"),
        )?;
    }
    for FileRule {
        source,
        destination,
        mode,
    } in &request.manifest.files
    {
        let origin = format!("files entry `{}`", source.display());
        add(
            &mut tree,
            &request.manifest.folder.join(source),
            destination.clone(),
            *mode,
            &origin,
        )?;
    }
    Ok(tree)
}

/// Adds a file, a symbolic link, or a folder with all that lies in it.
fn add(
    tree: &mut Tree,
    source: &Path,
    destination: ImagePath,
    mode: Option<u16>,
    origin: &str,
) -> Result<(), ComposeError> {
    let mut left = vec![(source.to_owned(), destination)];
    while let Some((path, destination)) = left.pop() {
        let unreadable = |source| ComposeError::Source {
            path: path.clone(),
            origin: origin.to_owned(),
            source,
        };
        let metadata = fs::symlink_metadata(&path).map_err(unreadable)?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let (kind, mode) = if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(unreadable)? {
                let name = entry.map_err(unreadable)?.file_name();
                left.push((path.join(&name), destination.join(Path::new(&name))?));
            }
            (NodeKind::Directory, MODE_EXECUTABLE)
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(unreadable)?;
            (
                NodeKind::Symlink(OsStr::as_bytes(target.as_os_str()).to_vec()),
                0o777,
            )
        } else if metadata.is_file() {
            let default = if executable { MODE_EXECUTABLE } else { MODE_FILE };
            (
                NodeKind::File {
                    source: path.clone(),
                    size: metadata.len(),
                    stat: Stat::new(&metadata),
                },
                mode.unwrap_or(default),
            )
        } else {
            return Err(ComposeError::SpecialFile {
                path,
                origin: origin.to_owned(),
            });
        };
        tree.add(
            destination,
            Node {
                kind,
                mode,
                origin: origin.to_owned(),
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
