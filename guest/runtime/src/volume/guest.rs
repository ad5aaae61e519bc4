//! In a guest a volume is a virtio disk, which the glue drives (`guest/libhermit/src/disk`). `guest/files` `disk` says what
//! is asked of it.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use hermitage_files::disk::{Access, Fault};

use super::SECTOR;

// SAFETY: these are the signatures that the glue gives them, and any thread may call them at any time; the safe ones with
// any number.
unsafe extern "C" {
    fn sys_hermitage_disk_find(label: *const u8, length: usize) -> i64;
    safe fn sys_hermitage_disk_open(number: u64) -> i64;
    safe fn sys_hermitage_disk_close(number: u64);
    safe fn sys_hermitage_disk_size(number: u64) -> i64;
    fn sys_hermitage_disk_request(
        number: u64,
        access: u32,
        sector: u64,
        start: *mut u8,
        length: usize,
    ) -> i64;
}

fn check(answer: i64) -> io::Result<u64> {
    Fault::check(answer).map_err(|fault| match fault {
        Fault::NotFound => io::ErrorKind::NotFound.into(),
        Fault::Busy => io::ErrorKind::ResourceBusy.into(),
        Fault::Unsupported => io::ErrorKind::Unsupported.into(),
        Fault::NoMemory => io::Error::new(io::ErrorKind::OutOfMemory, fault),
        Fault::Failed | Fault::Old | Fault::ShortQueue => io::Error::other(fault),
    })
}

fn find(label: &str) -> io::Result<u64> {
    // SAFETY: the label has this length.
    check(unsafe { sys_hermitage_disk_find(label.as_ptr(), label.len()) })
}

/// A volume's disk, taken.
#[derive(Debug)]
pub(super) struct Disk {
    number: u64,
    /// As it was when somebody looked last.
    sectors: AtomicU64,
    is_read_only: bool,
}

impl Disk {
    pub(super) fn open(label: &str) -> io::Result<Self> {
        let number = find(label)?;
        let is_read_only = check(sys_hermitage_disk_open(number))? != 0;
        let disk = Self {
            number,
            sectors: AtomicU64::new(0),
            is_read_only,
        };
        let sectors = check(sys_hermitage_disk_size(number))?;
        disk.sectors.store(sectors, Ordering::Relaxed);
        Ok(disk)
    }

    pub(super) fn is_attached(label: &str) -> io::Result<bool> {
        match find(label) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Size when somebody looked last.
    pub(super) fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }

    /// Size as it is now.
    pub(super) fn look(&self) -> u64 {
        // A device that does not tell has the size that it had.
        if let Ok(sectors) = check(sys_hermitage_disk_size(self.number)) {
            self.sectors.store(sectors, Ordering::Relaxed);
        }
        self.sectors()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(super) fn read(&self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        // SAFETY: the buffer has this length, and is this call's alone.
        unsafe { self.request(Access::Read, first, buffer.as_mut_ptr(), buffer.len()) }
    }

    pub(super) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: there are as many bytes, which a write leaves as they are.
        unsafe { self.request(Access::Write, first, bytes.as_ptr().cast_mut(), bytes.len()) }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        // SAFETY: there is no data.
        unsafe { self.request(Access::Flush, 0, ptr::null_mut(), 0) }
    }

    pub(super) fn discard(&self, first: u64, sectors: u64) -> io::Result<()> {
        let length = sectors as usize * SECTOR;
        // SAFETY: there is no data, the length is that of a range of the disk.
        unsafe { self.request(Access::Discard, first, ptr::null_mut(), length) }
    }

    /// # Safety
    /// As the access wants it, there are `length` bytes at `start`, this call's own.
    unsafe fn request(&self, access: Access, first: u64, start: *mut u8, length: usize) -> io::Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { sys_hermitage_disk_request(self.number, access as u32, first, start, length) })?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sys_hermitage_disk_close(self.number);
    }
}
