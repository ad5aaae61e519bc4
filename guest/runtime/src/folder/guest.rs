//! In a guest the glue (`guest/libhermit/src/files`) leads the system calls of files below `/data` here.

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{io, slice};

use hermitage_files::mount::{Attributes, END, Operations, TakeEntry, open};

use super::error::Result;
use super::tree::{How, Node, Tree};
use crate::Volume;

static TREE: OnceLock<Tree> = OnceLock::new();

static OPERATIONS: Operations = Operations {
    open: open_file,
    close,
    read,
    write,
    stat,
    stat_inode,
    set_len,
    sync,
    make_directory,
    remove,
    rename,
    list,
};

// SAFETY: this is the signature that the glue gives it (`guest/libhermit/src/files/mounted.rs`), and any thread may call it
// at any time.
unsafe extern "C" {
    /// Mounts a file system at `/data`: 0, or below 0 where there is one already.
    safe fn sys_hermitage_mount(operations: &'static Operations) -> i32;
}

pub(super) fn mount(label: &str) -> io::Result<PathBuf> {
    if TREE.get().is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let volume = Volume::open(label)?;
    if volume.is_read_only() {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    let tree = Tree::open(volume)?;
    TREE.set(tree).map_err(|_| io::ErrorKind::AlreadyExists)?;
    // Another copy of this crate may have mounted one: `guest/data` is compiled apart from the program.
    if sys_hermitage_mount(&OPERATIONS) < 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    Ok(PathBuf::from("/data"))
}

/// Does something with the tree, and answers as a system call does.
fn answer<T: TryInto<i64>>(call: impl FnOnce(&Tree) -> Result<T>) -> i64 {
    let Some(tree) = TREE.get() else {
        return -i64::from(super::error::Error::IO.0);
    };
    match call(tree) {
        Ok(value) => value.try_into().unwrap_or(i64::MAX),
        Err(error) => -i64::from(error.0),
    }
}

/// # Safety
/// There are `length` bytes, which stay as they are while the call lasts.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: as the caller promises.
    unsafe { slice::from_raw_parts(start, length) }
}

fn attributes(node: &Node) -> Attributes {
    Attributes {
        inode: node.inode,
        size: node.size,
        seconds: node.seconds,
        nanoseconds: node.nanoseconds,
        is_directory: node.is_directory.into(),
    }
}

unsafe extern "C" fn open_file(path: *const u8, length: usize, flags: u32) -> i64 {
    let how = How {
        create: flags & open::CREATE != 0,
        exclusive: flags & open::EXCLUSIVE != 0,
        truncate: flags & open::TRUNCATE != 0,
        write: flags & open::WRITE != 0,
    };
    // SAFETY: the glue gives a path of this length.
    answer(|tree| tree.open_file(unsafe { bytes(path, length) }, how))
}

extern "C" fn close(inode: u64) -> i64 {
    answer(|tree| tree.close(inode).map(|()| 0))
}

unsafe extern "C" fn read(inode: u64, offset: u64, buffer: *mut u8, length: usize) -> i64 {
    // SAFETY: the glue gives a buffer of this length, which nobody else uses while the call lasts.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer, length) };
    answer(|tree| tree.read(inode, offset, buffer))
}

unsafe extern "C" fn write(inode: u64, offset: u64, start: *const u8, length: usize) -> i64 {
    let offset = (offset != END).then_some(offset);
    // SAFETY: the glue gives as many bytes.
    answer(|tree| {
        tree.write(inode, offset, unsafe { bytes(start, length) })
            .map(|()| length)
    })
}

unsafe extern "C" fn stat(path: *const u8, length: usize, place: *mut Attributes) -> i64 {
    answer(|tree| {
        // SAFETY: the glue gives a path of this length.
        let found = attributes(&tree.stat(unsafe { bytes(path, length) })?);
        // SAFETY: the glue gives room for the answer.
        unsafe { place.write(found) };
        Ok(0)
    })
}

unsafe extern "C" fn stat_inode(inode: u64, place: *mut Attributes) -> i64 {
    answer(|tree| {
        let found = attributes(&tree.stat_inode(inode)?);
        // SAFETY: the glue gives room for the answer.
        unsafe { place.write(found) };
        Ok(0)
    })
}

extern "C" fn set_len(inode: u64, length: u64) -> i64 {
    answer(|tree| tree.set_len(inode, length).map(|()| 0))
}

extern "C" fn sync() -> i64 {
    answer(|tree| tree.sync().map(|()| 0))
}

unsafe extern "C" fn make_directory(path: *const u8, length: usize) -> i64 {
    // SAFETY: the glue gives a path of this length.
    answer(|tree| tree.make_directory(unsafe { bytes(path, length) }).map(|()| 0))
}

unsafe extern "C" fn remove(path: *const u8, length: usize, directory: u32) -> i64 {
    // SAFETY: the glue gives a path of this length.
    answer(|tree| {
        tree.remove(unsafe { bytes(path, length) }, directory != 0)
            .map(|()| 0)
    })
}

unsafe extern "C" fn rename(old: *const u8, old_length: usize, new: *const u8, new_length: usize) -> i64 {
    // SAFETY: the glue gives paths of these lengths.
    answer(|tree| unsafe { tree.rename(bytes(old, old_length), bytes(new, new_length)) }.map(|()| 0))
}

unsafe extern "C" fn list(inode: u64, context: *mut c_void, take: TakeEntry) -> i64 {
    answer(|tree| {
        for (name, node) in tree.list(inode)? {
            // SAFETY: the context is the one that came with the function, and name and attributes live.
            unsafe { take(context, name.as_ptr(), name.len(), &attributes(&node)) };
        }
        Ok(0)
    })
}
