//! What the kernel is told, as a flattened device tree (Devicetree Specification 0.4, chapter 5).
//!
//! Written by hand: of the format we need four tokens, and a virtual machine that translates code on its first run
//! (QEMU without KVM) takes 2.6 ms for the maps and the formatting of a crate that does it all, a fifth of what the
//! whole loader takes.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use hermitage_boot::files::{DISKS_VARIABLE, FILES_VARIABLE};
use hermitage_boot::{DeviceAddress, Files, HANDOFF_VARIABLE, StaticAddress};

use crate::memory::Region;
use crate::mmio::Slot;

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
    /// Where the image's files are.
    pub files: Files,
    /// All disks but that one.
    pub other_disks: &'a [DeviceAddress],
    /// Frequency of the time-stamp counter.
    pub tsc_khz: u32,
    /// Whether the kernel prints what it does.
    pub verbose: bool,
    /// The network card's address, unless it is leased.
    pub address: Option<StaticAddress>,
    /// The name servers to ask, unless those of the lease are.
    pub name_servers: &'a [Ipv4Addr],
    /// Entropy.
    pub seed: &'a [u8; SEED],
    /// Address of ACPI's root pointer, where the machine has ACPI.
    pub rsdp: Option<u64>,
    /// Network cards that cannot be found by asking.
    pub network_cards: &'a [Slot],
}

/// Encodes the facts.
pub fn build<R: Iterator<Item = Region>>(facts: Facts<'_, R>) -> Vec<u8> {
    let mut arguments = arguments(&facts);
    arguments.push('\0');
    let mut tree = Tree::default();
    tree.begin(b"");
    // The kernel reads it, and wants anything but `hermit,uefi`.
    tree.property(b"compatible", b"hermitage\0");
    tree.property(b"#address-cells", &2_u32.to_be_bytes());
    tree.property(b"#size-cells", &2_u32.to_be_bytes());
    for region in facts.memory.take(MAX_REGIONS) {
        tree.begin(&with_address("memory@", region.start));
        tree.property(b"device_type", b"memory\0");
        tree.property(b"reg", &register(region.start, region.length()));
        tree.end();
    }
    if let Some(rsdp) = facts.rsdp {
        tree.begin(&with_address("hermit,rsdp@", rsdp));
        tree.property(b"reg", &register(rsdp, 1));
        tree.end();
    }
    tree.begin(b"chosen");
    tree.property(b"bootargs", arguments.as_bytes());
    tree.property(b"rng-seed", facts.seed);
    tree.end();
    tree.end();
    tree.finish()
}

/// The kernel's own arguments. The program's travel in the boot configuration.
fn arguments<R>(facts: &Facts<'_, R>) -> String {
    // The kernel takes whole MHz in 16 bits. A counter beyond 65 GHz does not exist; 0 would be divided by.
    let mhz = facts.tsc_khz.saturating_add(500) / 1000;
    let mut text = String::from("-freq ");
    push_number(&mut text, mhz.clamp(1, u16::MAX.into()).into(), 10);
    text.push_str(" env=");
    text.push_str(HANDOFF_VARIABLE);
    text.push_str("=0x");
    let (address, length) = facts.boot_config;
    push_number(&mut text, address, 16);
    text.push(',');
    push_number(&mut text, length as u64, 10);
    push_files(&mut text, facts.files);
    for (at, disk) in facts.other_disks.iter().enumerate() {
        if at == 0 {
            text.push_str(" env=");
            text.push_str(DISKS_VARIABLE);
        }
        text.push(if at == 0 { '=' } else { ',' });
        push_disk(&mut text, *disk);
    }
    if let Some(StaticAddress { cidr, gateway }) = facts.address {
        push_address(&mut text, " -ip ", cidr.address());
        push_address(&mut text, " -mask ", cidr.mask());
        if let Some(gateway) = gateway {
            push_address(&mut text, " -gateway ", gateway);
        }
    }
    for (at, server) in facts.name_servers.iter().enumerate() {
        text.push_str(" env=HERMIT_DNS");
        push_number(&mut text, at as u64 + 1, 10);
        push_address(&mut text, "=", *server);
    }
    if facts.verbose {
        text.push_str(" -verbose");
    }
    for card in facts.network_cards {
        push_device(&mut text, *card);
    }
    text
}

