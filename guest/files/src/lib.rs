//! Files of a guest, as far as they need no machine: `guest/libhermit` puts system calls on top and a disk below.
//!
//! - [`path`]: which file system a path leads to;
//! - [`disk`]: what a program asks of a disk, and where its memory lies for one;
//! - [`cache`]: a disk's bytes, read ahead, in memory that does not grow;
//! - [`mount`]: what is asked of a file system that the program brings along.
//!
//! Start at [`cache::Cache`].
#![no_std]

extern crate alloc;

pub mod cache;
pub mod disk;
pub mod mount;
pub mod path;
