//! The system calls of files. Each answers as the kernel's do: what is wrong is a negative number.

use alloc::ffi::CString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_void};
use core::mem::offset_of;
use core::{ptr, slice};

use hermit::errno::{EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, EROFS, EXDEV};
use hermit::fd::{AccessPermission, OpenOption};
use hermit::fs::FileAttr;
use hermit::syscalls::Dirent64;
use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::Inode;
use hermitage_files::path::{Place, place};

use super::table::{self, Open, What};
use super::{Errno, Result, image, mounted};

#[expect(
    improper_ctypes,
    reason = "the kernel gives its `FileAttr` a C layout, but not the flags in it, a `u32`"
)]
unsafe extern "C" {
    fn __real_sys_open(name: *const c_char, flags: i32, mode: u32) -> i32;
    fn __real_sys_close(descriptor: i32) -> i32;
    fn __real_sys_read(descriptor: i32, buffer: *mut u8, length: usize) -> isize;
    fn __real_sys_readv(descriptor: i32, parts: *const Part, count: usize) -> isize;
    fn __real_sys_write(descriptor: i32, bytes: *const u8, length: usize) -> isize;
    fn __real_sys_writev(descriptor: i32, parts: *const Part, count: usize) -> isize;
    fn __real_sys_lseek(descriptor: i32, offset: isize, whence: i32) -> isize;
    fn __real_sys_fstat(descriptor: i32, attributes: *mut FileAttr) -> i32;
    fn __real_sys_stat(name: *const c_char, attributes: *mut FileAttr) -> i32;
    fn __real_sys_lstat(name: *const c_char, attributes: *mut FileAttr) -> i32;
    fn __real_sys_getdents64(descriptor: i32, entries: *mut Dirent64, length: usize) -> i64;
    fn __real_sys_dup(descriptor: i32) -> i32;
    fn __real_sys_unlink(name: *const c_char) -> i32;
    fn __real_sys_mkdir(name: *const c_char, mode: u32) -> i32;
    fn __real_sys_rmdir(name: *const c_char) -> i32;
}

/// Most parts of a `readv`: the kernel's.
const MAX_PARTS: usize = 1024;

/// `struct iovec`.
#[repr(C)]
struct Part {
    start: *mut c_void,
    length: usize,
}

fn answer<T: TryInto<i32>>(result: Result<T>) -> i32 {
    match result {
        Ok(value) => value.try_into().unwrap_or(i32::MAX),
        Err(Errno(number)) => -number,
    }
}

fn long_answer<T: TryInto<isize>>(result: Result<T>) -> isize {
    match result {
        Ok(value) => value.try_into().unwrap_or(isize::MAX),
        Err(Errno(number)) => -(number as isize),
    }
}