fn push_files(text: &mut String, files: Files) {
    text.push_str(" env=");
    text.push_str(FILES_VARIABLE);
    text.push('=');
    push_disk(text, files.device);
    for number in [files.start, files.size] {
        text.push(',');
        push_number(text, number, 16);
    }
}

fn push_disk(text: &mut String, disk: DeviceAddress) {
    let (bus, address) = disk.parts();
    text.push_str(bus);
    text.push(':');
    push_number(text, address, 16);
}

fn push_address(text: &mut String, option: &str, address: Ipv4Addr) {
    text.push_str(option);
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        push_number(text, octet.into(), 10);
    }
}

/// A memory-mapped device, in the notation of Linux.
fn push_device(text: &mut String, slot: Slot) {
    text.push_str(" virtio_mmio.device=4K@0x");
    push_number(text, slot.address, 16);
    text.push(':');
    push_number(text, slot.interrupt.into(), 10);
}

fn with_address(name: &str, address: u64) -> Vec<u8> {
    let mut text = String::from(name);
    push_number(&mut text, address, 16);
    text.into_bytes()
}

fn push_number(text: &mut String, number: u64, base: u32) {
    if number >= u64::from(base) {
        push_number(text, number / u64::from(base), base);
    }
    let digit = (number % u64::from(base)) as u32;
    text.extend(char::from_digit(digit, base));
}

/// A `reg` of two cells each.
fn register(start: u64, length: u64) -> [u8; 16] {
    (u128::from(start) << 64 | u128::from(length)).to_be_bytes()
}

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMPATIBLE_VERSION: u32 = 16;
/// Ten fields of four bytes.
const HEADER: usize = 40;
/// Memory to reserve: none, so the list is its end, two zeros of eight bytes.
const RESERVATIONS: usize = 16;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// A tree that is being written. Names of properties are stored once for each use: a dozen of them.
#[derive(Default)]
struct Tree {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Tree {
    fn begin(&mut self, name: &[u8]) {
        self.number(BEGIN_NODE);
        self.structure.extend_from_slice(name);
        self.structure.push(0);
        self.align();
    }

    fn end(&mut self) {
        self.number(END_NODE);
    }

