//! Packages in the folders beside one's own: `manifests/<name>`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PackageSource, SourceError};
use crate::manifest::{Manifest, PackageName};

/// A folder with a folder for each package, which has the package's name.
#[derive(Clone, Debug)]
pub struct Siblings {
    folder: PathBuf,
}

impl Siblings {
    /// The packages in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    /// The packages beside the one whose folder is given.
    #[must_use]
    pub fn of(package: &Path) -> Self {
        match package.parent() {
            Some(above) if package.file_name().is_some() => Self::new(above),
            // `.`, or a path that ends with `..`
            _ => Self::new(package.join("..")),
        }
    }
}

impl PackageSource for Siblings {
    fn names(&self) -> Vec<PackageName> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .filter(|entry| Manifest::find(&entry.path()).is_some())
            .filter_map(|entry| PackageName::new(entry.file_name().to_str()?))
            .collect();
        names.sort_unstable();
        names
    }

    fn candidates(&self, name: &PackageName) -> Result<Vec<Manifest>, SourceError> {
        match Manifest::find(&self.folder.join(name.as_str())) {
            Some(path) => Ok(vec![Manifest::read(&path)?]),
            None => Ok(vec![]),
        }
    }
}
