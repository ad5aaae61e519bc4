//! The loader's other half: what only a bare machine has.
//!
//! - [`protocol`]: what the way in told;
//! - [`heap`], [`paging`], [`interrupts`]: memory, and what happens when an access to it is wrong;
//! - [`port`], [`uart`], [`fw_cfg`], [`pci`], [`mmio`], [`virtio`], [`acpi`]: devices;
//! - [`cpu`], [`clock`], [`timeline`], [`entropy`]: what the CPU says, time and chance;
//! - [`handoff`]: the jump into the kernel; [`end`]: the other way out.
//!
//! Physical memory, which is mapped to itself:
//!
//! | from | to | what |
//! | --- | --- | --- |
//! | 0x1000 | 0x2000 | the boot sector's memory map |
//! | 0x8000 | 0x9000 | the kernel's code that starts other CPUs |
//! | 0x10000 | 0x90000 | the boot sector gathers the loader here |
//! | 0x100000 | below 0x200000 | the loader; the kernel keeps its page tables, stack, device tree, boot configuration |
//! | 0x200000 | - | the kernel, then its free memory |
//! | - | end of that RAM, or 4 GiB | the program's file, then the heap: free for the kernel after the jump |

pub(crate) mod acpi;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod end;
pub(crate) mod entropy;
pub(crate) mod fw_cfg;
pub(crate) mod handoff;
pub(crate) mod heap;
pub(crate) mod interrupts;
pub(crate) mod mmio;
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
    console = const hermitage_boot::CONSOLE_PORT,
    control = const hermitage_boot::CONTROL_PORT,
    debug_exit = const hermitage_boot::DEBUG_EXIT_PORT,
    boot_code = const hermitage_boot::Reason::Boot.code(),
    options(att_syntax)
);