    fn property(&mut self, name: &[u8], value: &[u8]) {
        self.number(PROPERTY);
        self.number(value.len() as u32);
        self.number(self.strings.len() as u32);
        self.structure.extend_from_slice(value);
        self.align();
        self.strings.extend_from_slice(name);
        self.strings.push(0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.number(END);
        let structure = HEADER + RESERVATIONS;
        let strings = structure + self.structure.len();
        let header: [u32; HEADER / 4] = [
            MAGIC,
            (strings + self.strings.len()) as u32,
            structure as u32,
            strings as u32,
            HEADER as u32,
            VERSION,
            LAST_COMPATIBLE_VERSION,
            0,
            self.strings.len() as u32,
            self.structure.len() as u32,
        ];
        let header: Vec<u8> = header.iter().flat_map(|field| field.to_be_bytes()).collect();
        [&header, &[0; RESERVATIONS][..], &self.structure, &self.strings].concat()
    }

    fn number(&mut self, number: u32) {
        self.structure.extend_from_slice(&number.to_be_bytes());
    }

    fn align(&mut self) {
        let length = self.structure.len().next_multiple_of(4);
        self.structure.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    const FILES: &str = " env=HERMITAGE_FILES=pci:1800,100000,4000";

    fn facts<R>(memory: R) -> Facts<'static, R> {
        Facts {
            memory,
            boot_config: (0x1000, 2),
            files: Files {
                device: DeviceAddress::Pci(0x1800),
                start: 0x10_0000,
                size: 0x4000,
            },
            other_disks: &[],
            tsc_khz: 1,
            verbose: false,
            address: None,
            name_servers: &[],
            seed: &[7; SEED],
            rsdp: Some(0xf_5ad0),
            network_cards: &[],
        }
    }

    #[test]
    fn tells_the_kernel_its_arguments() {
        let mut told = Facts {
            boot_config: (0x12_3000, 77),
            tsc_khz: 2_099_999,
            verbose: true,
            ..facts(())
        };
        assert_eq!(
            arguments(&told),
            format!("-freq 2100 env=HERMITAGE_BOOT=0x123000,77{FILES} -verbose")
        );
        told.address = Some(StaticAddress {
            cidr: "192.168.17.2/20".parse().unwrap(),
            gateway: None,
        });
        assert_eq!(
            arguments(&told),
            format!(
                "-freq 2100 env=HERMITAGE_BOOT=0x123000,77{FILES} -ip 192.168.17.2 -mask 255.255.240.0 -verbose"
            )
        );
        told.address = Some(StaticAddress {
            cidr: "10.0.0.2/8".parse().unwrap(),
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
        });
        told.network_cards = &[Slot {
            address: 0xfeb0_0e00,
            interrupt: 12,
        }];
        let words = arguments(&told);
        assert!(words.contains(" -ip 10.0.0.2 -mask 255.0.0.0 -gateway 10.0.0.1 "));
        assert!(words.ends_with(" virtio_mmio.device=4K@0xfeb00e00:12"));
        told.other_disks = &[DeviceAddress::Pci(0x2000), DeviceAddress::Mapped(0xfeb0_0c00)];
        assert!(arguments(&told).contains(&format!(
            "{FILES} env=HERMITAGE_DISKS=pci:2000,mmio:feb00c00 -ip "
        )));
        let servers = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(10, 0, 0, 3)];
        told.name_servers = &servers;
        assert!(arguments(&told).contains(" env=HERMIT_DNS1=9.9.9.9 env=HERMIT_DNS2=10.0.0.3 "));
    }

    #[test]
    fn the_kernel_is_never_told_zero_mhz() {
        let told = Facts {
            tsc_khz: 0,
            ..facts(())
        };
        assert_eq!(
            arguments(&told),
            format!("-freq 1 env=HERMITAGE_BOOT=0x1000,2{FILES}")
        );
    }

    fn tree(regions: u64) -> Vec<u8> {
        let memory = (1..=regions).map(|index| Region {
            start: index << 32,
            end: (index << 32) + 4096,
        });
        build(facts(memory))
    }

    #[test]
    fn another_reader_finds_what_was_written() {
        let bytes = tree(2);
        let tree = fdt::Fdt::new(&bytes).unwrap();
        let regions: Vec<_> = tree
            .find_all_nodes("/memory")
            .map(|node| node.reg().unwrap().next().unwrap())
            .map(|region| (region.starting_address as u64, region.size))
            .collect();
        assert_eq!(regions, [(1 << 32, Some(4096)), (2 << 32, Some(4096))]);
        let rsdp = tree
            .find_node("/hermit,rsdp")
            .unwrap()
            .reg()
            .unwrap()
            .next()
            .unwrap();
        assert_eq!(rsdp.starting_address as u64, 0xf_5ad0);
        assert_eq!(
            tree.chosen().bootargs(),
            Some(format!("-freq 1 env=HERMITAGE_BOOT=0x1000,2{FILES}").as_str())
        );
        let chosen = tree.find_node("/chosen").unwrap();
        assert_eq!(chosen.property("rng-seed").unwrap().value, [7; SEED]);
    }

    #[test]
    fn gives_no_more_regions_than_the_kernel_takes() {
        let bytes = tree(100);
        let tree = fdt::Fdt::new(&bytes).unwrap();
        assert_eq!(tree.find_all_nodes("/memory").count(), MAX_REGIONS);
    }
}
