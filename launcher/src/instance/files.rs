//! The files of an instance that hold JSON, and how they are changed: wholly or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// What the instance is: a [`Record`](super::Record).
pub(crate) const RECORD: &str = "instance.json";

/// What it does: a [`State`](super::State).
pub(crate) const STATE: &str = "state.json";

/// The file whose lock is the instance's.
pub(crate) const LOCK: &str = "lock";

/// The socket of the instance's supervisor.
pub(crate) const SOCKET: &str = "supervisor.sock";

/// What the instance's supervisor itself has to say, if it has a process of its own.
pub(crate) const SUPERVISOR: &str = "supervisor.log";

/// Room on the disk that is kept for one more state, for the moment in which the disk is full.
const RESERVE: &str = "reserve";

/// Bytes of the reserve: two blocks, the file's and perhaps one of its folder.
const RESERVE_SIZE: usize = 8192;

/// Sets the reserve aside.
pub(super) fn reserve(folder: &Path) -> io::Result<()> {
    // Not zeros, which some file systems do not store.
    fs::write(folder.join(RESERVE), [b'.'; RESERVE_SIZE])
}

/// Gives the reserve up, for a file that is more important now.
pub(super) fn release(folder: &Path) -> io::Result<()> {
    fs::remove_file(folder.join(RESERVE))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Damaged {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file in a folder that nobody sees yet. It is not made durable: that would be waited for at each start.
pub(super) fn write_new_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    fs::write(path, to_json(value)?)
}

/// Replaces a file: who reads it sees the old content or the new. Only its owner, who holds the lock, may.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = File::create(&temporary)?;
    file.write_all(to_json(value)?.as_bytes())?;
    // Without it a machine that loses its power may come back with an empty file.
    file.sync_data()?;
    fs::rename(&temporary, path)
}

fn to_json(value: &impl Serialize) -> io::Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}
