//! Why an archive cannot be read or written.

use std::fmt;
use std::io;

use crate::inspect::shown;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no archive, or damaged.
    #[error("it is no archive, or a damaged one")]
    Damaged(#[source] io::Error),
    /// It ends too early.
    #[error("it is cut off")]
    CutOff,
    /// Something in it cannot be in an archive.
    #[error("`{}` {fault}", shown(path))]
    Entry {
        /// Its path.
        path: Vec<u8>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// It is larger than what is taken.
    #[error("it has more than {max} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much of it is taken.
        max: u64,
    },
    /// It has no manifest.
    #[error("it has no `meta/package.yaml`")]
    NoManifest,
    /// Its manifest is no text.
    #[error("its manifest is not UTF-8")]
    ManifestText,
    /// What is in it cannot be stored.
    #[error("cannot unpack `{}`", shown(path))]
    Store {
        /// Its path.
        path: Vec<u8>,
        /// Why.
        source: io::Error,
    },
    /// A source of an archive that is written cannot be read.
    #[error("cannot read `{path}`")]
    Source {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl ArchiveError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoManifest => Some(
                "put the manifest beside it, as `<name>.yaml`, or build the archive with `cargo xtask package build`"
                    .to_owned(),
            ),
            Self::Entry {
                fault: Fault::LinkOut(_),
                ..
            } => Some(
                "a link's target is a path in the archive, `/from/its/root` or with `..` at its start alone"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// What is wrong with an entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its path leaves the archive, is too long, or has a name that no file can have.
    Path,
    /// It is a hard link, a device or something else that is no file, folder or symbolic link.
    Kind(&'static str),
    /// It is there twice.
    Twice,
    /// It lies in something that is a file.
    InFile,
    /// It lies in something that is a symbolic link.
    ThroughLink,
    /// It is a symbolic link to this, which is not in the archive.
    LinkOut(Vec<u8>),
    /// It is in the folder of the manifest, which is no part of an image.
    Meta,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("leaves the archive, or is no path that a file can have"),
            Self::Kind(kind) => write!(f, "is {kind}; an archive has files, folders and symbolic links"),
            Self::Twice => f.write_str("is there twice"),
            Self::InFile => f.write_str("lies in something that is a file"),
            Self::ThroughLink => f.write_str("lies in something that is a symbolic link"),
            Self::LinkOut(target) => write!(f, "links to `{}`, out of the archive", shown(target)),
            Self::Meta => f.write_str("lies in `meta`, which is no part of an image"),
        }
    }
}
