//! The jump into the kernel, and what stays of the loader for it: page tables, a stack, the device tree, the boot
//! configuration. All of that lies in the loader's image, below 2 MiB, and never becomes the kernel's free memory.

use core::arch::asm;
use core::mem::MaybeUninit;
use core::num::{NonZeroU16, NonZeroU64};

use hermit_entry::boot_info::{BootInfo, HardwareInfo, PlatformInfo, RawBootInfo};
use hermit_entry::elf::LoadedKernel;
use hermitage_boot::CONSOLE_PORT;
use hermitage_boot::config::MAX_ENCODED;

use super::paging;
use hermitage_loader::program::Program;

/// Bytes of the stack that the kernel's idle task keeps: `KERNEL_STACK_SIZE` of hermit-kernel's `config.rs`. The
/// kernel takes `rsp` for the stack's lower end.
const KERNEL_STACK: usize = 0x8000;

/// Room for the device tree: some 700 bytes.
const MAX_DEVICE_TREE: usize = 4096;

/// Not zeroed at the start: each part is written before it is read.
#[repr(C, align(16))]
struct Kept {
    stack: [u8; KERNEL_STACK],
    device_tree: [u8; MAX_DEVICE_TREE],
    boot_config: [u8; MAX_ENCODED],
    boot_info: MaybeUninit<RawBootInfo>,
}

#[unsafe(link_section = ".uninit.kept")]
static mut KEPT: MaybeUninit<Kept> = MaybeUninit::uninit();

fn kept() -> &'static mut Kept {
    let kept = &raw mut KEPT;
    // SAFETY: no caller holds on to the reference while another one gets it. The memory is RAM of any content, and
    // any content makes the arrays of a `Kept`.
    unsafe { (*kept).assume_init_mut() }
}

/// Keeps an encoded boot configuration; its address.
pub(crate) fn keep_boot_config(bytes: &[u8]) -> u64 {
    let place = &mut kept().boot_config;
    place[..bytes.len()].copy_from_slice(bytes);
    place.as_ptr() as u64
}

/// Loads the kernel and keeps what it is told; what is left to do is the jump.
pub(crate) fn load(program: &Program<'_>, device_tree: &[u8], memory_end: u64) -> Entry {
    let length = (program.end - program.start) as usize;
    // SAFETY: the caller made sure that this is RAM, apart from the heap and the file.
    let image = unsafe { core::slice::from_raw_parts_mut(program.start as *mut MaybeUninit<u8>, length) };
    let LoadedKernel {
        load_info,
        entry_point,
    } = program.object.load_kernel(image, program.start);

    let kept = kept();
    kept.device_tree[..device_tree.len()].copy_from_slice(device_tree);
    let info = BootInfo {
        hardware_info: HardwareInfo {
            phys_addr_range: 0..memory_end,
            serial_port_base: NonZeroU16::new(CONSOLE_PORT),
            device_tree: NonZeroU64::new(kept.device_tree.as_ptr() as u64),
        },
        load_info,
        platform_info: PlatformInfo::Fdt,
    };
    let boot_info = kept.boot_info.write(info.into());
    Entry {
        tables: paging::kernel_tables(program.mapped_end()),
        stack: kept.stack.as_ptr() as u64,
        boot_info,
        address: entry_point,
    }
}

/// The way into a loaded kernel.
pub(crate) struct Entry {
    tables: u64,
    stack: u64,
    boot_info: *const RawBootInfo,
    address: u64,
}

impl Entry {
    /// Jumps.
    pub(crate) fn enter(self) -> ! {
        // SAFETY: the tables map this code, the kernel, and all that it was told; the stack is its own. The loader
        // does not go on.
        unsafe {
            asm!(
                "mov cr3, {tables}",
                "mov rsp, {stack}",
                "xor ebp, ebp",
                "jmp {address}",
                tables = in(reg) self.tables,
                stack = in(reg) self.stack,
                address = in(reg) self.address,
                in("rdi") self.boot_info,
                in("esi") 0,
                options(noreturn)
            )
        }
    }
}
