//! A package in the repository: its folder, read and written.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{ARCHIVE, RepositoryError, UNVERSIONED, sibling, version_folder};
use crate::archive::read::{self, Sink};
use crate::archive::{Contents, Limits};
use crate::cache::failed;
use crate::manifest::{MAX_MANIFEST, META, Manifest};

/// Paths of an archive, and the permission bits of each.
pub(super) type Modes = Vec<(Vec<u8>, u16)>;

/// The digest of an archive's bytes, as they are: `blake3:<64 hexadecimal digits>`. `b3sum` says it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(blake3::Hash);

impl Digest {
    /// Reads a digest, with or without what it is in front and white space around it. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let hex = text.strip_prefix("blake3:").unwrap_or(text);
        blake3::Hash::from_hex(hex).ok().map(Self)
    }

    /// The digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.to_hex().to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.0)
    }
}

/// A package that is in the repository.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its folder.
    pub folder: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// The digest of its archive.
    pub digest: Digest,
    /// Bytes of its archive.
    pub bytes: u64,
}

impl Entry {
    /// Reads what is said of a package in its folder; the archive itself is not read.
    pub(super) fn open(folder: &Path, name: &str, version: &str) -> Result<Self, RepositoryError> {
        let manifest = Manifest::read(&folder.join(META).join("package.yaml"))?;
        let is = manifest
            .version
            .as_ref()
            .map_or_else(|| UNVERSIONED.to_owned(), version_folder);
        if manifest.name.as_str() != name || is != version {
            return Err(RepositoryError::Misplaced {
                folder: folder.to_owned(),
                package: format!("{}@{is}", manifest.name),
            });
        }
        let path = folder.join("digest");
        let digest = read_digest(&path)?.ok_or(RepositoryError::NoDigest(path))?;
        let archive = folder.join(ARCHIVE);
        let bytes = fs::metadata(&archive).map_err(failed("read", &archive))?.len();
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            digest,
            bytes,
        })
    }

    /// Its archive.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.join(ARCHIVE)
    }

    /// Goes through its archive, which must have the digest that is kept beside it.
    pub(super) fn read(&self, sink: &mut dyn Sink) -> Result<Contents, RepositoryError> {
        let path = self.archive();
        let file = File::open(&path).map_err(failed("read", &path))?;
        let mut input = Hashing::new(file);
        let result = read::read(&mut input, sink, &Limits::default());
        let found = input.finish().map_err(failed("read", &path))?;
        // Before whatever else is wrong with it: another digest explains that.
        if found != self.digest {
            return Err(RepositoryError::Digest {
                path,
                expected: self.digest,
                found,
            });
        }
        result.map_err(|source| RepositoryError::Archive { path, source })
    }

    /// Its version as its folder is named.
    #[must_use]
    pub fn version(&self) -> String {
        self.manifest
            .version
            .as_ref()
            .map_or_else(|| UNVERSIONED.to_owned(), ToString::to_string)
    }

    /// The permissions of its paths, if they are not those that composition gives.
    pub(super) fn modes(&self) -> Result<Option<Modes>, RepositoryError> {
        let path = self.folder.join("modes");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(failed("read", &path))?,
        };
        let record = |record: &[u8]| {
            let (mode, path) = record.split_at_checked(5)?;
            let mode = std::str::from_utf8(mode.strip_suffix(b" ")?).ok()?;
            Some((path.to_vec(), u16::from_str_radix(mode, 8).ok()?))
        };
        let records = bytes.split(|byte| *byte == 0).filter(|bytes| !bytes.is_empty());
        let modes: Option<Vec<_>> = records.map(record).collect();
        modes.map(Some).ok_or(RepositoryError::Modes(path))
    }
}

/// Writes what is said of a package into its folder, where its archive lies; the permissions of each path if they, or what
/// the path may override, must be told one by one.
pub(super) fn write(
    folder: &Path,
    contents: &Contents,
    digest: &Digest,
    precise: bool,
) -> Result<(), RepositoryError> {
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(failed("write", &path))
    };
    let meta = folder.join(META);
    fs::create_dir(&meta).map_err(failed("create", &meta))?;
    put(
        "meta/package.yaml",
        contents.manifest.as_deref().unwrap_or_default().as_bytes(),
    )?;
    if let Some(run) = &contents.run {
        put("meta/run.yaml", run.as_bytes())?;
    }
    put("digest", format!("{digest}\n").as_bytes())?;
    if !precise {
        return Ok(());
    }
    let mut modes = Vec::new();
    for (path, mode) in &contents.modes {
        modes.extend(format!("{mode:04o} ").bytes());
        modes.extend_from_slice(path);
        modes.push(0);
    }
    Ok(put("modes", &modes)?)
}

/// What lies beside an archive: its manifest and its digest.
pub(super) fn beside(archive: &Path) -> Result<(Option<String>, Option<Digest>), RepositoryError> {
    let manifest = sibling(archive, ".yaml");
    let text = match File::open(&manifest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => {
            let mut text = String::new();
            file.and_then(|file| file.take(MAX_MANIFEST as u64 + 1).read_to_string(&mut text))
                .map_err(failed("read", &manifest))?;
            Some(text)
        }
    };
    Ok((text, read_digest(&sibling(archive, ".digest"))?))
}

/// The digest in a file; `None` if there is no such file.
pub(super) fn read_digest(path: &Path) -> Result<Option<Digest>, RepositoryError> {
    let mut text = String::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // One line; whatever else the file is, no more of it is read.
        file => file
            .and_then(|file| file.take(200).read_to_string(&mut text))
            .map_err(failed("read", path))?,
    };
    Digest::parse(&text)
        .map(Some)
        .ok_or_else(|| RepositoryError::NoDigest(path.to_owned()))
}

/// Takes the digest of all that is read through it.
pub(super) struct Hashing<R> {
    input: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            hasher: blake3::Hasher::new(),
        }
    }

    /// Of what was read so far.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hasher.finalize())
    }

    /// Of everything, read to its end.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.digest())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
