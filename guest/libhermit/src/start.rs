//! From the kernel to `main`: the boot configuration becomes `argv` and the environment.

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::{ptr, slice};

use hermitage_boot::control::mark;
use hermitage_boot::files::{DISKS_VARIABLE, FILES_VARIABLE, disks};
use hermitage_boot::{BootConfig, Files, HANDOFF_VARIABLE, Reason};

use crate::{control, disk, end, files, trace};

unsafe extern "C" {
    fn __real_runtime_entry(argc: i32, argv: *const *const c_char, env: *const *const c_char) -> !;
}

unsafe extern "C" {
    /// `guest/data` has it, which is linked with those programs alone whose packages want it.
    #[linkage = "extern_weak"]
    static __wrap_main: Option<unsafe extern "C" fn(isize, *const *const c_char) -> i32>;
}

/// The label of the volume that is mounted before `main`.
const DATA: &[u8] = b"/data";
const NO_DATA: &str = "`/data`: a volume is to be mounted there, but the program was built without what mounts it; \
                       its package needs `volumes: [/data]` in `package.yaml`";

/// What the kernel calls when it is up. Its own arguments and environment are the loader's words to it, not to the
/// program; only a foreign loader, which hands over no boot configuration, has nothing better.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_runtime_entry(
    argc: i32,
    argv: *const *const c_char,
    env: *const *const c_char,
) -> ! {
    // SAFETY: the kernel ends its environment with a null pointer, and its strings with a NUL; it keeps them for
    // ever.
    let (argc, argv, env) = match unsafe { handed_over(env) } {
        Some(config) => unpack(config),
        None => (argc, argv, env),
    };
    control::listen();
    // SAFETY: the linker set it, and nobody does later.
    let mounts_data = unsafe { __wrap_main }.is_some();
    if !mounts_data && disk::is_attached(DATA) {
        end::because(Reason::Boot, format_args!("{NO_DATA}"));
    }
    trace::reached(mark::MAIN);
    // SAFETY: these are as the kernel would give them: NUL-terminated strings that live for ever, `argc` of them in
    // `argv`, and a null pointer at the end of `env`.
    unsafe { __real_runtime_entry(argc, argv, env) }
}

/// The boot configuration that the loader left in memory, if it did. Where files and disks are, it says beside.
///
/// # Safety
/// `env` is null, or an array of C strings that live for ever, with a null pointer at its end.
unsafe fn handed_over(env: *const *const c_char) -> Option<BootConfig> {
    let mut found = None;
    let mut entry = env;
    // SAFETY: `entry` starts at the array, and moves on only while it has not seen the null pointer at its end.
    while !entry.is_null() && unsafe { !(*entry).is_null() } {
        // SAFETY: not null, so a C string that lives for ever.
        let text = unsafe { CStr::from_ptr(*entry) }.to_str().unwrap_or_default();
        // SAFETY: not yet at the end of the array.
        entry = unsafe { entry.add(1) };

        match text.split_once('=') {
            Some((FILES_VARIABLE, value)) => {
                if let Some(files) = Files::parse(value) {
                    files::are_at(files);
                }
            }
            Some((DISKS_VARIABLE, value)) => disk::are_at(disks(value).collect()),
            // SAFETY: the loader says where it put the bytes.
            Some((HANDOFF_VARIABLE, value)) => found = unsafe { decode(value) }.or(found),
            _ => {}
        }
    }
    found
}

/// Decodes the boot configuration at `0x<address>,<length>`.
///
/// # Safety
/// The loader wrote that: what lies there is identity-mapped, and never given to the kernel's allocator.
unsafe fn decode(place: &str) -> Option<BootConfig> {
    let (address, length) = place.strip_prefix("0x")?.split_once(',')?;
    let address = usize::from_str_radix(address, 16).ok()?;
    let length = length.parse().ok()?;
    // SAFETY: as the caller promises.
    let bytes = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(address), length) };
    match BootConfig::decode(bytes) {
        Ok(config) => Some(config),
        Err(error) => end::because(Reason::Boot, format_args!("{error}")),
    }
}

fn unpack(config: BootConfig) -> (i32, *const *const c_char, *const *const c_char) {
    if config.trace {
        trace::begin();
    }
    // At most `MAX_ARGUMENTS`.
    let argc = config.arguments.len() as i32;
    (argc, c_strings(config.arguments), c_strings(config.environment))
}

/// Makes C strings that live for ever, with a null pointer behind the last.
fn c_strings(words: Vec<Vec<u8>>) -> *const *const c_char {
    let mut pointers = Vec::with_capacity(words.len() + 1);
    for mut word in words {
        word.push(0);
        pointers.push(word.leak().as_ptr().cast());
    }
    pointers.push(ptr::null());
    pointers.leak().as_ptr()
}
