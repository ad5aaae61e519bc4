//! Package archives (`.mpm`): a package's files as they lie in an image, and its manifest, in one file.
//!
//! An archive is a tar file, commonly with gzip around it. `meta/package.yaml` is the manifest, `meta/run.yaml` may be
//! beside it (Capstan); everything else is at its path in the image. `docs/repository.md` has the details.
//!
//! - [`read`]: goes through an archive from any [`std::io::Read`] and hands what is in it to a [`read::Sink`];
//! - [`unpack`]: a sink that is a folder;
//! - [`write()`]: the archive of a tree, the same bytes for the same tree.
//!
//! **An archive may come from anywhere.** Whatever its bytes are, reading it ends with a value or an error, after work
//! and in memory that [`Limits`] bound, and nothing outside of the given folder is written. Start at [`read::read`].

mod error;
mod extensions;
mod limits;
pub mod read;
pub mod unpack;
mod write;

pub use error::{ArchiveError, Fault};
pub use limits::Limits;
pub use read::Contents;
pub use write::{Compression, write};

/// The manifest's place in an archive.
pub(crate) const MANIFEST: &[u8] = b"meta/package.yaml";

/// The place of Capstan's boot sets in an archive.
pub(crate) const RUN: &[u8] = b"meta/run.yaml";
