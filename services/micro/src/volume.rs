//! State that outlives its service: a data base on a volume.

use std::io;

pub use hermitage_runtime::sum::sum;
use hermitage_runtime::{Volume, volume::File};
use redb::{Database, DatabaseError};

/// The data base on the volume of a label, with so many bytes of it in memory, and the volume's size in bytes; `None`
/// if no such volume is attached.
///
/// A disk that turns out to be full while the data base grows ends it until the next start: who stores what users send
/// keeps to a bound of his own. The data base doubles its room when it is short of some.
///
/// # Errors
/// There is something else on the volume, it is damaged, open elsewhere, or cannot be written.
pub fn data_base(label: &str, cache: usize) -> io::Result<Option<(Database, u64)>> {
    if !Volume::is_attached(label)? {
        return Ok(None);
    }
    let volume = Volume::open(label)?;
    if volume.is_read_only() {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    let size = volume.len();
    let base = Database::builder()
        .set_cache_size(cache)
        .create_with_backend(File::on(volume)?);
    match base {
        Ok(base) => Ok(Some((base, size))),
        Err(DatabaseError::Storage(error)) => Err(failed(error)),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
    }
}

/// A row of the data base is not what was put there.
pub fn damaged(label: &str, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the volume `{label}` is damaged: {what} is not what was put there"),
    )
}

/// What the data base says of a failure, as one of the disk where it is that.
pub fn failed(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error.to_string()),
    }
}
