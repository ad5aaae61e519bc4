//! All disks but the image's, for the program: found by their labels, which are their serials. `guest/files` `disk` says
//! what the functions are that a program calls.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use hermitage_boot::DeviceAddress;
use hermitage_files::disk::{Access, Fault, SECTOR};

use super::{Disk, SERIAL};
use crate::lock::Lock;

struct Volume {
    disk: Disk,
    /// With zeros behind it. A disk that has no serial has no label.
    label: [u8; SERIAL],
    is_open: AtomicBool,
}

impl Volume {
    fn take(address: DeviceAddress) -> Result<Self, Fault> {
        let disk = Disk::take(address)?;
        let label = disk.serial()?;
        Ok(Self {
            disk,
            label,
            is_open: AtomicBool::new(false),
        })
    }

    fn is_labelled(&self, label: &[u8]) -> bool {
        let end = self.label.iter().position(|byte| *byte == 0);
        !label.is_empty() && self.label[..end.unwrap_or(SERIAL)] == *label
    }
}

/// A disk that cannot be driven is remembered as well: it may be the one that is looked for.
type Volumes = &'static [Result<Volume, Fault>];

struct Known {
    /// Where they are. A foreign loader tells nothing.
    at: Vec<DeviceAddress>,
    /// What came of taking them, once that was tried.
    taken: Option<Volumes>,
}

static KNOWN: Lock<Known> = Lock::new(Known {
    at: Vec::new(),
    taken: None,
});

/// The disks are there.
pub(crate) fn are_at(addresses: Vec<DeviceAddress>) {
    KNOWN.lock().at = addresses;
}

fn volumes() -> Volumes {
    let Known { at, taken } = &mut *KNOWN.lock();
    taken.get_or_insert_with(|| {
        let volumes: Box<[_]> = at.iter().map(|address| Volume::take(*address)).collect();
        Box::leak(volumes)
    })
}

/// The number of the disk of a label.
fn find(label: &[u8]) -> Result<u64, Fault> {
    let volumes = volumes();
    let is_it =
        |volume: &Result<Volume, Fault>| volume.as_ref().is_ok_and(|volume| volume.is_labelled(label));
    match volumes.iter().position(is_it) {
        Some(number) => Ok(number as u64),
        None => Err(volumes
            .iter()
            .find_map(|volume| volume.as_ref().err().copied())
            .unwrap_or(Fault::NotFound)),
    }
}

/// Whether a disk has this label. One that cannot be driven has none.
pub(crate) fn is_attached(label: &[u8]) -> bool {
    find(label).is_ok()
}

fn get(number: u64) -> Result<&'static Volume, Fault> {
    let volume = usize::try_from(number).ok().and_then(|at| volumes().get(at));
    volume
        .and_then(|volume| volume.as_ref().ok())
        .ok_or(Fault::NotFound)
}

fn answer(result: Result<u64, Fault>) -> i64 {
    match result {
        Ok(value) => value.try_into().unwrap_or(i64::MAX),
        Err(fault) => fault as i64,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sys_hermitage_disk_find(label: *const u8, length: usize) -> i64 {
    // SAFETY: the caller gives a label of this length.
    answer(find(unsafe { slice::from_raw_parts(label, length) }))
}

#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_disk_open(number: u64) -> i64 {
    answer(get(number).and_then(|volume| {
        if volume.is_open.swap(true, Ordering::Acquire) {
            return Err(Fault::Busy);
        }
        Ok(volume.disk.is_read_only().into())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_disk_close(number: u64) {
    if let Ok(volume) = get(number) {
        volume.is_open.store(false, Ordering::Release);
    }
}

#[unsafe(no_mangle)]
extern "C" fn sys_hermitage_disk_size(number: u64) -> i64 {
    answer(get(number).and_then(|volume| volume.disk.sectors()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sys_hermitage_disk_request(
    number: u64,
    access: u32,
    sector: u64,
    start: *mut u8,
    length: usize,
) -> i64 {
    let done = get(number).and_then(|Volume { disk, .. }| match Access::of(access) {
        // SAFETY: the caller gives a buffer of this length, its own while the call lasts.
        Some(Access::Read) => disk.read(sector, unsafe { slice::from_raw_parts_mut(start, length) }),
        // SAFETY: the caller gives as many bytes, which stay as they are while the call lasts.
        Some(Access::Write) => disk.write(sector, unsafe { slice::from_raw_parts(start, length) }),
        Some(Access::Flush) => disk.flush(),
        Some(Access::Discard) => disk.discard(sector, (length / SECTOR) as u64),
        None => Err(Fault::Unsupported),
    });
    answer(done.map(|()| 0))
}
