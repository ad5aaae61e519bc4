//! libhermit: the kernel and our glue, the archive that turns a service into a unikernel.
//!
//! The glue stands where the kernel, Rust's runtime and the world outside meet. It owns what happens there, and
//! nothing of what happens on either side:
//! - [`start`]: between the kernel and `main`: arguments and environment out of the boot configuration;
//! - [`control`]: between the launcher and all of the guest: what is told and asked;
//! - [`stop`]: between the launcher and the program: the request to end;
//! - [`end`]: between the program and the power switch: what the launcher learns about a guest's end;
//! - [`fault`]: the words for a CPU exception;
//! - [`files`]: between `std::fs` and the image's disk; [`disk`]: that disk, and those of the program;
//! - [`network`]: what is told of the network card;
//! - [`trace`]: time marks of the boot;
//! - [`port`]: the serial ports and the other I/O ports that this takes; [`lock`].
//!
//! It gets in between in two ways. The linker's `--wrap` sends what the service calls `NAME` to our `__wrap_NAME`
//! (`wraps.txt` lists the names; what was wrapped stays reachable as `__real_NAME`); and the patches in
//! `guest/kernel/patches` make the kernel call our `hermitage_NAME`.
#![no_std]
#![feature(alloc_error_handler, linkage, std_internals)]
#![expect(
    internal_features,
    reason = "the payload of a panic, which the panic runtime of Rust 1.85.0 gets"
)]

extern crate alloc;

mod control;
mod disk;
mod end;
mod fault;
mod files;
mod lock;
mod network;
mod port;
mod start;
mod stop;
mod trace;
