//! What a package is: `package.yaml`, checked.
//!
//! [`Manifest::read`] turns the file into a raw manifest, in which every value has its place (`raw`), and that into
//! a [`Manifest`], which is always valid (`check`). What is wrong is shown with its line and a caret (`error`).
//!
//! It owns neither the sources that a manifest names nor what becomes of them.

mod check;
mod error;
mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tree::ImagePath;

pub use error::{Diagnostic, ManifestError};

/// Most bytes of a manifest: a real one has a few hundred, and it is read into memory.
const MAX_MANIFEST: u64 = 1 << 20;

/// A package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The folder of `package.yaml`; sources of files are relative to it.
    pub folder: PathBuf,
    /// Its name, which is also the image's.
    pub name: PackageName,
    /// What people call it.
    pub title: String,
    /// Who made it.
    pub author: String,
    /// Its version, as written.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The programs that are compiled for it, each a role.
    pub services: Vec<Service>,
    /// Files that are put into the image as they are.
    pub files: Vec<FileRule>,
    /// What the image starts if nothing else is asked for.
    pub default: Option<Command>,
    /// Bytes of the disk, if they are not to be chosen from the content.
    pub size: Option<u64>,
}

impl Manifest {
    /// Reads and checks a `package.yaml`.
    ///
    /// # Errors
    /// It cannot be read, is no YAML, or something in it is unknown or wrong.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let unreadable = |source| ManifestError::Read {
            path: path.to_owned(),
            source,
        };
        let size = fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_MANIFEST {
            return Err(ManifestError::TooLarge {
                path: path.to_owned(),
                size,
                max: MAX_MANIFEST,
            });
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(path, text)
    }

    /// Checks the text of a manifest that lies at `path`.
    ///
    /// # Errors
    /// It is no YAML, or something in it is unknown or wrong.
    pub fn parse(path: &Path, text: String) -> Result<Self, ManifestError> {
        let source = error::Source {
            path: path.to_owned(),
            text,
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        check::check(&source, folder, raw::RawManifest::parse(&source)?)
    }
}

/// The name of a package: a folder's name and a host's name, so letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(String);

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRule {
    /// A file, a symbolic link or a folder, from the manifest's folder.
    pub source: PathBuf,
    /// Where it lies in the image.
    pub destination: ImagePath,
    /// Permission bits of its files; without them 0755 for what its owner can run, and else 0644.
    pub mode: Option<u16>,
}

/// What a guest is to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The role and its arguments.
    pub arguments: Vec<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

impl PackageName {
    /// Checks a name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let valid = (1..=64).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(fits);
        valid.then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PackageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
