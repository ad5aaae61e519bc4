//! A guest made of a few machine instructions, so that the launcher is tested without a guest toolchain: bytes
//! for the serial ports, then an end. It boots both ways, from the MBR's boot code and as a multiboot kernel.

use std::path::{Path, PathBuf};

use hermitage_boot::{BootConfig, CONSOLE_PORT, CONTROL_PORT, DEBUG_EXIT_PORT};
use hermitage_disk::BlockDevice as _;
use hermitage_disk::layout::{LOADER, SECTOR};
use hermitage_disk::qcow2::Qcow2;
use hermitage_disk::{boot_code, table};

/// What the guest does, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// Writes to its console.
    Console(&'a str),
    /// Writes to its control channel.
    Control(&'a str),
    /// Writes to the debug exit.
    Exit(u8),
    /// Resets the machine, which a triple fault does, too.
    Reset,
    /// Writes to its console, again and again; nothing after it is reached.
    Loop(&'a str),
    /// Waits until the launcher says something on the control channel.
    Listen,
    /// Waits for ever.
    Halt,
}

/// Where a multiboot kernel is loaded.
const KERNEL_BASE: u32 = 0x10_0000;

/// Writes an image with this guest to `folder`.
pub(crate) fn image(folder: &Path, steps: &[Step<'_>]) -> PathBuf {
    let path = folder.join("stand-in.qcow2");
    let disk = Qcow2::create(&path, 2 << 20).unwrap();
    let mut boot_code = [0; table::BOOT_CODE];
    let code = assemble(steps, &[]);
    boot_code[..code.len()].copy_from_slice(&code);
    let loader = kernel(steps);
    let boot_code = boot_code::complete(&boot_code, &loader).unwrap();
    table::write(&disk, &boot_code, [7; 16]).unwrap();
    disk.write_at(LOADER.first * SECTOR, &loader).unwrap();
    let config = BootConfig {
        arguments: vec![b"stand-in".to_vec()],
        ..BootConfig::default()
    };
    let start = hermitage_disk::layout::BOOT_CONFIG.first * SECTOR;
    disk.write_at(start, &config.encode().unwrap()).unwrap();
    disk.flush().unwrap();
    path
}

/// A multiboot header that says where everything lies (so no ELF is needed), then 32-bit code.
fn kernel(steps: &[Step<'_>]) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    const ADDRESSES_GIVEN: u32 = 1 << 16;
    const HEADER: u32 = 32;
    // 16-bit operands, in 32-bit code.
    let code = assemble(steps, &[0x66]);
    let end = KERNEL_BASE + HEADER + u32::try_from(code.len()).unwrap();
    let words = [
        MAGIC,
        ADDRESSES_GIVEN,
        0_u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES_GIVEN),
        KERNEL_BASE,
        KERNEL_BASE,
        end,
        end,
        KERNEL_BASE + HEADER,
    ];
    let header = words.iter().flat_map(|word| word.to_le_bytes());
    header.chain(code).collect()
}

/// Machine code; `prefix` stands before instructions with 16-bit operands.
fn assemble(steps: &[Step<'_>], prefix: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    let write = |code: &mut Vec<u8>, port: u16, bytes: &[u8]| {
        let [low, high] = port.to_le_bytes();
        code.extend_from_slice(prefix);
        code.extend([0xba, low, high]); // mov dx, port
        for &byte in bytes {
            code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
        }
    };
    for step in steps {
        match step {
            Step::Console(text) => write(&mut code, CONSOLE_PORT, text.as_bytes()),
            Step::Control(text) => write(&mut code, CONTROL_PORT, text.as_bytes()),
            Step::Exit(status) => write(&mut code, DEBUG_EXIT_PORT, &[*status]),
            // The system control port, whose bit 0 is the reset.
            Step::Reset => write(&mut code, 0x92, &[1]),
            Step::Loop(text) => {
                let start = code.len();
                write(&mut code, CONSOLE_PORT, text.as_bytes());
                let length = i8::try_from(code.len() - start + 2).unwrap();
                code.extend([0xeb, (-length) as u8]); // jmp to its start
            }
            Step::Listen => {
                // The UART's line status, whose bit 0 says that there is a byte.
                let [low, high] = (CONTROL_PORT + 5).to_le_bytes();
                code.extend_from_slice(prefix);
                code.extend([0xba, low, high]); // mov dx, port
                code.extend([0xec, 0xa8, 1, 0x74, 0xfb]); // in al, dx; test al, 1; jz to the in
            }
            Step::Halt => {}
        }
    }
    code.extend([0xfa, 0xf4, 0xeb, 0xfd]); // cli; hlt; jmp to the hlt
    code
}
