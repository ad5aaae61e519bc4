//! Packages from elsewhere: a folder, or a web server.
//!
//! A source has, in its folder `packages` or directly in a folder that is given, for each package `<name>.mpm`,
//! `<name>.yaml` (its manifest, which is asked for first) and `<name>.digest`; Capstan's have no digest. A folder may be
//! the root of another repository, too, which has several versions.
//!
//! A download that is cut off is kept in the cache if there is a digest to tell, at the end, whether its parts belong
//! together; the next pull goes on with it. The repository sees whole packages alone. Start at [`Repository::pull`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::entry::{self, Hashing};
use super::{Digest, Imported, Incoming, Repository, RepositoryError, fetch, sibling};
use crate::cache::{Lock, failed, remove};
use crate::event::{Event, Observer, Outcome, Stage};
use crate::manifest::{MAX_MANIFEST, META, Manifest, Requirement};

/// Most bytes of a file with a digest: one line.
const MAX_DIGEST: usize = 200;

/// Where packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder.
    Folder(PathBuf),
    /// A web server: what is before `/packages/<name>.mpm`.
    Http(String),
}

impl Origin {
    /// Reads a folder's path, or an address that begins with `http://`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, RepositoryError> {
        if text.starts_with("http://") {
            return Ok(Self::Http(text.trim_end_matches('/').to_owned()));
        }
        match Path::new(text) {
            folder if folder.is_dir() => Ok(Self::Folder(folder.to_owned())),
            _ => Err(RepositoryError::Address(text.to_owned())),
        }
    }
}

/// How a package is pulled.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether it may take the place of another one of the same name and version.
    pub replace: bool,
    /// Whether the network may be used.
    pub offline: bool,
    /// How long a server may say nothing.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replace: false,
            offline: false,
            patience: fetch::PATIENCE,
        }
    }
}

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The package.
    pub imported: Imported,
    /// Whether the source had a digest, and it is the archive's.
    pub checked: bool,
}

impl Repository {
    /// Brings the newest version of a package that fits.
    ///
    /// # Errors
    /// There is none, it does not arrive whole, or it is not what its digest says.
    pub fn pull(
        &self,
        wanted: &Requirement,
        from: &Origin,
        options: Options,
        observer: &dyn Observer,
    ) -> Result<Pulled, RepositoryError> {
        match from {
            Origin::Folder(folder) => self.pull_from_folder(wanted, folder, options, observer),
            Origin::Http(base) if options.offline => Err(RepositoryError::Offline(base.clone())),
            Origin::Http(base) => self.pull_over_http(wanted, base, options, observer),
        }
    }

    fn pull_from_folder(
        &self,
        wanted: &Requirement,
        folder: &Path,
        options: Options,
        observer: &dyn Observer,
    ) -> Result<Pulled, RepositoryError> {
        let name = wanted.name.as_str();
        let shown = folder.display().to_string();
        let other = Self::new(folder, self.cache.clone());
        let versions = other.versions(name)?;
        if !versions.is_empty() {
            let mut found = Vec::new();
            for listed in versions {
                let entry = listed.entry?;
                if wanted.fits(entry.manifest.version.as_ref()) {
                    return self.take(&entry.archive(), Some(entry.digest), None, options, observer);
                }
                found.push(entry.version());
            }
            return Err(no_version(wanted, shown, found));
        }
        let candidates =
            [folder.join("packages"), folder.to_owned()].map(|folder| folder.join(format!("{name}.mpm")));
        let Some(archive) = candidates.iter().find(|archive| archive.is_file()) else {
            return Err(RepositoryError::NotThere {
                from: shown,
                package: name.to_owned(),
            });
        };
        let (manifest, digest) = entry::beside(archive)?;
        if let Some(text) = &manifest {
            check(wanted, &shown, &sibling(archive, ".yaml"), text)?;
        }
        self.take(archive, digest, manifest, options, observer)
    }

    fn pull_over_http(
        &self,
        wanted: &Requirement,
        base: &str,
        options: Options,
        observer: &dyn Observer,
    ) -> Result<Pulled, RepositoryError> {
        let name = wanted.name.as_str();
        let url = |suffix: &str| format!("{base}/packages/{name}{suffix}");
        let missing = || RepositoryError::NotThere {
            from: base.to_owned(),
            package: name.to_owned(),
        };
        let manifest = url(".yaml");
        let text = fetch::text(&manifest, MAX_MANIFEST, options.patience)?.ok_or_else(missing)?;
        check(wanted, base, Path::new(&manifest), &text)?;
        let place = url(".digest");
        let digest = match fetch::text(&place, MAX_DIGEST, options.patience)? {
            Some(text) => Some(Digest::parse(&text).ok_or(RepositoryError::NoDigest(PathBuf::from(place)))?),
            None => None,
        };
        if let Some(there) = self.there(&text, &manifest, digest) {
            return Ok(there);
        }
        let archive = url(".mpm");
        // Without a digest nothing would tell that the rest belongs to what is here.
        let key = blake3::hash(
            format!(
                "{archive} {}",
                digest.map_or_else(String::new, |digest| digest.hex())
            )
            .as_bytes(),
        );
        let part = self
            .cache
            .path("downloads")
            .join(format!("{}.mpm", &key.to_hex()[..32]));
        let lock = Lock::take(&part, &format!("the download of `{name}`"), observer)?;
        let incoming = Incoming {
            origin: Path::new(&archive),
            manifest: Some(text),
            digest,
            replace: options.replace,
        };
        let result = self.fetched(&part, incoming, name, options, observer);
        if !part.exists() {
            lock.remove(&part)?;
        }
        Ok(Pulled {
            imported: result?.ok_or_else(missing)?,
            checked: digest.is_some(),
        })
    }

