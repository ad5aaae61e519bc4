//! A role's program: found in the file system's `/bin`, read whole, judged before it is loaded.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hermit_entry::elf::KernelObject;
use hermitage_boot::seal::{self, SealError};
use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::{self, FileSystem, Inode, ReadAt};

use crate::command::{list, lossy};
use crate::disk::Error as DiskError;
use crate::error::Error;
use crate::memory::{MemoryMap, Region};

/// Where the programs are.
const FOLDER: &[u8] = b"bin";

/// Most roles that a message lists. More would not fit a line of the control channel.
const MAX_LISTED: usize = 32;

/// Where the kernel lies in memory: the first address that no part of the loader needs, on a large page.
pub const KERNEL_BASE: u64 = 2 << 20;

/// Up to where it may reach: the one page directory that maps it spans 1 GiB.
const MAX_END: u64 = 1 << 30;

/// Bytes of the pages that map the kernel, and that its own view of memory is rounded to.
pub const LARGE_PAGE: u64 = 2 << 20;

/// Bytes of RAM behind the program without which the kernel does not come up: it keeps two large pages and the page
/// tables for itself, and makes its heap of nine tenths of the rest, in whole large pages.
pub const KERNEL_MEMORY: u64 = 4 * LARGE_PAGE + (64 << 10);

/// The names in `/bin` as a list for a message, at most [`MAX_LISTED`] of them.
///
/// # Errors
/// The file system cannot be read.
pub fn roles<D: ReadAt<Error = DiskError>>(files: &FileSystem<D>) -> Result<String, Error> {
    let failed = |error| Error::FileSystem(String::from("/bin"), error);
    let folder = match files.resolve(FOLDER) {
        Err(reader::Error::NotFound) => return Ok(list(&[])),
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

impl Program<'_> {
    /// First byte after the large pages that map it: where the kernel's free memory starts.
    #[must_use]
    pub fn mapped_end(&self) -> u64 {
        self.end.next_multiple_of(LARGE_PAGE)
    }

    /// Bytes of RAM that a machine lacks to run it; 0 if it has enough.
    #[must_use]
    pub fn memory_lacking(&self, memory: &MemoryMap) -> u64 {
        let free: u64 = memory.above(self.mapped_end()).map(Region::length).sum();
        KERNEL_MEMORY.saturating_sub(free)
    }
}

/// Judges a program's file.
///
/// # Errors
/// It is damaged, or no unikernel that this loader can start.
pub fn check<'a>(role: &[u8], file: &'a [u8]) -> Result<Program<'a>, Error> {
    let judged = judge(file);
    judged.map_err(|what| Error::Program(lossy(role), what))
}

fn judge(file: &[u8]) -> Result<Program<'_>, &'static str> {
    if !has_elf_header(file) {
        return Err("its file is not an ELF file for x86-64");
    }
    if seal::check(file) == Err(SealError::Broken) {
        return Err("its file is damaged: its checksum does not match");
    }
    let object = KernelObject::parse(file).map_err(|_| "it is not linked with libhermit")?;
    let start = object.start_addr().unwrap_or(KERNEL_BASE);
    let end = start
        .checked_add(object.mem_size() as u64)
        .ok_or("its size is impossible")?;
    if start < KERNEL_BASE {
        return Err("it wants to lie where the loader is");
    }
    if end > MAX_END {
        return Err("it is larger than 1 GiB");
    }
    Ok(Program { object, start, end })
}

/// Whether a file starts with an ELF header of the right kind, whose tables lie in the file: what
/// [`KernelObject::parse`] takes for granted.
fn has_elf_header(file: &[u8]) -> bool {
    const HEADER: usize = 64;
    const CLASS_64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    const X86_64: [u8; 2] = [62, 0];
    const PROGRAM_HEADER: u64 = 56;
    const SECTION_HEADER: u64 = 64;
    let Some(header) = file.first_chunk::<HEADER>() else {
        return false;
    };
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let offset_at = |at: usize| {
        let mut offset = [0; 8];
        offset.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(offset)
    };
    let table = |offset: u64, count: u64, size: u64| {
        let end = (count * size).checked_add(offset);
        offset % 8 == 0 && end.is_some_and(|end| end <= file.len() as u64)
    };
    header.starts_with(CLASS_64_LITTLE_ENDIAN)
        && header[18..20] == X86_64
        && table(offset_at(32), u16_at(56), PROGRAM_HEADER)
        && table(offset_at(40), u16_at(60), SECTION_HEADER)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn refuses_what_is_no_program_of_ours() {
        let host_program = std::fs::read("/proc/self/exe").unwrap();
        let why = |file: &[u8]| judge(file).map(|_| ()).unwrap_err();
        assert_eq!(why(b"#!/bin/sh"), "its file is not an ELF file for x86-64");
        assert_eq!(why(&[]), "its file is not an ELF file for x86-64");
        assert_eq!(why(&vec![0; 4096]), "its file is not an ELF file for x86-64");
        assert_eq!(why(&host_program), "it is not linked with libhermit");
        assert_eq!(
            why(&host_program[..host_program.len() / 2]),
            "its file is not an ELF file for x86-64"
        );
        let mut sealed = host_program;
        seal::seal(&mut sealed);
        sealed[70_000] ^= 1;
        assert_eq!(why(&sealed), "its file is damaged: its checksum does not match");
    }
}
