//! The candidates, each behind the same few calls.

pub mod littlefs;
pub mod redb;
pub mod redoxfs;
pub mod rsext4;

use crate::disk::Disk;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Full,
    NotFound,
    Other(String),
}

pub type Result<T> = std::result::Result<T, Failure>;

/// What is asked of a file system. Paths begin with `/`; a file is a number while it is open.
pub trait System: Sized {
    fn format(disk: &Disk) -> Result<()>;
    fn mount(disk: &Disk) -> Result<Self>;
    fn make_directory(&mut self, path: &str) -> Result<()>;
    fn open(&mut self, path: &str, create: bool) -> Result<u64>;
    fn close(&mut self, file: u64) -> Result<()>;
    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> Result<()>;
    fn read(&mut self, file: u64, offset: u64, buffer: &mut [u8]) -> Result<usize>;
    fn remove(&mut self, path: &str) -> Result<()>;
    fn rename(&mut self, old: &str, new: &str) -> Result<()>;
    /// Names, and for files how long they are.
    fn list(&mut self, path: &str) -> Result<Vec<(String, Option<u64>)>>;
    fn exists(&mut self, path: &str) -> Result<bool>;
    /// Returns when all that was done before is safe.
    fn sync(&mut self) -> Result<()>;
}

/// A path's directory and name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
