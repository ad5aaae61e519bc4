//! The loader's other half: what only a bare machine has.
//!
//! - [`protocol`]: what the way in told;
//! - [`heap`], [`paging`], [`interrupts`]: memory, and what happens when an access to it is wrong;
//! - [`port`], [`uart`], [`fw_cfg`], [`pci`], [`virtio`], [`acpi`]: devices;
//! - [`cpu`], [`clock`], [`timeline`], [`entropy`]: what the CPU says, time and chance;
//! - [`handoff`]: the jump into the kernel; [`end`]: the other way out.

pub(crate) mod acpi;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod end;
pub(crate) mod entropy;
pub(crate) mod fw_cfg;
pub(crate) mod handoff;
pub(crate) mod heap;
pub(crate) mod interrupts;
pub(crate) mod paging;
pub(crate) mod pci;
pub(crate) mod port;
pub(crate) mod protocol;
pub(crate) mod timeline;
pub(crate) mod uart;
pub(crate) mod virtio;

use core::arch::global_asm;

/// Bytes of the stack. The deepest user is the parse of the partition table, at a few KiB.
const STACK_SIZE: usize = 64 * 1024;

global_asm!(
    include_str!("entry.s"),
    main = sym crate::main,
    stack_size = const STACK_SIZE,
    options(att_syntax)
);
