//! The boot code in an image's MBR.
//!
//! The BIOS loads it to 0x7c00. It reads the `loader` partition's first sectors through the BIOS, checks their sum,
//! asks for the memory map, enters 32-bit protected mode, copies the loader to 0x100000 and jumps to the entry in
//! the loader's ELF header. It knows nothing of ELF beyond that, of GPT or of file systems. All of it is in
//! `boot.s`; the builder fills in two fields at its end (see `layout.ld`).
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::panic::PanicInfo;

global_asm!(include_str!("boot.s"), options(att_syntax));

/// There is no Rust code here that could panic; the compiler wants a handler all the same.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
