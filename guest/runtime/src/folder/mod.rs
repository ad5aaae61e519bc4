//! Folders: files of `std::fs` that outlive the machine, on a volume.
//!
//! ```no_run
//! let data = hermitage_runtime::folder::mount("data")?;
//! std::fs::write(data.join("kept"), "for ever")?;
//! std::fs::File::open(data.join("kept"))?.sync_all()?; // From here on it is safe, whatever is killed.
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! In a guest the volume of that label is mounted at `/data`; on the host the folder of that name in the folder that
//! `HERMITAGE_VOLUMES` names takes its place. What is not synced is lost when the power goes, all that came after a
//! moment, and nothing that came before; a program that ends loses nothing.
//!
//! The tree ([`tree`]) is kept in a data base of redb, behind a sector that says so ([`superblock`]).

mod chunk;
pub mod error;
#[cfg_attr(target_os = "hermit", path = "guest.rs")]
#[cfg_attr(not(target_os = "hermit"), path = "host.rs")]
mod mounted;
mod superblock;
mod tables;
#[cfg(all(test, not(target_os = "hermit")))]
mod tests;
pub mod tree;

pub use tree::Tree;

use std::io;
use std::path::PathBuf;

use crate::Volume;

/// A disk that a tree lies on.
pub trait Bytes: Send + Sync + 'static {
    /// Bytes that it has.
    fn size(&self) -> u64;

    /// Fills the buffer with what is there from `offset` on.
    ///
    /// # Errors
    /// It ends before, or fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Replaces what is there from `offset` on.
    ///
    /// # Errors
    /// It ends before, or fails.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when all that was written before is on stable storage.
    ///
    /// # Errors
    /// It fails.
    fn flush(&self) -> io::Result<()>;
}

impl Bytes for Volume {
    fn size(&self) -> u64 {
        self.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.flush()
    }
}

/// Makes the files of a volume reachable by `std::fs`, and says below which path. One that has never been written to
/// gets an empty folder. There is one folder for a machine.
///
/// # Errors
/// `NotFound`: no volume of this label is attached. `InvalidData`: there is something else on it, or it is damaged;
/// nothing was written. `ReadOnlyFilesystem`: it cannot be written. `AlreadyExists`: one is mounted.
pub fn mount(label: &str) -> io::Result<PathBuf> {
    mounted::mount(label)
}
