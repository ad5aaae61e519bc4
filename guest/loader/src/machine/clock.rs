//! The time-stamp counter, and its frequency.

use core::arch::asm;
use core::arch::x86_64::_rdtsc;

use super::cpu::cpuid;
use super::port;

/// The counter now.
pub(crate) fn now() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { _rdtsc() }
}

/// The counter's frequency in kHz: what the CPU says, else what the timer chip shows.
pub(crate) fn khz() -> u32 {
    from_crystal().or_else(from_hypervisor).unwrap_or_else(measure)
}

/// CPUID 0x15: counter and crystal clock as a ratio, and the crystal's frequency.
fn from_crystal() -> Option<u32> {
    let leaf = cpuid(0x15, 0);
    let hz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax).max(1);
    u32::try_from(hz / 1000).ok().filter(|khz| *khz != 0)
}

/// The leaf in which VMware, and KVM after it, tell the frequency in kHz.
fn from_hypervisor() -> Option<u32> {
    Some(cpuid(0x4000_0010, 0).eax).filter(|khz| *khz != 0)
}

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Channel 2, both bytes, mode 0: counts down once.
const PIT_COUNT_DOWN: u8 = 0xb0;
/// Holds channel 2's count for the next two reads.
const PIT_LATCH: u8 = 0x80;
const PIT_HZ: u64 = 1_193_182;
/// The port with the gate of channel 2 (bit 0) and the speaker (bit 1).
const GATE: u16 = 0x61;
const GATE_ON: u8 = 1;
const SPEAKER_ON: u8 = 2;

/// Ticks that are measured: 1 ms. A sample is right to about 2 us, the result then to 0.2 %.
const TICKS: u64 = PIT_HZ / 1000;
/// Looks at the chip for a sample, and for the end of the measurement. The last is reached in 20 ms at least, where
/// the chip is absent.
const SAMPLES: u32 = 8;
const MAX_LOOKS: u32 = 20_000;
/// What is assumed without a timer chip. Time is then wrong, but passes.
const FALLBACK_KHZ: u32 = 2_000_000;

fn measure() -> u32 {
    // SAFETY: these are the registers of the PC's timer; channel 2 drives the speaker alone, which is off.
    unsafe {
        port::write8(GATE, port::read8(GATE) & !SPEAKER_ON | GATE_ON);
        port::write8(PIT_COMMAND, PIT_COUNT_DOWN);
        port::write8(PIT_CHANNEL_2, 0xff);
        port::write8(PIT_CHANNEL_2, 0xff);
    }
    let first = sample();
    let passed = |last: &Look| u64::from(first.count.wrapping_sub(last.count));
    let Some(_) = (0..MAX_LOOKS).map(|_| look()).find(|last| passed(last) >= TICKS) else {
        return FALLBACK_KHZ;
    };
    let last = sample();
    let khz = last.tsc.wrapping_sub(first.tsc) * PIT_HZ / passed(&last).max(1) / 1000;
    u32::try_from(khz)
        .ok()
        .filter(|khz| *khz != 0)
        .unwrap_or(FALLBACK_KHZ)
}

/// The timer chip's count at a moment.
struct Look {
    /// The moment, in the middle of the look.
    tsc: u64,
    /// How long the look took.
    width: u64,
    count: u16,
}

/// The quickest of some looks: a virtual CPU may lose its host's CPU in the middle of one.
fn sample() -> Look {
    let first = look();
    (1..SAMPLES).map(|_| look()).fold(
        first,
        |best, look| if look.width < best.width { look } else { best },
    )
}

fn look() -> Look {
    // SAFETY: as in `measure`.
    unsafe {
        let start = now();
        port::write8(PIT_COMMAND, PIT_LATCH);
        let width = now() - start;
        let count = u16::from_le_bytes([port::read8(PIT_CHANNEL_2), port::read8(PIT_CHANNEL_2)]);
        Look {
            tsc: start + width / 2,
            width,
            count,
        }
    }
}

/// Waits for a moment in a loop that waits for a device.
pub(crate) fn pause() {
    // SAFETY: a hint.
    unsafe { asm!("pause", options(nomem, nostack, preserves_flags)) };
}