    /// Downloads an archive to `part`, and takes it in; `None` if there is none.
    fn fetched(
        &self,
        part: &Path,
        incoming: Incoming<'_>,
        name: &str,
        options: Options,
        observer: &dyn Observer,
    ) -> Result<Option<Imported>, RepositoryError> {
        let digest = incoming.digest;
        if digest.is_none() {
            remove(part)?;
        }
        observer.event(&Event::Started {
            stage: Stage::Download,
            subject: name.to_owned(),
        });
        let begin = Instant::now();
        let url = incoming.origin.to_string_lossy();
        if !self.download(&url, part, digest, options, observer)? {
            return Ok(None);
        }
        observer.event(&Event::Finished {
            stage: Stage::Download,
            outcome: Outcome::Done,
            elapsed: begin.elapsed(),
        });
        let file = File::open(part).map_err(failed("read", part))?;
        let imported = self.store(file, incoming, observer);
        // Whatever came of it: it is whole, so there is nothing to go on with.
        remove(part)?;
        imported.map(Some)
    }

    /// Gets an archive, or the rest of one; false if there is none. What an older archive left under this name is seen by
    /// the digest, and is then fetched anew.
    fn download(
        &self,
        url: &str,
        part: &Path,
        digest: Option<Digest>,
        options: Options,
        observer: &dyn Observer,
    ) -> Result<bool, RepositoryError> {
        let mut open = File::options();
        let mut file = open
            .read(true)
            .append(true)
            .create(true)
            .open(part)
            .map_err(failed("open", part))?;
        let resumed = file.metadata().map_err(failed("read", part))?.len() > 0;
        let result = fetch::file(url, &mut file, part, options.patience, observer);
        let is_whole = |_: &bool| {
            let file = File::open(part).ok()?;
            let found = Hashing::new(file).finish().ok()?;
            digest.is_none_or(|digest| digest == found).then_some(())
        };
        match result {
            Ok(true) if resumed && is_whole(&true).is_none() => {
                file.set_len(0).map_err(failed("write", part))?;
                fetch::file(url, &mut file, part, options.patience, observer)
            }
            Ok(false) => {
                remove(part)?;
                Ok(false)
            }
            Err(error) => {
                if digest.is_none() {
                    remove(part)?;
                }
                Err(error)
            }
            done => done,
        }
    }

    /// The package that a manifest tells of, if it is there with this digest.
    fn there(&self, text: &str, origin: &str, digest: Option<Digest>) -> Option<Pulled> {
        let manifest = parse(Path::new(origin), text).ok()?;
        let entry = self.find(&manifest.name, manifest.version.as_ref()).ok()?;
        (Some(entry.digest) == digest && self.verify(&entry).is_none()).then_some(Pulled {
            imported: Imported {
                entry,
                unchanged: true,
            },
            checked: true,
        })
    }

    fn take(
        &self,
        archive: &Path,
        digest: Option<Digest>,
        manifest: Option<String>,
        options: Options,
        observer: &dyn Observer,
    ) -> Result<Pulled, RepositoryError> {
        let file = File::open(archive).map_err(failed("read", archive))?;
        let incoming = Incoming {
            origin: archive,
            manifest,
            digest,
            replace: options.replace,
        };
        Ok(Pulled {
            imported: self.store(file, incoming, observer)?,
            checked: digest.is_some(),
        })
    }
}

/// The archives of a folder that others would pull from: those of its `packages`, and its own.
///
/// # Errors
/// The folder cannot be read.
pub fn archives(folder: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
    let mut archives = Vec::new();
    for folder in [folder.join("packages"), folder.to_owned()] {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(failed("read", &folder))? {
            let path = entry.map_err(failed("read", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "mpm") && path.is_file() {
                archives.push(path);
            }
        }
    }
    archives.sort_unstable();
    Ok(archives)
}

/// Whether a source's manifest is that of the package that is wanted.
fn check(wanted: &Requirement, from: &str, place: &Path, text: &str) -> Result<(), RepositoryError> {
    let manifest = parse(place, text)?;
    if manifest.name != wanted.name {
        return Err(RepositoryError::Misplaced {
            folder: place.to_owned(),
            package: manifest.name.to_string(),
        });
    }
    match wanted.fits(manifest.version.as_ref()) {
        true => Ok(()),
        false => {
            let version = manifest
                .version
                .map_or_else(|| "no version".to_owned(), |version| version.to_string());
            Err(no_version(wanted, from.to_owned(), vec![version]))
        }
    }
}

/// A manifest that lies beside an archive is read as the one in it would be.
fn parse(place: &Path, text: &str) -> Result<Manifest, RepositoryError> {
    let place = place
        .with_file_name(META)
        .join(place.file_name().unwrap_or_default());
    Ok(Manifest::parse(&place, text.to_owned())?)
}

fn no_version(wanted: &Requirement, from: String, found: Vec<String>) -> RepositoryError {
    RepositoryError::NoVersion {
        from,
        package: wanted.to_string(),
        found,
    }
}
