//! What the CPU says about itself.

use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// What CPUID says in a leaf; zeros where the CPU, or its hypervisor, has no such leaf.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    /// Leaves from here on are the hypervisor's.
    const HYPERVISOR: u32 = 0x4000_0000;
    const NONE: CpuidResult = CpuidResult {
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
    };
    let first = leaf & HYPERVISOR;
    if first != 0 && !has_hypervisor() || raw(first, 0).eax < leaf {
        return NONE;
    }
    raw(leaf, subleaf)
}

fn has_hypervisor() -> bool {
    raw(1, 0).ecx & 1 << 31 != 0
}

#[allow(
    unused_unsafe,
    reason = "unsafe in Rust 1.85, which builds the loader, safe in later ones"
)]
fn raw(leaf: u32, subleaf: u32) -> CpuidResult {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { __cpuid_count(leaf, subleaf) }
}
