//! A role's program: found in the file system's `/bin`, read whole, judged before it is loaded.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hermit_entry::elf::KernelObject;
use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::{self, FileSystem, Inode, ReadAt};

use crate::command::{list, lossy};
use crate::disk::Error as DiskError;
use crate::error::Error;

/// Where the programs are.
const FOLDER: &[u8] = b"bin";

/// Most roles that a message lists. More would not fit a line of the control channel.
const MAX_LISTED: usize = 32;

/// Where the kernel lies in memory: the first address that no part of the loader needs, on a large page.
pub const KERNEL_BASE: u64 = 2 << 20;

/// Bytes of the pages that map the kernel, and that its own view of memory is rounded to.
pub const LARGE_PAGE: u64 = 2 << 20;

/// The names in `/bin`, at most [`MAX_LISTED`] of them.
///
/// # Errors
/// The file system cannot be read.
pub fn roles<D: ReadAt<Error = DiskError>>(files: &FileSystem<D>) -> Result<String, Error> {
    let failed = |error| Error::FileSystem(String::from("/bin"), error);
    let folder = match files.resolve(FOLDER) {
        Err(reader::Error::NotFound) => return Ok(String::new()),
        folder => folder.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in files.read_dir(&folder).map_err(failed)?.take(MAX_LISTED) {
        let entry = entry.map_err(failed)?;
        if entry.kind != Kind::Directory {
            names.push(entry.name);
        }
    }
    Ok(list(&names))
}

/// Finds a role's program.
///
/// # Errors
/// There is none, or the file system cannot be read.
pub fn find<D: ReadAt<Error = DiskError>>(files: &FileSystem<D>, role: &[u8]) -> Result<Inode, Error> {
    match files.resolve(&[FOLDER, b"/", role].concat()) {
        Ok(inode) if inode.kind() == Kind::File => Ok(inode),
        Ok(_) => Err(Error::Program(lossy(role), "it is not a regular file")),
        Err(reader::Error::NotFound) => Err(Error::NoSuchRole {
            role: lossy(role),
            roles: roles(files)?,
        }),
        Err(error) => Err(Error::FileSystem(format!("/bin/{}", lossy(role)), error)),
    }
}

/// A program that may be loaded.
pub struct Program<'a> {
    /// The parsed file.
    pub object: KernelObject<'a>,
    /// Where it is to lie in memory.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

/// Judges a program's file.
///
/// # Errors
/// It is no unikernel that this loader can start.
pub fn check<'a>(role: &[u8], file: &'a [u8]) -> Result<Program<'a>, Error> {
    let bad = |what| Error::Program(lossy(role), what);
    if !file.starts_with(b"\x7fELF") || file.len() < 64 {
        return Err(bad("it is not an ELF file"));
    }
    let object = KernelObject::parse(file).map_err(|_| bad("it is not linked with libhermit"))?;
    let start = object.start_addr().unwrap_or(KERNEL_BASE);
    let end = start
        .checked_add(object.mem_size() as u64)
        .ok_or_else(|| bad("its size is impossible"))?;
    if start < KERNEL_BASE {
        return Err(bad("it wants to lie where the loader is"));
    }
    Ok(Program { object, start, end })
}
