//! The user's packages: archives with their manifests and digests, `<root>/packages/<name>/<version>/`.
//!
//! | file | what |
//! | --- | --- |
//! | `package.mpm` | the archive, as it came |
//! | `digest` | its BLAKE3 digest, `blake3:<64 hexadecimal digits>` |
//! | `meta/package.yaml`, `meta/run.yaml` | the manifest in it, so that lists need not read archives |
//! | `modes` | permissions, if they are not those that composition gives: `<octal> <path>`, each with a NUL behind it |
//!
//! A package appears, is replaced and goes by one rename, under the lock of the whole repository: whoever reads needs no
//! lock, and a run that was killed leaves one `.incoming.partial`, which the next one removes.
//!
//! - [`search`](Repository::search): by words; [`source`](self): how resolution finds packages here;
//! - [`build()`] makes archives of folders, [`init`] the first manifest; [`pull`] fetches from elsewhere.
//!
//! Start at [`Repository::import`].

mod build;
mod entry;
mod error;
mod fetch;
pub mod pull;
mod search;
mod source;

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use crate::archive::read::Discard;
use crate::archive::{Contents, Limits, read};
use crate::cache::{Cache, CacheError, Lock, Staged, failed, remove, suffixed};
use crate::event::Observer;
use crate::manifest::{Manifest, PackageName, Version};

pub use build::{BuildError, Built, build, init};
pub use entry::{Digest, Entry};
pub use error::RepositoryError;

/// The folder of a package that has no version.
const UNVERSIONED: &str = "unversioned";

/// The archive of a package.
const ARCHIVE: &str = "package.mpm";

/// Where packages are kept.
#[derive(Clone, Debug)]
pub struct Repository {
    packages: PathBuf,
    cache: Cache,
}

/// A package in the repository, or what is wrong with it.
#[derive(Debug)]
pub struct Listed {
    /// The name of its folder.
    pub name: String,
    /// The name of its version's folder.
    pub version: String,
    /// The package.
    pub entry: Result<Entry, RepositoryError>,
}

/// What became of a package that was imported.
#[derive(Debug)]
pub struct Imported {
    /// The package.
    pub entry: Entry,
    /// Whether it was there already, the same.
    pub unchanged: bool,
}

/// An archive on its way into the repository.
struct Incoming<'a> {
    /// For messages.
    origin: &'a Path,
    /// The manifest that lies beside it, for one that has none.
    manifest: Option<String>,
    /// The digest that it must have.
    digest: Option<Digest>,
    /// Whether it may take the place of another one of the same name and version.
    replace: bool,
}

impl Repository {
    /// The repository below `root`, the folder that instances have, too. Nothing is created yet.
    #[must_use]
    pub fn new(root: &Path, cache: Cache) -> Self {
        Self {
            packages: root.join("packages"),
            cache,
        }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.packages
    }

    /// All packages, by name and then by version, the newest first. One that is damaged is among them.
    ///
    /// # Errors
    /// The folder cannot be read. One that is not there has no packages.
    pub fn list(&self) -> Result<Vec<Listed>, RepositoryError> {
        let mut listed = Vec::new();
        for name in folders(&self.packages)? {
            listed.extend(self.versions(&name)?);
        }
        Ok(listed)
    }

