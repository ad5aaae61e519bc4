//! What a package is: `package.yaml`, checked. `docs/manifest.md` tells of it.
//!
//! [`Manifest::read`] turns the file into a raw manifest, in which every value has its place (`fields`, `keys`, `raw`), and
//! that into a [`Manifest`], which is always valid (`check`, `values`). What is wrong is shown with its line and a
//! caret (`error`); what may be wrong is a warning in the same form. Capstan's folders, with a `meta/package.yaml` and
//! a `meta/run.yaml`, are read as they are.
//!
//! It owns neither the sources that a manifest names nor what becomes of them; what depends on other packages is
//! [`crate::resolve`]'s.

mod check;
mod error;
mod fields;
mod keys;
mod pattern;
mod raw;
mod values;
mod version;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::tree::ImagePath;

pub use error::{Diagnostic, ManifestError, Place};
pub use keys::schema;
pub(crate) use pattern::Source;
pub use version::{PackageName, Requirement, Version};

/// Most bytes of a manifest: a real one has a few hundred, and it is read into memory.
pub const MAX_MANIFEST: usize = 256 << 10;

/// The folder in which Capstan keeps what is said of a package; it is no part of the image.
pub const META: &str = "meta";

/// A package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The folder of the package; sources of files are relative to it.
    pub folder: PathBuf,
    /// Its name, which is also the image's.
    pub name: PackageName,
    /// What people call it.
    pub title: String,
    /// Who made it.
    pub author: String,
    /// Its version.
    pub version: Option<Version>,
    /// What it is for.
    pub description: Option<String>,
    /// The packages that it needs.
    pub require: Vec<Requirement>,
    /// The programs that are compiled for it, each a role.
    pub services: Vec<Service>,
    /// Files that are put into the image as they are.
    pub files: Vec<FileRule>,
    /// The environment of all its commands.
    pub environment: BTreeMap<String, String>,
    /// Whether its services have a volume at `/data`, if one is to be mounted there.
    pub mounts_data: bool,
    /// Its boot sets, by name.
    pub sets: BTreeMap<String, BootSet>,
    /// The boot set that its image starts if nothing else is asked for; one of [`Manifest::sets`].
    pub default_set: Option<String>,
    /// Bytes of the disk, if they are not to be chosen from the content.
    pub size: Option<u64>,
    /// What may be wrong with it.
    pub warnings: Vec<Diagnostic>,
}

impl Manifest {
    /// A package of nothing.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, name: PackageName) -> Self {
        Self {
            folder: folder.into(),
            title: name.to_string(),
            name,
            author: String::new(),
            version: None,
            description: None,
            require: Vec::new(),
            services: Vec::new(),
            files: Vec::new(),
            environment: BTreeMap::new(),
            mounts_data: false,
            sets: BTreeMap::new(),
            default_set: None,
            size: None,
            warnings: Vec::new(),
        }
    }

    /// The manifest in a package's folder: `package.yaml`, or Capstan's `meta/package.yaml`. `None` if there is none.
    #[must_use]
    pub fn find(folder: &Path) -> Option<PathBuf> {
        [
            folder.join("package.yaml"),
            folder.join(META).join("package.yaml"),
        ]
        .into_iter()
        .find(|path| path.is_file())
    }

    /// Reads and checks a `package.yaml`, and the `run.yaml` beside it if its folder is Capstan's `meta`.
    ///
    /// # Errors
    /// A file cannot be read, is no YAML, or something in it is wrong.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let manifest = Self::parse(path, text(path)?)?;
        if !is_capstan(path) {
            return Ok(manifest);
        }
        let run = path.with_file_name("run.yaml");
        match text(&run) {
            Ok(text) => manifest.with_run(&run, text),
            Err(ManifestError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(manifest)
            }
            Err(error) => Err(error),
        }
    }

    /// Checks the text of a manifest that lies at `path`. In a folder `meta` it is Capstan's: the package's folder is
    /// the one above, and without `files` everything there is its content.
    ///
    /// # Errors
    /// It is too large or no YAML, or something in it is wrong.
    pub fn parse(path: &Path, text: String) -> Result<Self, ManifestError> {
        let source = error::Source::new(path, bounded(path, text)?);
        let folder = path.parent().unwrap_or(Path::new(""));
        let raw = raw::RawManifest::parse(&source)?;
        let mut manifest = match is_capstan(path) {
            true => {
                let folder = folder.parent().unwrap_or(Path::new(""));
                check::capstan(&source, folder.to_owned(), raw)?
            }
            false => check::check(&source, folder.to_owned(), raw)?,
        };
        manifest.warnings = source.into_warnings();
        Ok(manifest)
    }

    /// Adds the boot sets of a Capstan package's `run.yaml`.
    ///
    /// # Errors
    /// It is too large or no YAML, something in it is wrong, or the manifest has boot sets of its own.
    pub fn with_run(mut self, path: &Path, text: String) -> Result<Self, ManifestError> {
        let source = error::Source::new(path, bounded(path, text)?);
        check::run(&source, &mut self)?;
        self.warnings.extend(source.into_warnings());
        Ok(self)
    }
}

/// A program that is compiled for a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The folder of its crate, from the workspace's root.
    pub crate_dir: PathBuf,
    /// The binary target of that crate.
    pub bin: String,
    /// The crate's features that are switched on.
    pub features: Vec<String>,
    /// The first word of a command that starts it; it lies at `/bin/<role>`.
    pub role: String,
}

/// Files that are put into the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRule {
    /// A file, a symbolic link or a folder, from the package's folder, which is itself the empty path; or a pattern.
    pub source: PathBuf,
    /// Where it lies in the image; `None` for its root.
    pub destination: Option<ImagePath>,
    /// Permission bits of its files; without them 0755 for what its owner can run, and else 0644.
    pub mode: Option<u16>,
    /// Whether its files may take the place of others.
    pub overrides: bool,
    /// Whether the source is taken as it is: signs of a pattern are letters of a name, and ignore files are files. So it
    /// is with what comes out of an archive, whose maker had the choice.
    pub as_it_is: bool,
    /// Where the manifest says so.
    pub place: Place,
}

/// A command that a package has by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootSet {
    /// The role and its arguments; those of the base if `None`.
    pub command: Option<Vec<String>>,
    /// The environment, before that of the package and the base.
    pub environment: BTreeMap<String, String>,
    /// What it starts from; there is one if there is no command.
    pub base: Option<Base>,
}

/// A boot set that another one starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its package.
    pub package: PackageName,
    /// Its name.
    pub set: String,
    /// Where the manifest says so.
    pub place: Place,
}

/// Whether a manifest's place is Capstan's.
fn is_capstan(path: &Path) -> bool {
    path.parent()
        .and_then(Path::file_name)
        .is_some_and(|folder| folder == META)
}

/// Reads a file of a bounded size.
fn text(path: &Path) -> Result<String, ManifestError> {
    let unreadable = |source| ManifestError::Read {
        path: path.to_owned(),
        source,
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_MANIFEST as u64 {
        return Err(too_large(path, size));
    }
    fs::read_to_string(path).map_err(unreadable)
}

fn bounded(path: &Path, text: String) -> Result<String, ManifestError> {
    if text.len() > MAX_MANIFEST {
        return Err(too_large(path, text.len() as u64));
    }
    Ok(text)
}

fn too_large(path: &Path, size: u64) -> ManifestError {
    ManifestError::TooLarge {
        path: path.to_owned(),
        size,
        max: MAX_MANIFEST as u64,
    }
}
