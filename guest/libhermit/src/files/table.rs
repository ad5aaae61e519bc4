//! Files that are open, and their descriptors.
//!
//! A descriptor of ours is a large number, so that one comparison tells it from the kernel's, which start at 0 and are
//! as few as there are sockets.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hermit::errno::{EBADF, EINVAL, EIO, EISDIR, EMFILE, ENOTDIR, EOVERFLOW};
use hermit::fd::OpenOption;
use hermit::fs::{FileAttr, FileType};
use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::Inode;
use hermitage_files::mount::MOUNTED;
use hermitage_files::path::IN_MEMORY;

use super::{Entry, Errno, Result, image, mounted};
use crate::lock::Lock;

/// The first descriptor of ours.
const FIRST: i32 = 1 << 20;

/// Most files that are open at once: what Linux gives a process.
const MOST: usize = 1024;

static OPEN: Lock<Vec<Option<Arc<Open>>>> = Lock::new(Vec::new());

/// A file or directory that is open.
pub(super) struct Open {
    what: What,
    /// Held while it is read or written, so that two readers get what follows, not the same.
    position: Lock<u64>,
}

pub(super) enum What {
    /// Of the image.
    Image(Inode),
    /// `/` of the image, where the other file systems are, too.
    Root(Inode),
    /// Of what is mounted.
    Mounted(mounted::Inode),
}

impl Open {
    pub(super) fn new(what: What) -> Self {
        Self {
            what,
            position: Lock::new(0),
        }
    }

    pub(super) fn attributes(&self) -> Result<FileAttr> {
        match &self.what {
            What::Image(inode) | What::Root(inode) => Ok(image::attributes(inode)),
            What::Mounted(inode) => inode.attributes(),
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let mut position = self.position.lock();
        let length = match &self.what {
            What::Image(inode) | What::Root(inode) if inode.kind() == Kind::Directory => {
                return Err(Errno(EISDIR));
            }
            What::Image(inode) | What::Root(inode) => {
                let files = image::file_system()?.ok_or(Errno(EIO))?;
                files.read(inode, *position, buffer)?
            }
            What::Mounted(inode) if inode.flags.contains(OpenOption::O_WRONLY) => return Err(Errno(EBADF)),
            What::Mounted(inode) => inode.read(*position, buffer)?,
        };
        *position += length as u64;
        Ok(length)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize> {
        let inode = self.written()?;
        let mut position = self.position.lock();
        inode.write(*position, bytes)?;
        *position = if inode.flags.contains(OpenOption::O_APPEND) {
            self.size()?
        } else {
            *position + bytes.len() as u64
        };
        Ok(bytes.len())
    }

    pub(super) fn set_len(&self, length: u64) -> Result<()> {
        self.written()?.set_len(length)
    }

    pub(super) fn sync(&self) -> Result<()> {
        match &self.what {
            What::Image(_) | What::Root(_) => Ok(()),
            What::Mounted(inode) => inode.sync(),
        }
    }

    /// What is mounted, and open to be written.
    fn written(&self) -> Result<&mounted::Inode> {
        match &self.what {
            What::Mounted(inode) if inode.flags.intersects(OpenOption::O_WRONLY | OpenOption::O_RDWR) => {
                Ok(inode)
            }
            _ => Err(Errno(EBADF)),
        }
    }

    fn size(&self) -> Result<u64> {
        Ok(self.attributes()?.st_size)
    }

    /// Moves to `offset` from the start (0), from where it is (1), or from the end (2).
    pub(super) fn seek(&self, offset: i64, whence: i32) -> Result<u64> {
        let mut position = self.position.lock();
        let from = match whence {
            0 => 0,
            1 => *position,
            2 => self.size()?,
            _ => return Err(Errno(EINVAL)),
        };
        let to = from.checked_add_signed(offset).ok_or(Errno(EINVAL))?;
        if i64::try_from(to).is_err() {
            return Err(Errno(EOVERFLOW));
        }
        *position = to;
        Ok(to)
    }

    /// The entries of a directory.
    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        match &self.what {
            What::Image(inode) if inode.kind() != Kind::Directory => Err(Errno(ENOTDIR)),
            What::Image(inode) => image::entries(inode),
            What::Root(inode) => {
                let mut entries = image::entries(inode)?;
                let mounted = mounted::is_there().then_some(MOUNTED);
                for name in IN_MEMORY.into_iter().chain(mounted) {
                    entries.retain(|(_, _, other)| other != name);
                    entries.push((0, FileType::Directory, name.to_vec()));
                }
                Ok(entries)
            }
            What::Mounted(inode) => inode.entries(),
        }
    }
}

/// Whether a descriptor is one of ours.
pub(super) fn is_ours(descriptor: i32) -> bool {
    descriptor >= FIRST
}

pub(super) fn get(descriptor: i32) -> Result<Arc<Open>> {
    let open = OPEN.lock();
    let found = open.get(index(descriptor)?).cloned().flatten();
    found.ok_or(Errno(EBADF))
}

pub(super) fn insert(file: Arc<Open>) -> Result<i32> {
    let mut open = OPEN.lock();
    let at = open.iter().position(Option::is_none).unwrap_or(open.len());
    if at == MOST {
        return Err(Errno(EMFILE));
    }
    match open.get_mut(at) {
        Some(place) => *place = Some(file),
        None => open.push(Some(file)),
    }
    Ok(FIRST + at as i32)
}

pub(super) fn remove(descriptor: i32) -> Result<()> {
    let mut open = OPEN.lock();
    let place = open.get_mut(index(descriptor)?);
    let closed = place.and_then(Option::take).ok_or(Errno(EBADF))?;
    drop(open);
    drop(closed);
    Ok(())
}

fn index(descriptor: i32) -> Result<usize> {
    usize::try_from(descriptor - FIRST).map_err(|_| Errno(EBADF))
}