    /// The versions of a package, the newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn versions(&self, name: &str) -> Result<Vec<Listed>, RepositoryError> {
        let folder = self.packages.join(name);
        let mut listed: Vec<_> = folders(&folder)?
            .into_iter()
            .map(|version| Listed {
                entry: Entry::open(&folder.join(&version), name, &version),
                name: name.to_owned(),
                version,
            })
            .collect();
        let number = |listed: &Listed| Version::new(&listed.version);
        listed.sort_by(|a, b| number(b).cmp(&number(a)).then_with(|| a.version.cmp(&b.version)));
        Ok(listed)
    }

    /// A package: a certain version, or the newest.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn find(&self, name: &PackageName, version: Option<&Version>) -> Result<Entry, RepositoryError> {
        let wanted = version.map(version_folder);
        self.versions(name.as_str())?
            .into_iter()
            .find(|listed| wanted.as_ref().is_none_or(|wanted| *wanted == listed.version))
            .map_or_else(|| Err(self.missing(name, version)), |listed| listed.entry)
    }

    fn missing(&self, name: &PackageName, version: Option<&Version>) -> RepositoryError {
        let versions = self.versions(name.as_str()).unwrap_or_default();
        RepositoryError::Missing {
            package: version.map_or_else(|| name.to_string(), |version| format!("{name}@{version}")),
            known: match versions.is_empty() {
                true => folders(&self.packages).unwrap_or_default(),
                false => versions
                    .into_iter()
                    .map(|listed| format!("{name}@{}", listed.version))
                    .collect(),
            },
        }
    }

    /// Takes an archive in. A manifest `<name>.yaml` beside it serves for an archive without one; a `<name>.digest` is
    /// what it must have.
    ///
    /// # Errors
    /// It cannot be read or stored, has no right manifest, or another one of the same name and version is there.
    pub fn import(
        &self,
        archive: &Path,
        replace: bool,
        observer: &dyn Observer,
    ) -> Result<Imported, RepositoryError> {
        let file = File::open(archive).map_err(failed("read", archive))?;
        let (manifest, digest) = entry::beside(archive)?;
        let incoming = Incoming {
            origin: archive,
            manifest,
            digest,
            replace,
        };
        self.store(file, incoming, observer)
    }

    fn store(
        &self,
        input: impl Read,
        incoming: Incoming<'_>,
        observer: &dyn Observer,
    ) -> Result<Imported, RepositoryError> {
        let origin = incoming.origin;
        let _lock = self.lock(observer)?;
        let staged = Staged::new(&self.packages.join(".incoming"))?;
        let folder = staged.path();
        fs::create_dir(folder).map_err(failed("create", folder))?;
        let archive = &folder.join(ARCHIVE);
        let digest = copy(input, origin, archive)?;
        if let Some(expected) = incoming.digest {
            if expected != digest {
                return Err(RepositoryError::Digest {
                    path: origin.to_owned(),
                    expected,
                    found: digest,
                });
            }
        }
        let in_archive = |source| RepositoryError::Archive {
            path: origin.to_owned(),
            source,
        };
        let file = File::open(archive).map_err(failed("read", archive))?;
        let mut contents = read::read(file, &mut Discard, &Limits::default()).map_err(in_archive)?;
        contents.manifest = contents.manifest.or(incoming.manifest);
        let manifest = manifest_of(&contents, origin)?;
        for service in &manifest.services {
            if !contents
                .modes
                .contains_key(format!("bin/{}", service.role).as_bytes())
            {
                return Err(RepositoryError::NoProgram {
                    path: origin.to_owned(),
                    role: service.role.clone(),
                });
            }
        }
        let precise = !contents.plain_modes || manifest.files.iter().any(|rule| rule.overrides);
        entry::write(folder, &contents, &digest, precise)?;
        let name = manifest.name.as_str();
        let version = manifest
            .version
            .as_ref()
            .map_or_else(|| UNVERSIONED.to_owned(), version_folder);
        let target = self.packages.join(name).join(&version);
        if let Ok(there) = Entry::open(&target, name, &version) {
            if there.digest == digest {
                return Ok(Imported {
                    entry: there,
                    unchanged: true,
                });
            }
        }
        if target.exists() && !incoming.replace {
            return Err(RepositoryError::Exists {
                package: format!("{name}@{version}"),
            });
        }
        self.publish(&staged, &target)?;
        Ok(Imported {
            entry: Entry::open(&target, name, &version)?,
            unchanged: false,
        })
    }

    /// Puts a package on disk, then gives it its place. What was there is removed with what is staged.
    fn publish(&self, staged: &Staged, target: &Path) -> Result<(), CacheError> {
        let folder = target.parent().unwrap_or(&self.packages);
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let opened = File::open(staged.path()).map_err(failed("open", staged.path()))?;
        rustix::fs::syncfs(&opened)
            .map_err(io::Error::from)
            .map_err(failed("write", staged.path()))?;
        let flags = match target.exists() {
            true => RenameFlags::EXCHANGE,
            false => RenameFlags::NOREPLACE,
        };
        rustix::fs::renameat_with(CWD, staged.path(), CWD, target, flags)
            .map_err(io::Error::from)
            .map_err(failed("write", target))?;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("write", folder))
    }

    /// Removes a version of a package, or all; which ones they were. Damaged ones are removed, too.
    ///
    /// # Errors
    /// There is none, or it cannot be removed.
    pub fn remove(
        &self,
        name: &PackageName,
        version: Option<&Version>,
        observer: &dyn Observer,
    ) -> Result<Vec<String>, RepositoryError> {
        let _lock = self.lock(observer)?;
        let wanted = version.map(version_folder);
        let mut removed = Vec::new();
        for listed in self.versions(name.as_str())? {
            if wanted.as_ref().is_some_and(|wanted| *wanted != listed.version) {
                continue;
            }
            let staged = Staged::new(&self.packages.join(".incoming"))?;
            let folder = self.packages.join(&listed.name).join(&listed.version);
            fs::rename(&folder, staged.path()).map_err(failed("remove", &folder))?;
            drop(staged);
            if let Ok(entry) = listed.entry {
                remove(&self.unpacked(&entry.digest))?;
            }
            removed.push(format!("{}@{}", listed.name, listed.version));
        }
        if removed.is_empty() {
            return Err(self.missing(name, version));
        }
        // It stays if a version is left.
        let _ = fs::remove_dir(self.packages.join(name.as_str()));
        Ok(removed)
    }

    /// What is wrong with a package that can be listed: `None` if its archive has the digest and the manifest that are
    /// kept beside it.
    #[must_use]
    pub fn verify(&self, entry: &Entry) -> Option<RepositoryError> {
        entry.read(&mut Discard).err()
    }

    fn lock(&self, observer: &dyn Observer) -> Result<Lock, CacheError> {
        Lock::take(&self.packages, "the repository of packages", observer)
    }

    /// Where the files of a package with this digest are unpacked.
    fn unpacked(&self, digest: &Digest) -> PathBuf {
        self.cache.path("packages").join(digest.hex())
    }
}

