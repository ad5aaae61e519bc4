//! QEMU's fw_cfg device: files that the host gives to the guest (QEMU, `docs/specs/fw_cfg`).

use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{Ordering, fence};

use super::{clock, port};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;

const KEY_SIGNATURE: u16 = 0;
const KEY_FEATURES: u16 = 1;
/// Length and bytes of the command line for a Linux kernel.
const KEY_LINE_LENGTH: u16 = 0x14;
const KEY_LINE: u16 = 0x15;
const KEY_DIRECTORY: u16 = 0x19;

const FEATURE_DMA: u32 = 1 << 1;

const DMA_ERROR: u32 = 1 << 0;
const DMA_READ: u32 = 1 << 1;

/// Bytes of a directory entry: size u32, key u16, reserved u16, name with NULs to 56 bytes; big endian.
const ENTRY: usize = 64;
const NAME: usize = 8;
/// Most files in the directory: keys are 14 bits, QEMU's default is 32.
const MAX_FILES: u32 = 0x4000;

/// The device.
pub(crate) struct FwCfg {
    dma: bool,
}

#[repr(C, align(16))]
struct DmaRequest {
    control: u32,
    length: u32,
    address: u64,
}

impl FwCfg {
    /// The device, if this is QEMU.
    pub(crate) fn open() -> Option<Self> {
        let by_port = Self { dma: false };
        let mut signature = [0; 4];
        by_port.select(KEY_SIGNATURE);
        by_port.read(&mut signature)?;
        if signature != *b"QEMU" {
            return None;
        }
        let mut features = [0; 4];
        by_port.select(KEY_FEATURES);
        by_port.read(&mut features)?;
        Some(Self {
            dma: u32::from_le_bytes(features) & FEATURE_DMA != 0,
        })
    }

    /// A file's first bytes, at most `most` of them. `None` if there is no such file.
    pub(crate) fn file(&self, name: &str, most: usize) -> Option<Vec<u8>> {
        let mut count = [0; 4];
        self.select(KEY_DIRECTORY);
        self.read(&mut count)?;
        let count = u32::from_be_bytes(count).min(MAX_FILES);
        let mut directory = vec![0; count as usize * ENTRY];
        self.read(&mut directory)?;
        let entry = directory.chunks_exact(ENTRY).find(|entry| {
            let (file, rest) = entry[NAME..].split_at(name.len().min(ENTRY - NAME));
            file == name.as_bytes() && rest.first() == Some(&0)
        })?;
        let size = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
        let mut bytes = vec![0; size.min(most)];
        self.select(u16::from_be_bytes([entry[4], entry[5]]));
        self.read(&mut bytes)?;
        Some(bytes)
    }

    /// The command line that QEMU has for a Linux kernel, at most `most` bytes of it. On a microvm it names the devices
    /// there, which QEMU adds too late for the line that multiboot gives.
    pub(crate) fn command_line(&self, most: usize) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.select(KEY_LINE_LENGTH);
        self.read(&mut length)?;
        let mut line = vec![0; (u32::from_le_bytes(length) as usize).min(most)];
        self.select(KEY_LINE);
        self.read(&mut line)?;
        line.truncate(line.iter().position(|byte| *byte == 0).unwrap_or(line.len()));
        Some(line)
    }

    /// Goes to the start of an item.
    fn select(&self, key: u16) {
        // SAFETY: selects an item; where this is not QEMU, nobody uses these ports.
        unsafe { port::write16(SELECTOR, key) };
    }

    /// Reads on in the selected item.
    fn read(&self, buffer: &mut [u8]) -> Option<()> {
        if buffer.is_empty() {
            return Some(());
        }
        if self.dma {
            self.read_dma(buffer)
        } else {
            self.read_port(buffer)
        }
    }

    fn read_port(&self, buffer: &mut [u8]) -> Option<()> {
        // SAFETY: writes exactly the bytes of `buffer`.
        unsafe {
            asm!("rep insb", in("dx") DATA, inout("rdi") buffer.as_mut_ptr() => _, inout("rcx") buffer.len() => _,
                options(nostack, preserves_flags));
        }
        Some(())
    }

    fn read_dma(&self, buffer: &mut [u8]) -> Option<()> {
        let mut request = DmaRequest {
            control: DMA_READ.to_be(),
            length: u32::try_from(buffer.len()).ok()?.to_be(),
            address: (buffer.as_mut_ptr() as u64).to_be(),
        };
        let request = &raw mut request;
        let address = request as u64;
        fence(Ordering::SeqCst);
        // SAFETY: the device reads the request and writes exactly `buffer`, before the second write returns or, in
        // theory, until `control` shows that it is done.
        unsafe {
            port::write32(DMA_HIGH, ((address >> 32) as u32).to_be());
            port::write32(DMA_LOW, (address as u32).to_be());
            loop {
                match u32::from_be((&raw const (*request).control).read_volatile()) {
                    0 => break,
                    control if control & DMA_ERROR != 0 => return None,
                    _ => clock::pause(),
                }
            }
        }
        fence(Ordering::SeqCst);
        Some(())
    }
}
