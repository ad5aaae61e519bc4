//! What is said between the launcher, the loader and the guest.
//!
//! This crate owns six small formats, and the names and addresses under which they are found:
//! - [`config`]: the boot configuration, what a guest is told at its start (arguments, environment, flags);
//! - [`address`]: the addresses that a guest is given, and those that it tells;
//! - [`sets`]: the commands that an image has by name;
//! - [`control`]: the lines that a guest writes to its control channel (time marks, its address, how it ended);
//! - [`end`]: how a guest can end, and the exit code that each end has;
//! - [`files`]: where a guest finds its image's files;
//! - [`seal`]: the checksum in a program's file.
//!
//! It does not own how the bytes travel: the launcher, the loader and the guest's runtime do that.
//! Start reading at [`config::BootConfig`].
#![no_std]

extern crate alloc;

pub mod address;
pub mod config;
pub mod control;
pub mod end;
pub mod files;
pub mod seal;
pub mod sets;

pub use address::{Ipv4Cidr, StaticAddress};
pub use config::BootConfig;
pub use control::Record;
pub use end::{GuestEnd, Reason};
pub use files::{DeviceAddress, Files};
pub use sets::BootSets;

/// Name of the fw_cfg file that carries an encoded [`BootConfig`] (QEMU, `docs/specs/fw_cfg`: user files
/// live under `opt/`, then a reverse domain name of their owner).
pub const FW_CFG_BOOT_CONFIG: &str = "opt/org.hermitage/boot";

/// First I/O port of the console (COM1), a 16550 UART.
pub const CONSOLE_PORT: u16 = 0x3f8;

/// First I/O port of the control channel (COM2), a 16550 UART. A guest writes [`Record`]s to it.
pub const CONTROL_PORT: u16 = 0x2f8;

/// I/O port of QEMU's `isa-debug-exit`; a write of `v` ends QEMU with the status `(v << 1) | 1`.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;

/// Kernel environment variable through which the loader tells the glue where the encoded [`BootConfig`] lies:
/// `<physical address, hexadecimal with 0x>,<length in bytes, decimal>`. The memory is identity-mapped.
pub const HANDOFF_VARIABLE: &str = "HERMITAGE_BOOT";
