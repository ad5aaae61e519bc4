//! The time-stamp counter, and its frequency.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};

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
    const LEAF: u32 = 0x15;
    // SAFETY: every x86-64 CPU has the instruction; leaf 0 tells which leaves there are.
    let leaf = unsafe { (__cpuid(0).eax >= LEAF).then(|| __cpuid_count(LEAF, 0))? };
    let hz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax).max(1);
    u32::try_from(hz / 1000).ok().filter(|khz| *khz != 0)
}

/// The leaf in which VMware, and KVM after it, tell the frequency in kHz.
fn from_hypervisor() -> Option<u32> {
    const BASE: u32 = 0x4000_0000;
    const TIMING: u32 = 0x4000_0010;
    const HYPERVISOR: u32 = 1 << 31;
    // SAFETY: as in `from_crystal`; a bit in leaf 1 tells that there are hypervisor leaves.
    let khz = unsafe {
        let leaves = __cpuid(1).ecx & HYPERVISOR != 0 && __cpuid(BASE).eax >= TIMING;
        leaves.then(|| __cpuid(TIMING).eax)?
    };
    Some(khz).filter(|khz| *khz != 0)
}

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Channel 2, both bytes, mode 0: the output rises when the count is over.
const PIT_ONE_SHOT: u8 = 0xb0;
const PIT_HZ: u64 = 1_193_182;
/// The port with the gate of channel 2 (bit 0), the speaker (bit 1) and the channel's output (bit 5).
const GATE: u16 = 0x61;
const GATE_ON: u8 = 1;
const SPEAKER_ON: u8 = 2;
const OUTPUT: u8 = 0x20;

/// 3 ms: the error, a few us at its ends, is then about 0.1 %.
const TICKS: u16 = 3580;
/// Polls after which the timer chip counts as absent; each takes more than 100 ns.
const MAX_POLLS: u32 = 1_000_000;
/// What is assumed without a timer chip. Time is then wrong, but passes.
const FALLBACK_KHZ: u32 = 2_000_000;

fn measure() -> u32 {
    let [low, high] = TICKS.to_le_bytes();
    // SAFETY: these are the registers of the PC's timer; channel 2 drives the speaker alone, which is off.
    unsafe {
        let gate = port::read8(GATE) & !SPEAKER_ON;
        port::write8(GATE, gate & !GATE_ON);
        port::write8(PIT_COMMAND, PIT_ONE_SHOT);
        port::write8(PIT_CHANNEL_2, low);
        port::write8(PIT_CHANNEL_2, high);
        port::write8(GATE, gate | GATE_ON);
        let start = now();
        let over = (0..MAX_POLLS).any(|_| port::read8(GATE) & OUTPUT != 0);
        let passed = now() - start;
        let khz = passed * PIT_HZ / u64::from(TICKS) / 1000;
        u32::try_from(khz)
            .ok()
            .filter(|khz| over && *khz != 0)
            .unwrap_or(FALLBACK_KHZ)
    }
}

/// Waits for a moment in a loop that waits for a device.
pub(crate) fn pause() {
    // SAFETY: a hint.
    unsafe { asm!("pause", options(nomem, nostack, preserves_flags)) };
}