/// Where a path leads, in the terms of who answers.
enum Lead<'a> {
    Root(&'a [u8]),
    Image(&'a [u8]),
    Mounted(Vec<u8>),
    Kernel(CString),
}

/// # Safety
/// `name` is a C string, for as long as what comes back lives.
unsafe fn lead<'a>(name: *const c_char) -> Result<Lead<'a>> {
    // SAFETY: as the caller promises.
    let name: &'a CStr = unsafe { CStr::from_ptr(name) };
    let path = name.to_bytes();
    Ok(match place(path) {
        Place::Mounted(path) if mounted::is_there() => Lead::Mounted(path),
        // Whoever came with a foreign loader has the kernel's files.
        _ if image::file_system()?.is_none() => Lead::Kernel(name.into()),
        Place::Root => Lead::Root(path),
        Place::Image | Place::Mounted(_) => Lead::Image(path),
        Place::Memory(path) => {
            // The kernel takes text alone.
            core::str::from_utf8(&path).map_err(|_| Errno(ENOENT))?;
            Lead::Kernel(CString::new(path).map_err(|_| Errno(EINVAL))?)
        }
    })
}

fn find(path: &[u8], follow: bool) -> Result<Inode> {
    let files = image::file_system()?.ok_or(Errno(ENOENT))?;
    Ok(if follow {
        files.resolve(path)?
    } else {
        files.resolve_link(path)?
    })
}

/// What is wrong with a change of what is the image's.
fn read_only(path: &[u8]) -> Errno {
    // Who wants to change this meant a volume.
    if matches!(place(path), Place::Mounted(_)) {
        mounted::say_that_none_is();
    }
    Errno(EROFS)
}

/// Opens what is the image's.
fn open(path: &[u8], flags: OpenOption) -> Result<Inode> {
    let creates = flags.contains(OpenOption::O_CREAT);
    let inode = match find(path, true) {
        Err(Errno(ENOENT)) if creates => return Err(read_only(path)),
        Ok(_) if creates && flags.contains(OpenOption::O_EXCL) => return Err(Errno(EEXIST)),
        found => found?,
    };
    let is_directory = inode.kind() == Kind::Directory;
    if flags.intersects(OpenOption::O_WRONLY | OpenOption::O_RDWR | OpenOption::O_TRUNC) {
        return Err(if is_directory {
            Errno(EISDIR)
        } else {
            read_only(path)
        });
    }
    if flags.contains(OpenOption::O_DIRECTORY) && !is_directory {
        return Err(Errno(ENOTDIR));
    }
    Ok(inode)
}

fn open_mounted(path: &[u8], flags: OpenOption) -> Result<mounted::Inode> {
    let inode = mounted::Inode::open(path, flags)?;
    let is_directory = inode.attributes()?.st_mode.contains(AccessPermission::S_IFDIR);
    if flags.contains(OpenOption::O_DIRECTORY) && !is_directory {
        return Err(Errno(ENOTDIR));
    }
    Ok(inode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_open(name: *const c_char, flags: i32, mode: u32) -> i32 {
    let options = OpenOption::from_bits_retain(flags);
    // SAFETY: the caller gives a C string.
    answer(unsafe { lead(name) }.and_then(|place| {
        let what = match place {
            // SAFETY: a C string.
            Lead::Kernel(path) => return Ok(unsafe { __real_sys_open(path.as_ptr(), flags, mode) }),
            Lead::Root(path) => What::Root(open(path, options)?),
            Lead::Image(path) => What::Image(open(path, options)?),
            Lead::Mounted(path) => What::Mounted(open_mounted(&path, options)?),
        };
        table::insert(Arc::new(Open::new(what)))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_sys_close(descriptor: i32) -> i32 {
    if table::is_ours(descriptor) {
        return answer(table::remove(descriptor).map(|()| 0));
    }
    // SAFETY: any number may be given.
    unsafe { __real_sys_close(descriptor) }
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_sys_dup(descriptor: i32) -> i32 {
    if table::is_ours(descriptor) {
        return answer(table::get(descriptor).and_then(table::insert));
    }
    // SAFETY: any number may be given.
    unsafe { __real_sys_dup(descriptor) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_read(descriptor: i32, buffer: *mut u8, length: usize) -> isize {
    if table::is_ours(descriptor) {
        // SAFETY: the caller gives a buffer of so many bytes.
        let buffer = unsafe { slice::from_raw_parts_mut(buffer, length) };
        return long_answer(table::get(descriptor).and_then(|file| file.read(buffer)));
    }
    // SAFETY: the caller's own.
    unsafe { __real_sys_read(descriptor, buffer, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_readv(descriptor: i32, parts: *const Part, count: usize) -> isize {
    if table::is_ours(descriptor) {
        // SAFETY: the caller gives so many parts, each a buffer of so many bytes.
        return unsafe {
            each(descriptor, parts, count, |file, part| {
                file.read(slice::from_raw_parts_mut(part.start.cast(), part.length))
            })
        };
    }
    // SAFETY: the caller's own.
    unsafe { __real_sys_readv(descriptor, parts, count) }
}

/// Does the same with each part, until one is not done as a whole.
///
/// # Safety
/// There are so many parts.
unsafe fn each(
    descriptor: i32,
    parts: *const Part,
    count: usize,
    mut work: impl FnMut(&Open, &Part) -> Result<usize>,
) -> isize {
    if count > MAX_PARTS {
        return -(EINVAL as isize);
    }
    long_answer(table::get(descriptor).and_then(|file| {
        let mut done = 0;
        // SAFETY: as the caller promises.
        for part in unsafe { slice::from_raw_parts(parts, count) } {
            let length = match work(&file, part) {
                Err(_) if done > 0 => break,
                length => length?,
            };
            done += length;
            if length < part.length {
                break;
            }
        }
        Ok(done)
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_write(descriptor: i32, bytes: *const u8, length: usize) -> isize {
    if table::is_ours(descriptor) {
        // SAFETY: the caller gives so many bytes.
        let bytes = unsafe { slice::from_raw_parts(bytes, length) };
        return long_answer(table::get(descriptor).and_then(|file| file.write(bytes)));
    }
    // SAFETY: the caller's own.
    unsafe { __real_sys_write(descriptor, bytes, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_writev(descriptor: i32, parts: *const Part, count: usize) -> isize {
    if table::is_ours(descriptor) {
        // SAFETY: the caller gives so many parts, each of so many bytes.
        return unsafe {
            each(descriptor, parts, count, |file, part| {
                file.write(slice::from_raw_parts(part.start.cast(), part.length))
            })
        };
    }
    // SAFETY: the caller's own.
    unsafe { __real_sys_writev(descriptor, parts, count) }
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_sys_lseek(descriptor: i32, offset: isize, whence: i32) -> isize {
    if table::is_ours(descriptor) {
        return long_answer(table::get(descriptor).and_then(|file| file.seek(offset as i64, whence)));
    }
    // SAFETY: any numbers may be given.
    unsafe { __real_sys_lseek(descriptor, offset, whence) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_fstat(descriptor: i32, attributes: *mut FileAttr) -> i32 {
    if table::is_ours(descriptor) {
        let found = table::get(descriptor).and_then(|file| file.attributes());
        // SAFETY: the caller gives room for the attributes.
        return answer(found.map(|found| unsafe {
            attributes.write(found);
            0
        }));
    }
    // SAFETY: the caller's own.
    unsafe { __real_sys_fstat(descriptor, attributes) }
}

/// # Safety
/// `name` is a C string, and `attributes` room for them; `real` takes the same.
unsafe fn stat(
    name: *const c_char,
    attributes: *mut FileAttr,
    follow: bool,
    real: unsafe extern "C" fn(*const c_char, *mut FileAttr) -> i32,
) -> i32 {
    let put = |found| {
        // SAFETY: as the caller promises.
        unsafe { attributes.write(found) };
        0
    };
    // SAFETY: as the caller promises.
    answer(unsafe { lead(name) }.and_then(|place| match place {
        // SAFETY: a C string, and as the caller promises.
        Lead::Kernel(path) => Ok(unsafe { real(path.as_ptr(), attributes) }),
        Lead::Mounted(path) => mounted::stat(&path).map(put),
        Lead::Root(path) | Lead::Image(path) => {
            find(path, follow).map(|inode| put(image::attributes(&inode)))
        }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_stat(name: *const c_char, attributes: *mut FileAttr) -> i32 {
    // SAFETY: the caller's own.
    unsafe { stat(name, attributes, true, __real_sys_stat) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_lstat(name: *const c_char, attributes: *mut FileAttr) -> i32 {
    // SAFETY: the caller's own.
    unsafe { stat(name, attributes, false, __real_sys_lstat) }
}

/// Gives all entries at once, or says `EINVAL` where there is not room for all: what `std` expects of the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_getdents64(descriptor: i32, entries: *mut Dirent64, length: usize) -> i64 {
    if !table::is_ours(descriptor) {
        // SAFETY: the caller's own.
        return unsafe { __real_sys_getdents64(descriptor, entries, length) };
    }
    // SAFETY: the caller gives room for `length` bytes, aligned as an entry is.
    let put = |directory: Arc<Open>| unsafe { put_entries(&directory, entries, length) };
    long_answer(table::get(descriptor).and_then(put)) as i64
}

/// # Safety
/// At `place` is room for `length` bytes, aligned as an entry is.
unsafe fn put_entries(directory: &Open, place: *mut Dirent64, length: usize) -> Result<usize> {
    const NAME: usize = offset_of!(Dirent64, d_name);
    let mut used = 0;
    for (number, kind, name) in directory.entries()? {
        let record = (NAME + name.len() + 1).next_multiple_of(align_of::<Dirent64>());
        if record > length - used {
            return Err(Errno(EINVAL));
        }
        // SAFETY: entry and name with its end fit into what is left of the room, as was just seen.
        unsafe {
            let entry = place.byte_add(used);
            (&raw mut (*entry).d_ino).write(number);
            (&raw mut (*entry).d_off).write((used + record) as i64);
            (&raw mut (*entry).d_reclen).write(record as u16);
            (&raw mut (*entry).d_type).write(kind as u8);
            let text = entry.cast::<u8>().add(NAME);
            ptr::copy_nonoverlapping(name.as_ptr(), text, name.len());
            text.add(name.len()).write(0);
        }
        used += record;
    }
    Ok(used)
}

/// Passes on what changes a directory; the image's never change.
///
/// # Safety
/// `name` is a C string.
unsafe fn change(
    name: *const c_char,
    mounted: impl FnOnce(&[u8]) -> Result<i32>,
    real: impl FnOnce(*const c_char) -> i32,
) -> i32 {
    // SAFETY: as the caller promises.
    answer(unsafe { lead(name) }.and_then(|place| match place {
        Lead::Kernel(path) => Ok(real(path.as_ptr())),
        Lead::Mounted(path) => mounted(&path),
        Lead::Root(path) | Lead::Image(path) => Err(read_only(path)),
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_unlink(name: *const c_char) -> i32 {
    // SAFETY: the caller gives a C string, and the kernel gets one.
    unsafe {
        change(
            name,
            |path| mounted::remove(path, false),
            |name| __real_sys_unlink(name),
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_rmdir(name: *const c_char) -> i32 {
    // SAFETY: the caller gives a C string, and the kernel gets one.
    unsafe {
        change(
            name,
            |path| mounted::remove(path, true),
            |name| __real_sys_rmdir(name),
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_sys_mkdir(name: *const c_char, mode: u32) -> i32 {
    // SAFETY: the caller gives a C string, and the kernel gets one.
    unsafe { change(name, mounted::make_directory, |name| __real_sys_mkdir(name, mode)) }
}

/// Not the kernel's: `std` calls it by `guest/std/patches`.
#[unsafe(no_mangle)]
extern "C" fn sys_fsync(descriptor: i32) -> i32 {
    if table::is_ours(descriptor) {
        return answer(table::get(descriptor).and_then(|file| file.sync()).map(|()| 0));
    }
    // What is in memory is as safe as it gets.
    0
}

/// Not the kernel's: `std` calls it by `guest/std/patches`.
#[unsafe(no_mangle)]
extern "C" fn sys_ftruncate(descriptor: i32, length: u64) -> i32 {
    if table::is_ours(descriptor) {
        return answer(
            table::get(descriptor)
                .and_then(|file| file.set_len(length))
                .map(|()| 0),
        );
    }
    // The kernel's files in memory know no such thing.
    -EINVAL
}

/// Not the kernel's: `std` calls it by `guest/std/patches`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sys_rename(old: *const c_char, new: *const c_char) -> i32 {
    // SAFETY: the caller gives C strings.
    let places = unsafe { lead(old).and_then(|old| Ok((old, lead(new)?))) };
    answer(places.and_then(|places| match places {
        (Lead::Mounted(old), Lead::Mounted(new)) => mounted::rename(&old, &new),
        // The kernel's files in memory know no such thing.
        (Lead::Kernel(_), Lead::Kernel(_)) => Err(Errno(EINVAL)),
        (Lead::Root(_) | Lead::Image(_), Lead::Root(path) | Lead::Image(path)) => Err(read_only(path)),
        _ => Err(Errno(EXDEV)),
    }))
}
