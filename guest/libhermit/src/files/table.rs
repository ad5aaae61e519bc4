//! Files that are open, and their descriptors.
//!
//! A descriptor of ours is a large number, so that one comparison tells it from the kernel's, which start at 0 and are
//! as few as there are sockets.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hermit::errno::{EBADF, EINVAL, EIO, EISDIR, EMFILE, ENOTDIR, EOVERFLOW};
use hermit::fs::{FileAttr, FileType};
use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::Inode;
use hermitage_files::path::IN_MEMORY;

use super::{Errno, Result, image};
use crate::lock::Lock;

/// The first descriptor of ours.
const FIRST: i32 = 1 << 20;

/// Most files that are open at once: what Linux gives a process.
const MOST: usize = 1024;

static OPEN: Lock<Vec<Option<Arc<Open>>>> = Lock::new(Vec::new());

/// A file or directory of the image that is open.
pub(super) struct Open {
    inode: Inode,
    /// Whether it is `/`, where the kernel's folders are, too.
    is_root: bool,
    /// Held while it is read, so that two readers get what follows, not the same.
    position: Lock<u64>,
}

impl Open {
    pub(super) fn new(inode: Inode, is_root: bool) -> Self {
        Self {
            inode,
            is_root,
            position: Lock::new(0),
        }
    }

    pub(super) fn attributes(&self) -> FileAttr {
        image::attributes(&self.inode)
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        if self.inode.kind() == Kind::Directory {
            return Err(Errno(EISDIR));
        }
        let files = image::file_system()?.ok_or(Errno(EIO))?;
        let mut position = self.position.lock();
        let length = files.read(&self.inode, *position, buffer)?;
        *position += length as u64;
        Ok(length)
    }

    /// Moves to `offset` from the start (0), from where it is (1), or from the end (2).
    pub(super) fn seek(&self, offset: i64, whence: i32) -> Result<u64> {
        let mut position = self.position.lock();
        let from = match whence {
            0 => 0,
            1 => *position,
            2 => self.inode.size(),
            _ => return Err(Errno(EINVAL)),
        };
        let to = from.checked_add_signed(offset).ok_or(Errno(EINVAL))?;
        if i64::try_from(to).is_err() {
            return Err(Errno(EOVERFLOW));
        }
        *position = to;
        Ok(to)
    }

    /// The entries of a directory: the number, the kind and the name of each.
    pub(super) fn entries(&self) -> Result<Vec<(u64, FileType, Vec<u8>)>> {
        if self.inode.kind() != Kind::Directory {
            return Err(Errno(ENOTDIR));
        }
        let mut entries = image::entries(&self.inode)?;
        if self.is_root {
            entries.retain(|(_, _, name)| !IN_MEMORY.contains(&name.as_slice()));
            entries.extend(IN_MEMORY.map(|name| (0, FileType::Directory, name.to_vec())));
        }
        Ok(entries)
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