/// The names of the folders in a folder, sorted; those that begin with a dot and those that are unfinished are ours.
fn folders(folder: &Path) -> Result<Vec<String>, RepositoryError> {
    let entries = match fs::read_dir(folder) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        entries => entries.map_err(failed("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("read", folder))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The name of a version's folder: `1.0` and `1.0.0` are one version.
fn version_folder(version: &Version) -> String {
    version.number().to_string()
}

/// Copies an archive, and says its digest.
fn copy(input: impl Read, origin: &Path, target: &Path) -> Result<Digest, RepositoryError> {
    let mut input = entry::Hashing::new(input);
    let mut output = File::create_new(target).map_err(failed("create", target))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer).map_err(failed("read", origin))? {
            0 => break,
            length => output
                .write_all(&buffer[..length])
                .map_err(failed("write", target))?,
        }
    }
    Ok(input.digest())
}

/// The manifest of an archive. Its place, in messages, is in the archive.
fn manifest_of(contents: &Contents, archive: &Path) -> Result<Manifest, RepositoryError> {
    let Some(text) = &contents.manifest else {
        return Err(RepositoryError::Archive {
            path: archive.to_owned(),
            source: crate::archive::ArchiveError::NoManifest,
        });
    };
    let meta = archive.join(crate::manifest::META);
    let manifest = Manifest::parse(&meta.join("package.yaml"), text.clone())?;
    match &contents.run {
        Some(run) => Ok(manifest.with_run(&meta.join("run.yaml"), run.clone())?),
        None => Ok(manifest),
    }
}

/// The path of a file beside an archive: `kv.yaml` for `kv.mpm`.
fn sibling(archive: &Path, suffix: &str) -> PathBuf {
    suffixed(&archive.with_extension(""), suffix)
}
