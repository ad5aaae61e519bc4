//! What the glue asks of a file system that a program brings along: `guest/runtime` `folder` is one. Program and glue are
//! compiled apart, hence plain functions.
//!
//! An answer below 0 is an error's number, negative. Paths are bytes, from the file system's root on. All functions may be
//! called by several threads at once.

use core::ffi::c_void;

/// Where it is mounted, as the first name of a path.
pub const MOUNTED: &[u8] = b"data";

/// What a file or directory is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// Its number, not 0.
    pub inode: u64,
    /// Bytes of a file.
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds of that.
    pub nanoseconds: u32,
    /// 1 for a directory, else 0.
    pub is_directory: u32,
}

/// Flags of [`Operations::open`].
pub mod open {
    /// Make the file if it is not there.
    pub const CREATE: u32 = 1 << 0;
    /// It must not be there.
    pub const EXCLUSIVE: u32 = 1 << 1;
    /// Nothing of it is kept.
    pub const TRUNCATE: u32 = 1 << 2;
    /// It is to be written.
    pub const WRITE: u32 = 1 << 3;
}

/// The offset of a write that is to go to a file's end.
pub const END: u64 = u64::MAX;

/// Takes an entry of a directory: the context that came with it, the name and its length, what it is.
pub type TakeEntry = unsafe extern "C" fn(*mut c_void, *const u8, usize, *const Attributes);

/// The functions of a file system. Those that take a pointer want as many bytes there as they are told.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Operations {
    /// Opens what is at a path: path, its length, flags; its inode. It stays until it is closed as often.
    pub open: unsafe extern "C" fn(*const u8, usize, u32) -> i64,
    /// Closes an inode.
    pub close: extern "C" fn(u64) -> i64,
    /// Reads: inode, offset, buffer, its length; how many bytes.
    pub read: unsafe extern "C" fn(u64, u64, *mut u8, usize) -> i64,
    /// Writes: inode, offset or [`END`], bytes, how many; how many. All of them or an error.
    pub write: unsafe extern "C" fn(u64, u64, *const u8, usize) -> i64,
    /// What is at a path: path, its length, room for the answer.
    pub stat: unsafe extern "C" fn(*const u8, usize, *mut Attributes) -> i64,
    /// What an inode is: inode, room for the answer.
    pub stat_inode: unsafe extern "C" fn(u64, *mut Attributes) -> i64,
    /// Makes a file longer or shorter: inode, length.
    pub set_len: extern "C" fn(u64, u64) -> i64,
    /// Returns when all that was changed before is on stable storage.
    pub sync: extern "C" fn() -> i64,
    /// Makes a directory: path, its length.
    pub make_directory: unsafe extern "C" fn(*const u8, usize) -> i64,
    /// Removes a file, or an empty directory: path, its length, 1 for a directory.
    pub remove: unsafe extern "C" fn(*const u8, usize, u32) -> i64,
    /// Gives another name: old path, its length, new path, its length.
    pub rename: unsafe extern "C" fn(*const u8, usize, *const u8, usize) -> i64,
    /// Lists a directory: inode, the context and the function for each entry.
    pub list: unsafe extern "C" fn(u64, *mut c_void, TakeEntry) -> i64,
}
