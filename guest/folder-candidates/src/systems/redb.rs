//! Ours: the tree in redb that `guest/runtime` has.

use std::io;

use hermitage_runtime::folder::Bytes;
use hermitage_runtime::folder::error::Error;
use hermitage_runtime::folder::tree::{How, Tree};

use super::{Failure, Result, System};
use crate::disk::Disk;

impl Bytes for Disk {
    fn size(&self) -> u64 {
        self.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(offset, buffer) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.write_at(offset, bytes) {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.flush();
        Ok(())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::FULL => Self::Full,
            Error::NOT_FOUND => Self::NotFound,
            error => Self::Other(format!("{error:?}")),
        }
    }
}

pub struct Redb(Tree);

impl System for Redb {
    fn format(disk: &Disk) -> Result<()> {
        Self::mount(disk).map(drop)
    }

    fn mount(disk: &Disk) -> Result<Self> {
        match Tree::open(disk.clone()) {
            Ok(tree) => Ok(Self(tree)),
            Err(error) => Err(Failure::Other(error.to_string())),
        }
    }

    fn make_directory(&mut self, path: &str) -> Result<()> {
        Ok(self.0.make_directory(path.as_bytes())?)
    }

    fn open(&mut self, path: &str, create: bool) -> Result<u64> {
        let how = How {
            create,
            write: true,
            ..How::default()
        };
        Ok(self.0.open_file(path.as_bytes(), how)?)
    }

    fn close(&mut self, file: u64) -> Result<()> {
        Ok(self.0.close(file)?)
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write(file, Some(offset), bytes)?)
    }

    fn read(&mut self, file: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.read(file, offset, buffer)?)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let node = self.0.stat(path.as_bytes())?;
        Ok(self.0.remove(path.as_bytes(), node.is_directory)?)
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        Ok(self.0.rename(old.as_bytes(), new.as_bytes())?)
    }

    fn list(&mut self, path: &str) -> Result<Vec<(String, Option<u64>)>> {
        let directory = self.0.stat(path.as_bytes())?;
        let entries = self.0.list(directory.inode)?.into_iter();
        Ok(entries
            .map(|(name, node)| {
                let size = (!node.is_directory).then_some(node.size);
                (String::from_utf8_lossy(&name).into_owned(), size)
            })
            .collect())
    }

    fn exists(&mut self, path: &str) -> Result<bool> {
        match self.0.stat(path.as_bytes()) {
            Ok(_) => Ok(true),
            Err(Error::NOT_FOUND) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.0.sync()?)
    }
}
