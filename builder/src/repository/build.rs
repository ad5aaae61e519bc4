//! From a package's folder to its archive, and to a package's first manifest.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::entry::{Digest, Hashing};
use super::sibling;
use crate::archive::read::Discard;
use crate::archive::{self, ArchiveError, Compression, Limits, read};
use crate::cache::{Cache, CacheError, Lock, Staged, failed};
use crate::event::Event;
use crate::gather::{GatherError, gather};
use crate::manifest::{META, Manifest, PackageName};
use crate::package::{PackageError, compile};
use crate::session::Session;
use crate::toolchain::GuestToolchain;

/// Why a package's archive was not made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its services cannot be compiled.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Its files cannot be gathered.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The archive cannot be written, or could not be read by anybody.
    #[error("cannot make the archive `{}`", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// There is a manifest already.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// The folder's name cannot be a package's.
    #[error("`{0}` is no name of a package")]
    Name(String),
    /// A file or folder cannot be used.
    #[error(transparent)]
    Folder(#[from] CacheError),
}

impl BuildError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Package(error) => error.hint(),
            Self::Gather(error) => error.hint(),
            Self::Archive { source, .. } => source.hint(),
            Self::Exists(_) => Some("nothing is replaced: remove it first".to_owned()),
            Self::Name(_) => Some(
                "give `--name`: at most 64 letters, digits, `-`, `_` or `.`, the first a letter or a digit"
                    .to_owned(),
            ),
            Self::Folder(error) => error.hint(),
        }
    }
}

/// An archive that was made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The archive; its manifest and its digest are beside it.
    pub archive: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Bytes of it.
    pub bytes: u64,
    /// Regular files in it.
    pub files: usize,
}

/// Makes the archive of a package in the folder `output`: its files, and the programs of its services. What it requires
/// is not in it.
///
/// # Errors
/// A stage fails; an old archive is intact then.
pub fn build(
    session: &Session<'_>,
    manifest: &Path,
    output: &Path,
    compression: Compression,
) -> Result<Built, BuildError> {
    let package = Manifest::read(manifest).map_err(PackageError::from)?;
    for warning in &package.warnings {
        session.observer.event(&Event::Warning(warning.clone()));
    }
    let text = fs::read_to_string(manifest).map_err(failed("read", manifest))?;
    let run = match manifest.parent().and_then(Path::file_name) {
        Some(folder) if folder == META => {
            let path = manifest.with_file_name("run.yaml");
            match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                run => Some(run.map_err(failed("read", &path))?),
            }
        }
        _ => None,
    };
    let packages = std::slice::from_ref(&package);
    let binaries = match package.services.is_empty() {
        true => Default::default(),
        false => {
            let toolchain = GuestToolchain::provide(session).map_err(PackageError::from)?;
            compile(session, &toolchain, packages)?
        }
    };
    let tree = gather(packages, &binaries)?;

    let path = output.join(format!("{}.mpm", package.name));
    let (lock, place) = lock(session, &path)?;
    let staged = Staged::new(&path)?;
    let in_archive = |source| BuildError::Archive {
        path: path.clone(),
        source,
    };
    let file = File::create_new(staged.path()).map_err(failed("create", staged.path()))?;
    let mut file = io::BufWriter::new(file);
    archive::write(&mut file, compression, &tree, &text, run.as_deref()).map_err(in_archive)?;
    let synced = file
        .into_inner()
        .map_err(io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all());
    synced.map_err(failed("write", staged.path()))?;

    // What cannot be imported must not be given away.
    let file = File::open(staged.path()).map_err(failed("read", staged.path()))?;
    let bytes = file.metadata().map_err(failed("read", staged.path()))?.len();
    let mut input = Hashing::new(file);
    let contents = read::read(&mut input, &mut Discard, &Limits::default()).map_err(in_archive)?;
    let digest = input.finish().map_err(failed("read", staged.path()))?;
    staged.publish_file()?;
    put(&sibling(&path, ".yaml"), &text)?;
    put(&sibling(&path, ".digest"), &format!("{digest}\n"))?;
    lock.remove(&place)?;
    Ok(Built {
        archive: path,
        digest,
        bytes,
        files: contents.files,
    })
}

/// Keeps two builds of one archive apart: a lock, and what it is the lock of. It lies in the cache, since an output
/// folder holds what is given away.
fn lock(session: &Session<'_>, archive: &Path) -> Result<(Lock, PathBuf), CacheError> {
    let real = std::path::absolute(archive).map_err(failed("find", archive))?;
    let key = blake3::hash(real.as_os_str().as_encoded_bytes()).to_hex();
    let cache = Cache::new(&session.environment)?;
    let what = format!("the archive `{}`", archive.display());
    let place = cache.path("archives").join(&key[..32]);
    Ok((Lock::take(&place, &what, session.observer)?, place))
}

/// Writes a file under a temporary name, then gives it its own.
fn put(path: &Path, text: &str) -> Result<(), CacheError> {
    let staged = Staged::new(path)?;
    let mut file = File::create_new(staged.path()).map_err(failed("create", staged.path()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed("write", staged.path()))?;
    staged.publish_file()
}

/// Writes a first `package.yaml` into a folder, which is made if it is not there; the file's path.
///
/// # Errors
/// There is a manifest already, or it cannot be written.
pub fn init(folder: &Path, name: Option<&PackageName>) -> Result<PathBuf, BuildError> {
    if let Some(there) = Manifest::find(folder) {
        return Err(BuildError::Exists(there));
    }
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let real = folder.canonicalize().map_err(failed("find", folder))?;
    let last = real.file_name().unwrap_or_default().to_string_lossy();
    let name = match name {
        Some(name) => name.clone(),
        None => PackageName::new(&last).ok_or_else(|| BuildError::Name(last.into_owned()))?,
    };
    let path = folder.join("package.yaml");
    let written = File::create_new(&path).and_then(|mut file| file.write_all(skeleton(&name).as_bytes()));
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BuildError::Exists(path)),
        result => {
            result.map_err(failed("write", &path))?;
            Ok(path)
        }
    }
}

fn skeleton(name: &PackageName) -> String {
    format!(
        "\
name: {name}
title: {name}
author: nobody yet
version: 0.1.0
# description: What it is for

# Packages that are put into the image, too.
# require:
#   - other@^1.2

# Programs: folders of crates.
# services:
#   - services/{name}

# Files, from this folder.
# files:
#   - source: site
#     destination: /site

# Commands by name, and the one that is started if nothing else is asked for.
# config_set:
#   default:
#     bootcmd: {name} --option
# config_set_default: default
"
    )
}
