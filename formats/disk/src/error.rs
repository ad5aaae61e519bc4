//! What can go wrong with a disk.

use std::io;
use std::path::PathBuf;

use hermitage_boot::config::{DecodeError, EncodeError};

/// Why a disk cannot be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot create `{}`", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else, or its header is damaged.
    #[error("`{}` is not a qcow2 image", path.display())]
    NotQcow2 {
        /// The file.
        path: PathBuf,
        /// What the header lacks.
        source: io::Error,
    },
    /// An image of its own names a backing file or a data file. Whoever made the image could have any file of the
    /// user's read this way, so only overlays, which the launcher makes, may have one.
    #[error("`{}` refers to another file, which an image must not", path.display())]
    RefersToFile {
        /// The image.
        path: PathBuf,
    },
    /// A file that should be an overlay stands alone.
    #[error("`{}` is no overlay: no image backs it", path.display())]
    NotAnOverlay {
        /// The file.
        path: PathBuf,
    },
    /// The path cannot be written into a qcow2 header.
    #[error("`{}` cannot back an overlay: its path is not UTF-8, or longer than 1023 bytes", path.display())]
    BackingPath {
        /// The backing file.
        path: PathBuf,
    },
    /// There is no intact partition table, at the start and at the end of the disk.
    #[error("`{}` has no intact partition table: it is cut off, damaged, or no image of ours", path.display())]
    PartitionTable {
        /// The image.
        path: PathBuf,
        /// What is wrong with the table.
        source: io::Error,
    },
    /// A partition is missing.
    #[error("`{}` has no partition `{name}`", path.display())]
    NoPartition {
        /// The image.
        path: PathBuf,
        /// The partition's name.
        name: &'static str,
    },
    /// A partition lies outside the disk, or is larger than it can be.
    #[error("partition `{name}` of `{}` has a wrong size or place", path.display())]
    PartitionBounds {
        /// The image.
        path: PathBuf,
        /// The partition's name.
        name: &'static str,
    },
    /// The loader is not the one that the boot code was written with.
    #[error("`{}` has a damaged loader", path.display())]
    Loader {
        /// The image.
        path: PathBuf,
    },
    /// The boot configuration on the disk is damaged.
    #[error("`{}`: {source}", path.display())]
    BootConfig {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Somebody runs the image.
    #[error("`{}` is in use", path.display())]
    InUse {
        /// The image.
        path: PathBuf,
    },
    /// Somebody keeps the image to himself.
    #[error("`{}` is being changed by another process", path.display())]
    BeingChanged {
        /// The image.
        path: PathBuf,
    },
    /// The boot configuration is one that a guest cannot take.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Reading or writing failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write` or `lock`.
        action: &'static str,
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotQcow2 { .. }
            | Self::PartitionTable { .. }
            | Self::NoPartition { .. }
            | Self::Loader { .. }
            | Self::BootConfig { .. } => {
                Some("compose the image again: `cargo xtask compose <package>`".to_owned())
            }
            Self::RefersToFile { path, .. } => Some(format!(
                "make it independent: `qemu-img convert -O qcow2 {0} {0}.new`",
                path.display()
            )),
            Self::BeingChanged { .. } => Some("try again when that has ended".to_owned()),
            _ => None,
        }
    }
}
