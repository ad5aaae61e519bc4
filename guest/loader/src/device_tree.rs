//! What the kernel is told, as a flattened device tree.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use hermitage_boot::HANDOFF_VARIABLE;
use vm_fdt::{Error, FdtWriter};

use crate::memory::Region;

/// Most regions that the kernel is given. Its free list holds 16 and is never allowed to run full.
const MAX_REGIONS: usize = 8;

/// Bytes of entropy that the kernel is given.
pub const SEED: usize = 64;

/// What the kernel is told.
pub struct Facts<'a, R> {
    /// The RAM that the kernel may use.
    pub memory: R,
    /// The boot configuration: its address and length.
    pub boot_config: (u64, usize),
    /// Frequency of the time-stamp counter.
    pub tsc_khz: u32,
    /// Whether the kernel prints what it does.
    pub verbose: bool,
    /// Entropy.
    pub seed: &'a [u8; SEED],
    /// Address of ACPI's root pointer.
    pub rsdp: u64,
}

/// Encodes the facts.
///
/// # Errors
/// None that these facts can cause.
pub fn build<R: Iterator<Item = Region>>(facts: Facts<'_, R>) -> Result<Vec<u8>, Error> {
    let mut writer = FdtWriter::new()?;
    let root = writer.begin_node("")?;
    writer.property_string("compatible", "hermitage")?;
    writer.property_u32("#address-cells", 2)?;
    writer.property_u32("#size-cells", 2)?;

    for region in facts.memory.take(MAX_REGIONS) {
        let node = writer.begin_node(&format!("memory@{:x}", region.start))?;
        writer.property_string("device_type", "memory")?;
        writer.property_array_u64("reg", &[region.start, region.length()])?;
        writer.end_node(node)?;
    }

    let node = writer.begin_node(&format!("hermit,rsdp@{:x}", facts.rsdp))?;
    writer.property_array_u64("reg", &[facts.rsdp, 1])?;
    writer.end_node(node)?;

    let node = writer.begin_node("chosen")?;
    writer.property_string(
        "bootargs",
        &arguments(facts.boot_config, facts.tsc_khz, facts.verbose),
    )?;
    writer.property("rng-seed", facts.seed)?;
    writer.end_node(node)?;

    writer.end_node(root)?;
    writer.finish()
}

/// The kernel's own arguments. The program's travel in the boot configuration.
fn arguments((address, length): (u64, usize), tsc_khz: u32, verbose: bool) -> String {
    // The kernel takes whole MHz in 16 bits. A counter beyond 65 GHz does not exist; 0 would be divided by.
    let mhz = tsc_khz.saturating_add(500) / 1000;
    let mut text = format!(
        "-freq {} env={HANDOFF_VARIABLE}={address:#x},{length}",
        mhz.clamp(1, u16::MAX.into())
    );
    if verbose {
        let _ = write!(text, " -verbose");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_kernel_its_arguments() {
        assert_eq!(
            arguments((0x12_3000, 77), 2_099_999, true),
            "-freq 2100 env=HERMITAGE_BOOT=0x123000,77 -verbose"
        );
        assert_eq!(
            arguments((0x1000, 20), 0, false),
            "-freq 1 env=HERMITAGE_BOOT=0x1000,20"
        );
    }

    #[test]
    fn builds_a_tree_for_any_number_of_regions() {
        for count in [0, 1, 100] {
            let memory = (1..=count).map(|index| Region {
                start: index << 32,
                end: (index << 32) + 4096,
            });
            let facts = Facts {
                memory,
                boot_config: (1, 2),
                tsc_khz: 1,
                verbose: false,
                seed: &[7; SEED],
                rsdp: 0xf_0000,
            };
            let tree = build(facts).unwrap();
            assert_eq!(tree[..4], 0xd00d_feed_u32.to_be_bytes());
        }
    }
}
