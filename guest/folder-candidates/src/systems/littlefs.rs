//! littlefs, by its port to Rust: the C library's bindings want libclang.

use littlefs_rust::{Config, Error, File, FileType, Filesystem, OpenFlags, SeekFrom, Storage};

use super::{Failure, Result, System};
use crate::disk::Disk;

const BLOCK: u32 = 4096;

pub struct Blocks(Disk);

impl Storage for Blocks {
    fn read(&mut self, block: u32, offset: u32, buffer: &mut [u8]) -> std::result::Result<(), Error> {
        if self
            .0
            .read_at(u64::from(block) * u64::from(BLOCK) + u64::from(offset), buffer)
        {
            Ok(())
        } else {
            Err(Error::Io)
        }
    }

    fn write(&mut self, block: u32, offset: u32, bytes: &[u8]) -> std::result::Result<(), Error> {
        if self
            .0
            .write_at(u64::from(block) * u64::from(BLOCK) + u64::from(offset), bytes)
        {
            Ok(())
        } else {
            Err(Error::Io)
        }
    }

    fn erase(&mut self, _: u32) -> std::result::Result<(), Error> {
        // A disk needs none.
        Ok(())
    }

    fn sync(&mut self) -> std::result::Result<(), Error> {
        self.0.flush();
        Ok(())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSpace => Self::Full,
            Error::NoEntry => Self::NotFound,
            error => Self::Other(format!("{error:?}")),
        }
    }
}

/// Files that are open refer to the file system: they are closed before it is given back.
pub struct Littlefs {
    system: &'static Filesystem<Blocks>,
    open: Vec<Option<File<'static, Blocks>>>,
}

fn config(disk: &Disk) -> Config {
    let mut config = Config::new(BLOCK, (disk.size() / u64::from(BLOCK)) as u32);
    config.read_size = 512;
    config.prog_size = 512;
    config
}

impl System for Littlefs {
    fn format(disk: &Disk) -> Result<()> {
        Ok(Filesystem::format(&mut Blocks(disk.clone()), &config(disk))?)
    }

    fn mount(disk: &Disk) -> Result<Self> {
        let mounted = Filesystem::mount(Blocks(disk.clone()), config(disk)).map_err(|(error, _)| error)?;
        Ok(Self {
            system: Box::leak(Box::new(mounted)),
            open: Vec::new(),
        })
    }

    fn make_directory(&mut self, path: &str) -> Result<()> {
        Ok(self.system.mkdir(path)?)
    }

    fn open(&mut self, path: &str, create: bool) -> Result<u64> {
        let mut flags = OpenFlags::READ | OpenFlags::WRITE;
        if create {
            flags = flags | OpenFlags::CREATE;
        }
        let file = self.system.open(path, flags)?;
        let place = self
            .open
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.open.len());
        if place == self.open.len() {
            self.open.push(None);
        }
        self.open[place] = Some(file);
        Ok(place as u64)
    }

    fn close(&mut self, file: u64) -> Result<()> {
        match self.open.get_mut(file as usize).and_then(Option::take) {
            Some(file) => Ok(file.close()?),
            None => Ok(()),
        }
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.open[file as usize].as_ref().ok_or(Failure::NotFound)?;
        file.seek(SeekFrom::Start(offset as u32))?;
        let length = file.write(bytes)?;
        if length as usize == bytes.len() {
            Ok(())
        } else {
            Err(Failure::Full)
        }
    }

    fn read(&mut self, file: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let file = self.open[file as usize].as_ref().ok_or(Failure::NotFound)?;
        file.seek(SeekFrom::Start(offset as u32))?;
        Ok(file.read(buffer)? as usize)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        Ok(self.system.remove(path)?)
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        Ok(self.system.rename(old, new)?)
    }

    fn list(&mut self, path: &str) -> Result<Vec<(String, Option<u64>)>> {
        let entries = self.system.list_dir(path)?.into_iter();
        Ok(entries
            .map(|entry| {
                let size = (entry.file_type == FileType::File).then_some(u64::from(entry.size));
                (entry.name, size)
            })
            .collect())
    }

    fn exists(&mut self, path: &str) -> Result<bool> {
        match self.system.stat(path) {
            Ok(_) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&mut self) -> Result<()> {
        for file in self.open.iter().flatten() {
            file.sync()?;
        }
        Ok(())
    }
}

impl Drop for Littlefs {
    fn drop(&mut self) {
        self.open.clear();
        // SAFETY: it was leaked when this was made, and no file refers to it any more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(self.system).cast_mut()) });
    }
}
