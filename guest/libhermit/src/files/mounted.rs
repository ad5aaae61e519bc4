//! What is mounted at `/data`, in the terms of this module.

use alloc::vec::Vec;
use core::ffi::c_void;
use core::fmt::Write;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use hermit::errno::ENOENT;
use hermit::fd::{AccessPermission, OpenOption};
use hermit::fs::{FileAttr, FileType};
use hermitage_files::mount::{Attributes, END, Operations, open};

use super::{Entry, Errno, Result};
use crate::lock::Lock;
use crate::port::Uart;

static MOUNTED: Lock<Option<&'static Operations>> = Lock::new(None);

/// Mounts a file system at `/data`. There is one: 0, or -1 where it is another.
#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_mount(operations: &'static Operations) -> i32 {
    let mut mounted = MOUNTED.lock();
    if mounted.is_some() {
        return -1;
    }
    *mounted = Some(operations);
    0
}

/// Whether something is mounted.
pub(super) fn is_there() -> bool {
    MOUNTED.lock().is_some()
}

/// The program wants to change what is below `/data`, and nothing is mounted.
pub(super) fn say_that_none_is() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        let _never_fails = writeln!(
            Uart::console(),
            "files: no volume is mounted at `/data`, so nothing can be put there; `run --volume NAME:/data` attaches one"
        );
    }
}

/// Makes what was changed safe, as far as it goes: the program ends.
pub(crate) fn sync_at_end() {
    if let Ok(operations) = operations() {
        // Nobody is left to be told that the disk failed.
        let _result = (operations.sync)();
    }
}

fn operations() -> Result<&'static Operations> {
    let mounted = *MOUNTED.lock();
    mounted.ok_or(Errno(ENOENT))
}

fn checked(answer: i64) -> Result<u64> {
    u64::try_from(answer).map_err(|_| Errno(-answer as i32))
}

/// A file or directory that is open.
pub(super) struct Inode {
    number: u64,
    pub(super) flags: OpenOption,
}

impl Inode {
    pub(super) fn open(path: &[u8], flags: OpenOption) -> Result<Self> {
        let mut asked = 0;
        for (option, flag) in [
            (OpenOption::O_CREAT, open::CREATE),
            (OpenOption::O_EXCL, open::EXCLUSIVE),
            (OpenOption::O_TRUNC, open::TRUNCATE),
            (OpenOption::O_WRONLY, open::WRITE),
            (OpenOption::O_RDWR, open::WRITE),
        ] {
            if flags.contains(option) {
                asked |= flag;
            }
        }
        // SAFETY: the path has this length.
        let number = checked(unsafe { (operations()?.open)(path.as_ptr(), path.len(), asked) })?;
        Ok(Self { number, flags })
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: the buffer has this length.
        let read = unsafe { (operations()?.read)(self.number, offset, buffer.as_mut_ptr(), buffer.len()) };
        Ok(checked(read)? as usize)
    }

    /// Writes all, at a file's end if that is how it was opened.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let offset = if self.flags.contains(OpenOption::O_APPEND) {
            END
        } else {
            offset
        };
        // SAFETY: there are as many bytes.
        checked(unsafe { (operations()?.write)(self.number, offset, bytes.as_ptr(), bytes.len()) })?;
        Ok(())
    }

    pub(super) fn set_len(&self, length: u64) -> Result<()> {
        checked((operations()?.set_len)(self.number, length))?;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<()> {
        checked((operations()?.sync)())?;
        Ok(())
    }

    pub(super) fn attributes(&self) -> Result<FileAttr> {
        let mut found = Attributes::default();
        // SAFETY: there is room for the answer.
        checked(unsafe { (operations()?.stat_inode)(self.number, &raw mut found) })?;
        Ok(attributes(&found))
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        unsafe extern "C" fn take(
            context: *mut c_void,
            name: *const u8,
            length: usize,
            what: *const Attributes,
        ) {
            // SAFETY: the context is that of the call below, the name has this length, and what it is lives as long.
            let (entries, name, what) = unsafe {
                let entries = &mut *context.cast::<Vec<Entry>>();
                (entries, slice::from_raw_parts(name, length), &*what)
            };
            let kind = match what.is_directory {
                0 => FileType::RegularFile,
                _ => FileType::Directory,
            };
            entries.push((what.inode, kind, name.to_vec()));
        }
        let mut entries = Vec::<Entry>::new();
        // SAFETY: the context is what `take` takes it for.
        checked(unsafe { (operations()?.list)(self.number, (&raw mut entries).cast(), take) })?;
        Ok(entries)
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        if let Ok(operations) = operations() {
            // Who wants to know of errors syncs before.
            let _result = (operations.close)(self.number);
        }
    }
}

pub(super) fn stat(path: &[u8]) -> Result<FileAttr> {
    let mut found = Attributes::default();
    // SAFETY: the path has this length, and there is room for the answer.
    checked(unsafe { (operations()?.stat)(path.as_ptr(), path.len(), &raw mut found) })?;
    Ok(attributes(&found))
}

pub(super) fn make_directory(path: &[u8]) -> Result<i32> {
    // SAFETY: the path has this length.
    checked(unsafe { (operations()?.make_directory)(path.as_ptr(), path.len()) })?;
    Ok(0)
}

pub(super) fn remove(path: &[u8], directory: bool) -> Result<i32> {
    // SAFETY: the path has this length.
    checked(unsafe { (operations()?.remove)(path.as_ptr(), path.len(), directory.into()) })?;
    Ok(0)
}

pub(super) fn rename(old: &[u8], new: &[u8]) -> Result<i32> {
    // SAFETY: the paths have these lengths.
    checked(unsafe { (operations()?.rename)(old.as_ptr(), old.len(), new.as_ptr(), new.len()) })?;
    Ok(0)
}

/// What `stat` tells.
fn attributes(found: &Attributes) -> FileAttr {
    let (kind, permissions) = match found.is_directory {
        0 => (AccessPermission::S_IFREG, 0o644),
        _ => (AccessPermission::S_IFDIR, 0o755),
    };
    let mut attributes = FileAttr {
        st_ino: found.inode,
        st_nlink: 1,
        st_mode: kind | AccessPermission::from_bits_retain(permissions),
        st_size: found.size,
        st_blksize: 4096,
        st_blocks: found.size.div_ceil(512) as i64,
        ..FileAttr::default()
    };
    attributes.st_mtim.tv_sec = found.seconds as i64;
    attributes.st_mtim.tv_nsec = found.nanoseconds as i32;
    attributes
}
