//! The image's files, from its disk.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hermit::errno::EIO;
use hermit::fd::AccessPermission;
use hermit::fs::{FileAttr, FileType};
use hermitage_boot::Files;
use hermitage_erofs::format::{BLOCK, Kind};
use hermitage_erofs::reader::{FileSystem, Inode};

use super::{Entry, Errno, Result};
use crate::disk::Partition;
use crate::lock::Lock;

struct Image {
    /// Where it is. A foreign loader tells nothing.
    at: Option<Files>,
    /// What came of opening it, once that was tried.
    opened: Option<Option<&'static FileSystem<Partition>>>,
}

static IMAGE: Lock<Image> = Lock::new(Image {
    at: None,
    opened: None,
});

/// The image's files are there.
pub(crate) fn are_at(files: Files) {
    IMAGE.lock().at = Some(files);
}

/// The image's file system, opened when it is asked for. `None`: nobody knows where it is.
pub(super) fn file_system() -> Result<Option<&'static FileSystem<Partition>>> {
    let mut image = IMAGE.lock();
    let Some(at) = image.at else {
        return Ok(None);
    };
    let opened = image.opened.get_or_insert_with(|| {
        let files = FileSystem::open(Partition::open(at)?).ok()?;
        Some(Box::leak(Box::new(files)))
    });
    opened.map(Some).ok_or(Errno(EIO))
}

/// What `stat` tells of an inode.
pub(super) fn attributes(inode: &Inode) -> FileAttr {
    let raw = inode.raw();
    let mut attributes = FileAttr {
        st_ino: inode.nid(),
        st_nlink: raw.links.into(),
        st_mode: AccessPermission::from_bits_retain(raw.mode.into()),
        st_size: inode.size(),
        st_blksize: BLOCK as i64,
        st_blocks: inode.size().div_ceil(512) as i64,
        ..FileAttr::default()
    };
    attributes.st_mtim.tv_sec = raw.mtime;
    attributes.st_mtim.tv_nsec = raw.mtime_nsec as i32;
    attributes
}

/// A directory's entries.
pub(super) fn entries(directory: &Inode) -> Result<Vec<Entry>> {
    let Some(files) = file_system()? else {
        return Ok(Vec::new());
    };
    let mut entries = Vec::new();
    for entry in files.read_dir(directory)? {
        let entry = entry?;
        let kind = match entry.kind {
            Kind::File => FileType::RegularFile,
            Kind::Directory => FileType::Directory,
            Kind::Symlink => FileType::SymbolicLink,
        };
        entries.push((entry.nid, kind, entry.name));
    }
    Ok(entries)
}
