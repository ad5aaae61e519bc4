//! The repository as a source of packages for resolution.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Entry, Repository, RepositoryError, folders};
use crate::archive::unpack::Folder;
use crate::cache::{Lock, Staged, failed};
use crate::event::{Observer, Silent};
use crate::manifest::{FileRule, Manifest, PackageName};
use crate::resolve::{PackageSource, SourceError};
use crate::tree::ImagePath;

impl Repository {
    /// The files of a package, unpacked once for each digest; where they are.
    ///
    /// # Errors
    /// The archive is damaged, or cannot be unpacked.
    pub fn unpack(&self, entry: &Entry, observer: &dyn Observer) -> Result<PathBuf, RepositoryError> {
        let folder = self.unpacked(&entry.digest);
        if folder.is_dir() {
            return Ok(folder);
        }
        let what = format!("the package `{}`", entry.manifest.name);
        let _lock = Lock::take(&folder, &what, observer)?;
        if folder.is_dir() {
            return Ok(folder);
        }
        let staged = Staged::new(&folder)?;
        let mut target = Folder::create(staged.path()).map_err(failed("create", staged.path()))?;
        entry.read(&mut target)?;
        staged.publish()?;
        Ok(folder)
    }

    /// The newest version of a package, ready to be composed; `None` if there is no such package.
    ///
    /// # Errors
    /// It is damaged, or cannot be unpacked.
    pub fn composed(
        &self,
        name: &PackageName,
        observer: &dyn Observer,
    ) -> Result<Option<Manifest>, RepositoryError> {
        let Some(newest) = self.versions(name.as_str())?.into_iter().next() else {
            return Ok(None);
        };
        let entry = newest.entry?;
        self.unpack(&entry, observer)?;
        self.composable(&entry).map(Some)
    }

    /// A package as composition takes it: its programs are files, and its files lie where they are unpacked.
    fn composable(&self, entry: &Entry) -> Result<Manifest, RepositoryError> {
        let mut manifest = entry.manifest.clone();
        let rules = std::mem::take(&mut manifest.files);
        manifest.services.clear();
        manifest.folder = self.unpacked(&entry.digest);
        let overriding = |path: &ImagePath| {
            let covers = |rule: &FileRule| {
                rule.destination.as_ref().is_none_or(|folder| {
                    Path::new(OsStr::from_bytes(path.as_bytes()))
                        .starts_with(OsStr::from_bytes(folder.as_bytes()))
                })
            };
            rules.iter().any(|rule| rule.overrides && covers(rule))
        };
        manifest.files = match entry.modes()? {
            Some(modes) => {
                let mut files = Vec::with_capacity(modes.len());
                for (path, mode) in modes {
                    let destination = ImagePath::new(&path)
                        .map_err(|_| RepositoryError::Modes(entry.folder.join("modes")))?;
                    files.push(FileRule {
                        source: PathBuf::from(OsStr::from_bytes(&path)),
                        overrides: overriding(&destination),
                        destination: Some(destination),
                        mode: (mode != 0).then_some(mode),
                        as_it_is: true,
                        ..FileRule::default()
                    });
                }
                files
            }
            None => vec![FileRule {
                as_it_is: true,
                ..FileRule::default()
            }],
        };
        Ok(manifest)
    }
}

impl PackageSource for Repository {
    fn names(&self) -> Vec<PackageName> {
        let names = folders(&self.packages).unwrap_or_default();
        names.iter().filter_map(|name| PackageName::new(name)).collect()
    }

    fn candidates(&self, name: &PackageName) -> Result<Vec<Manifest>, SourceError> {
        let versions = self.versions(name.as_str()).map_err(source)?;
        versions
            .into_iter()
            .map(|listed| self.composable(&listed.entry?))
            .collect::<Result<_, _>>()
            .map_err(source)
    }

    fn provide(&self, package: &Manifest) -> Result<(), SourceError> {
        let entry = self
            .find(&package.name, package.version.as_ref())
            .map_err(source)?;
        self.unpack(&entry, &Silent).map(drop).map_err(source)
    }
}

fn source(error: RepositoryError) -> SourceError {
    let hint = error.hint();
    SourceError::new(error, hint)
}
