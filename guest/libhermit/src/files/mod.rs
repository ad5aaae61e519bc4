//! Files: what `std::fs` finds in a guest.
//!
//! | path | what |
//! | --- | --- |
//! | `/tmp`, `/proc` | the kernel's files in memory, gone with the guest |
//! | `/data` | what is mounted there ([`mounted`]), if something is: by `guest/data`, or by the program |
//! | all else | the image's files, only to be read, read from its disk when they are asked for |
//!
//! The system calls of files are wrapped ([`calls`]): a path leads to the one or the other (`guest/files`), a descriptor
//! of ours ([`table`]) is told from the kernel's by its number. [`image`] is the image's file system.
//!
//! Why wraps, and no backend in the kernel's own file system: that one knows neither kinds of entries nor where a read of
//! a directory goes on, turns errors into others, and is asked for a file's path name by name, each a node in memory.
//! What would have to be mended there is more than what is here.

mod calls;
mod image;
mod mounted;
mod table;

pub(crate) use image::are_at;
pub(crate) use mounted::sync_at_end;

use alloc::vec::Vec;

use hermit::errno::{EIO, EISDIR, ELOOP, ENOENT, ENOTDIR};
use hermit::fs::FileType;
use hermitage_erofs::reader::Error;
use hermitage_files::cache::Failed;

/// An error's number, positive.
#[derive(Clone, Copy)]
struct Errno(i32);

type Result<T> = core::result::Result<T, Errno>;

/// A directory's entry: its number, what it is, its name.
type Entry = (u64, FileType, Vec<u8>);

impl From<Error<Failed>> for Errno {
    fn from(error: Error<Failed>) -> Self {
        Self(match error {
            Error::Device(Failed) | Error::Damaged(_) => EIO,
            Error::NotFound => ENOENT,
            Error::NotADirectory => ENOTDIR,
            Error::NotAFile | Error::NotALink => EISDIR,
            Error::TooManyLinks => ELOOP,
        })
    }
}
