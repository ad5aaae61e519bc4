//! Why the repository, or a package in it, cannot be used.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use super::Digest;
use crate::archive::ArchiveError;
use crate::cache::CacheError;
use crate::manifest::ManifestError;
use crate::suggest::suggest;

/// Why the repository, or a package in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There is no such package.
    #[error("there is no package `{package}` in the repository")]
    Missing {
        /// Its name, maybe with a version.
        package: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Another archive of the same name and version is there.
    #[error("`{package}` is in the repository already, with other content")]
    Exists {
        /// Name and version.
        package: String,
    },
    /// The archive cannot be used.
    #[error("cannot use the archive `{}`", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// The archive has no program for a service of its manifest.
    #[error("`{}` has no program `/bin/{role}`, which its manifest has as a service", path.display())]
    NoProgram {
        /// The archive.
        path: PathBuf,
        /// The role.
        role: String,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The archive is another one than it should be.
    #[error("`{}` is damaged or was changed: its digest is {found}, not {expected}", path.display())]
    Digest {
        /// The archive.
        path: PathBuf,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// There is no digest where one should be.
    #[error("`{}` holds no digest, or is not there", .0.display())]
    NoDigest(PathBuf),
    /// The file of permissions is damaged.
    #[error("`{}` is damaged", .0.display())]
    Modes(PathBuf),
    /// A folder of the repository holds another package than its name says.
    #[error("`{}` holds `{package}`", folder.display())]
    Misplaced {
        /// The folder.
        folder: PathBuf,
        /// What is in it.
        package: String,
    },
    /// Where packages come from does not have the package.
    #[error("`{from}` has no package `{package}`")]
    NotThere {
        /// Where.
        from: String,
        /// Its name.
        package: String,
    },
    /// Where packages come from has no version that fits.
    #[error("`{from}` has `{package}` as {}, which does not fit", found.join(", "))]
    NoVersion {
        /// Where.
        from: String,
        /// Name and range.
        package: String,
        /// The versions that it has.
        found: Vec<String>,
    },
    /// Something that is no source of packages.
    #[error("`{0}` is no folder, and no address that begins with `http://`")]
    Address(String),
    /// The network may not be used.
    #[error("`{0}` would need the network, which `HERMITAGE_OFFLINE` forbids")]
    Offline(String),
    /// The server cannot be asked.
    #[error("cannot get `{url}`")]
    Request {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server answers something else.
    #[error("cannot get `{url}`: the server answers {status} {reason}")]
    Status {
        /// What was asked for.
        url: String,
        /// The number.
        status: u16,
        /// What the server calls it.
        reason: String,
    },
    /// The server says nothing.
    #[error("cannot get `{url}`: nothing came for {time:?}")]
    Silent {
        /// What was asked for.
        url: String,
        /// How long was waited.
        time: Duration,
    },
    /// The server ends too early.
    #[error("cannot get `{url}`: it ended after {have} of {total} bytes")]
    CutOff {
        /// What was asked for.
        url: String,
        /// Bytes that came.
        have: u64,
        /// Bytes that were promised.
        total: u64,
    },
    /// The server's answer is larger than what is taken.
    #[error("`{url}` is larger than {max} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        max: u64,
    },
    /// What came is no text.
    #[error("`{0}` is not UTF-8")]
    Text(String),
    /// A file or folder cannot be used.
    #[error(transparent)]
    Folder(#[from] CacheError),
}

impl RepositoryError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { package, known } => suggest(package, known)
                .or_else(|| Some("`cargo xtask package import` or `pull` brings packages".to_owned())),
            Self::Exists { .. } => {
                Some("give the new one another version, or replace the old one with `--force`".to_owned())
            }
            Self::Archive { source, .. } => source.hint(),
            Self::Manifest(error) => error.hint(),
            Self::NoProgram { .. } => Some("`cargo xtask package build` puts programs in".to_owned()),
            Self::NoDigest(_) | Self::Modes(_) | Self::Misplaced { .. } => {
                Some("remove the package with `cargo xtask package rm`, and bring it again".to_owned())
            }
            Self::Address(address) if address.starts_with("https:") => {
                Some("there is no https here; digests say whether all is well".to_owned())
            }
            Self::Request { .. } | Self::Silent { .. } | Self::CutOff { .. } => {
                Some("run the command again: it goes on where it was, if the source has digests".to_owned())
            }
            Self::Folder(CacheError::Io { path, source, .. }) if source.kind() == ErrorKind::StorageFull => {
                Some(format!(
                    "free some space on the file system of `{}`; `HERMITAGE_ROOT` says where packages are, \
                     `HERMITAGE_CACHE` where downloads are",
                    path.display()
                ))
            }
            Self::Folder(error) => error.hint(),
            _ => None,
        }
    }
}
