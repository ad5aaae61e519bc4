//! Mounts the folder on the volume labelled `/data` before `main`, so that a program that knows `std::fs` alone has it.
//!
//! The builder links this with the programs of a package whose manifest has `volumes: [/data]`, though no source of theirs
//! names it, and has the linker lead the call of `main` here (`--wrap=main`, `builder/src/service.rs`). Arguments and
//! environment are there by then. The glue ends a guest that has such a volume and a program without this
//! (`guest/libhermit/src/start.rs`).
//!
//! On the host there is nothing of it: `/data` is the host's own.
#![cfg(target_os = "hermit")]

use std::ffi::c_char;
use std::io::{self, ErrorKind};

use hermitage_runtime::folder;

/// The volume's label, and where it is mounted.
const DATA: &str = "/data";

// SAFETY: `main` has the signature that `std` calls it with; the glue gives its function this one.
unsafe extern "C" {
    fn __real_main(argc: isize, argv: *const *const c_char) -> i32;
    /// Ends the guest, as one that could not be started, with these words.
    fn sys_hermitage_refuse(reason: *const u8, length: usize) -> !;
}

// SAFETY: the linker puts this in the place of `main`, which `std` alone calls.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_main(argc: isize, argv: *const *const c_char) -> i32 {
    if let Err(error) = mount() {
        let reason = format!("`{DATA}`: {}", said(&error));
        // SAFETY: the text has this length.
        unsafe { sys_hermitage_refuse(reason.as_ptr(), reason.len()) }
    }
    // SAFETY: called once, with what `std` gave.
    unsafe { __real_main(argc, argv) }
}

fn mount() -> io::Result<()> {
    match folder::mount(DATA) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        mounted => mounted.map(drop),
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "the volume is attached with `:ro`; a folder is mounted to be written".to_owned()
        }
        ErrorKind::InvalidData => error.to_string(),
        _ => format!("the volume cannot be read or written: {error}"),
    }
}
