//! Random numbers: from the CPU, or from a virtio device.

use core::arch::asm;

use super::cpu::cpuid;
use super::virtio::Devices;
use hermitage_loader::error::Error;

/// Tries for one number before the instruction counts as broken; Intel's advice is 10.
const TRIES: u32 = 100;

/// Random bytes that nobody can guess.
///
/// # Errors
/// There is no source of them.
pub(crate) fn seed<const N: usize>(devices: &Devices) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    if from_cpu(&mut bytes) || devices.entropy(&mut bytes) {
        Ok(bytes)
    } else {
        Err(Error::NoEntropy)
    }
}

fn from_cpu(bytes: &mut [u8]) -> bool {
    const RDRAND: u32 = 1 << 30;
    const RDSEED: u32 = 1 << 18;
    let has_rdrand = cpuid(1, 0).ecx & RDRAND != 0;
    let has_rdseed = cpuid(7, 0).ebx & RDSEED != 0;
    bytes.chunks_mut(size_of::<u64>()).all(|chunk| {
        let number = has_rdseed
            .then(rdseed)
            .flatten()
            .or_else(|| has_rdrand.then(rdrand).flatten());
        let Some(number) = number else { return false };
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        true
    })
}

fn rdseed() -> Option<u64> {
    (0..TRIES).find_map(|_| {
        let (number, done): (u64, u8);
        // SAFETY: the caller made sure that the CPU has the instruction.
        unsafe { asm!("rdseed {}", "setc {}", out(reg) number, out(reg_byte) done, options(nomem, nostack)) };
        (done != 0).then_some(number)
    })
}

fn rdrand() -> Option<u64> {
    (0..TRIES).find_map(|_| {
        let (number, done): (u64, u8);
        // SAFETY: the caller made sure that the CPU has the instruction.
        unsafe { asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) done, options(nomem, nostack)) };
        (done != 0).then_some(number)
    })
}
