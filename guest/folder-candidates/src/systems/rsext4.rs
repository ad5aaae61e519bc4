//! ext4 by rsext4, with its journal.

use rsext4::{
    BlockIo, Clock, DeviceCapabilities, DeviceGeometry, DirectoryCursor, DirectoryEntryType, Ext4, Ext4Error,
    Ext4ErrorKind, Ext4Result, Ext4Timestamp, FileName, FilePermissions, InodeNumber, MkfsOptions,
    MountOptions, MountServices, MountedServices, MutationContext, NoopObserver, RenameOptions, SectorId,
};

use super::{Failure, Result, System, split};
use crate::disk::Disk;

const SECTOR: u64 = 4096;

/// Entries of a directory that are read at once.
const ENTRIES: usize = 1024;

pub struct Sectors(Disk);

impl BlockIo for Sectors {
    fn write(&mut self, buffer: &[u8], sector: SectorId, _: u32) -> Ext4Result<()> {
        if self.0.write_at(sector.raw() * SECTOR, buffer) {
            Ok(())
        } else {
            Err(Ext4Error::io())
        }
    }

    fn read(&mut self, buffer: &mut [u8], sector: SectorId, _: u32) -> Ext4Result<()> {
        if self.0.read_at(sector.raw() * SECTOR, buffer) {
            Ok(())
        } else {
            Err(Ext4Error::io())
        }
    }

    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry::new(SECTOR as u32, self.0.size() / SECTOR)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        DeviceCapabilities {
            flush: true,
            ..DeviceCapabilities::default()
        }
    }

    fn flush(&mut self) -> Ext4Result<()> {
        self.0.flush();
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Ext4Result<Ext4Timestamp> {
        Ok(Ext4Timestamp::new(1_700_000_000, 0))
    }
}

impl From<Ext4Error> for Failure {
    fn from(error: Ext4Error) -> Self {
        match error.kind() {
            Ext4ErrorKind::NoSpace => Self::Full,
            Ext4ErrorKind::NotFound => Self::NotFound,
            _ => Self::Other(format!("{error:?}")),
        }
    }
}

pub struct Rsext4(Ext4<Sectors, MountedServices<(), NoopObserver>>);

fn owner() -> MutationContext {
    MutationContext::new(0, 0, 0, 0)
}

impl Rsext4 {
    fn find(&mut self, path: &str) -> Result<InodeNumber> {
        let mut here = self.0.root_inode();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = self.0.lookup_child(here, FileName::new(name.as_bytes())?)?;
            here = found.ok_or(Failure::NotFound)?.number;
        }
        Ok(here)
    }
}

fn inode(file: u64) -> Result<InodeNumber> {
    Ok(InodeNumber::new(file as u32)?)
}

impl System for Rsext4 {
    fn format(disk: &Disk) -> Result<()> {
        rsext4::format(Sectors(disk.clone()), Still, MkfsOptions::default())?;
        Ok(())
    }

    fn mount(disk: &Disk) -> Result<Self> {
        let services = MountServices::new(Still, (), NoopObserver);
        let mounted = Ext4::mount(Sectors(disk.clone()), services, MountOptions::read_write())?;
        Ok(Self(mounted))
    }

    fn make_directory(&mut self, path: &str) -> Result<()> {
        let (parent, name) = split(path);
        let parent = self.find(parent)?;
        let name = FileName::new(name.as_bytes())?;
        self.0
            .create_directory(owner(), parent, name, FilePermissions::new(0o755)?)?;
        Ok(())
    }

    fn open(&mut self, path: &str, create: bool) -> Result<u64> {
        match self.find(path) {
            Err(Failure::NotFound) if create => {
                let (parent, name) = split(path);
                let parent = self.find(parent)?;
                let name = FileName::new(name.as_bytes())?;
                let made = self
                    .0
                    .create_regular_file(owner(), parent, name, FilePermissions::new(0o644)?)?;
                Ok(u64::from(made.number.raw()))
            }
            found => Ok(u64::from(found?.raw())),
        }
    }

    fn close(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_inode(inode(file)?, offset, bytes)?)
    }

    fn read(&mut self, file: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.read_inode(inode(file)?, offset, buffer)?)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let (parent, name) = split(path);
        let (parent, number) = (self.find(parent)?, self.find(path)?);
        let name = FileName::new(name.as_bytes())?;
        let gone = if self.0.inode(number)?.file_type() == DirectoryEntryType::Directory {
            self.0.remove_empty_directory(parent, name)?
        } else {
            self.0.unlink(parent, name)?
        };
        if gone.requires_reap() {
            self.0.reap_unlinked_inode(gone.inode)?;
        }
        Ok(())
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        let ((old_parent, old), (new_parent, new)) = (split(old), split(new));
        let (from, to) = (self.find(old_parent)?, self.find(new_parent)?);
        let (old, new) = (FileName::new(old.as_bytes())?, FileName::new(new.as_bytes())?);
        let outcome = self.0.rename(from, old, to, new, RenameOptions::REPLACE)?;
        if let Some(gone) = outcome.replaced.filter(|gone| gone.requires_reap()) {
            self.0.reap_unlinked_inode(gone.inode)?;
        }
        Ok(())
    }

    fn list(&mut self, path: &str) -> Result<Vec<(String, Option<u64>)>> {
        let directory = self.find(path)?;
        let mut list = Vec::new();
        let mut cursor = DirectoryCursor::Start;
        loop {
            let entries = self.0.read_directory(directory, cursor, ENTRIES)?;
            let Some(last) = entries.last() else {
                return Ok(list);
            };
            cursor = last.next_cursor;
            for entry in entries {
                let name = String::from_utf8_lossy(&entry.name).into_owned();
                if name == "." || name == ".." || name == "lost+found" {
                    continue;
                }
                let size = match entry.file_type {
                    DirectoryEntryType::Directory => None,
                    _ => Some(self.0.inode(entry.inode)?.size),
                };
                list.push((name, size));
            }
        }
    }

    fn exists(&mut self, path: &str) -> Result<bool> {
        match self.find(path) {
            Ok(_) => Ok(true),
            Err(Failure::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.0.sync()?)
    }
}
