//! EROFS, the file system that holds an image's files: read-only for the guest, uncompressed.
//!
//! - [`mod@format`]: the structures as they lie on the disk;
//! - [`reader`]: looks up paths and reads files, on any damaged input without a panic (`no_std`; the loader uses it);
//! - `writer`: plans and writes a file system (feature `std`);
//! - `debug`: a file system as text, for tests (feature `std`).
//!
//! This crate knows nothing of partitions, qcow2 or packages. Start reading at [`reader::FileSystem`].
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod format;
pub mod reader;

#[cfg(feature = "std")]
pub mod debug;
#[cfg(feature = "std")]
mod digest;
#[cfg(feature = "std")]
pub mod writer;
