//! PCI configuration space through the ports that every PC has, and the virtio devices in it.
//!
//! A port access costs about a microsecond in a virtual machine, a change of what a device decodes costs a rebuild
//! of the machine's memory map: so functions that cannot be there are not asked for, and decoding is switched once.

use alloc::vec;
use alloc::vec::Vec;

use hermitage_boot::DeviceAddress;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, MemoryBarType, PciRoot,
};

use super::port;
use super::virtio::Identity;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// Vendor in the lower half, device in the upper.
const REGISTER_ID: u8 = 0x00;
/// The header's type in the third byte.
const REGISTER_HEADER: u8 = 0x0c;
/// A bridge's register that has the bus behind it in the second byte.
const REGISTER_BUSES: u8 = 0x18;

const NOTHING: u32 = 0xffff_ffff;
const HEADER_DEVICE: u8 = 0;
const HEADER_BRIDGE: u8 = 1;
const HEADER_MULTI_FUNCTION: u8 = 1 << 7;

const VENDOR_VIRTIO: u32 = 0x1af4;

/// A function's address as the ports take it.
fn number(function: DeviceFunction) -> u32 {
    let DeviceFunction {
        bus,
        device,
        function,
    } = function;
    u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8
}

/// Access through the ports.
struct Ports;

impl Ports {
    fn select(device: DeviceFunction, register: u8) {
        // SAFETY: selects a register; no device acts on it.
        unsafe { port::write32(ADDRESS, ENABLE | number(device) | u32::from(register & !3)) };
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, device: DeviceFunction, register: u8) -> u32 {
        Self::select(device, register);
        // SAFETY: reads a configuration register, which does nothing.
        unsafe { port::read32(DATA) }
    }

    fn write_word(&mut self, device: DeviceFunction, register: u8, data: u32) {
        Self::select(device, register);
        // SAFETY: the caller, `virtio-drivers`, writes command and base address registers as PCI says.
        unsafe { port::write32(DATA, data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// A function of a device.
#[derive(Clone, Copy)]
struct Function {
    address: DeviceFunction,
    id: u32,
    header: u8,
}

/// Whether the machine has PCI: whether anything answers in its first slot, where each has its host bridge.
pub(crate) fn exists() -> bool {
    let host_bridge = DeviceFunction {
        bus: 0,
        device: 0,
        function: 0,
    };
    Ports.read_word(host_bridge, REGISTER_ID) != NOTHING
}

/// The virtio devices of one type, in the order of their addresses, buses behind bridges included.
pub(crate) fn devices(wanted: DeviceType) -> Vec<DeviceAddress> {
    let functions = functions();
    let found = functions.iter().filter(|function| is_virtio(function.id, wanted));
    if found.clone().any(|function| !is_placed(function.address)) {
        place_devices(&functions);
    }
    found
        .map(|function| DeviceAddress::Pci(number(function.address)))
        .collect()
}

/// All functions there are.
fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    let mut buses = vec![0];
    // Each bus is visited once, in whatever way bridges are set up.
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for device in 0..DEVICES {
            let mut count = 1;
            let mut function = 0;
            while function < count {
                let address = DeviceFunction {
                    bus,
                    device,
                    function,
                };
                function += 1;
                let id = Ports.read_word(address, REGISTER_ID);
                if id == NOTHING {
                    continue;
                }
                let [_, _, header, _] = Ports.read_word(address, REGISTER_HEADER).to_le_bytes();
                if header & HEADER_MULTI_FUNCTION != 0 {
                    count = FUNCTIONS;
                }
                let header = header & !HEADER_MULTI_FUNCTION;
                if header == HEADER_BRIDGE {
                    let [_, behind, ..] = Ports.read_word(address, REGISTER_BUSES).to_le_bytes();
                    if !buses.contains(&behind) {
                        buses.push(behind);
                    }
                }
                found.push(Function { address, id, header });
            }
        }
    }
    found
}

/// Whether an identity is that of a virtio device of a type: transitional, or modern (virtio 1.2, 4.1.2).
fn is_virtio(id: u32, wanted: DeviceType) -> bool {
    let (vendor, device) = (id & 0xffff, id >> 16);
    let transitional = match wanted {
        DeviceType::Block => 0x1001,
        DeviceType::EntropySource => 0x1005,
        _ => return false,
    };
    vendor == VENDOR_VIRTIO && (device == transitional || device == 0x1040 + wanted as u32)
}

/// Whether firmware gave a device its addresses.
fn is_placed(device: DeviceFunction) -> bool {
    let (_, command) = PciRoot::new(Ports).get_status_command(device);
    command.intersects(Command::IO_SPACE | Command::MEMORY_SPACE)
}

/// Gives addresses to the memory of devices whose firmware gave them none (qboot leaves that to the system). The
/// kernel, which drives the network card, relies on it too.
fn place_devices(functions: &[Function]) {
    // What PCs keep free for devices below their interrupt controllers.
    const WINDOW: core::ops::Range<u64> = 0xf000_0000..0xfe00_0000;
    let mut root = PciRoot::new(Ports);
    let mut next = WINDOW.start;
    for function in functions {
        if function.header == HEADER_DEVICE && function.address.bus == 0 && !is_placed(function.address) {
            next = place(&mut root, function.address, next, WINDOW.end);
        }
    }
}

/// Places one device's memory from an address on; the next free address.
fn place(root: &mut PciRoot<Ports>, device: DeviceFunction, mut next: u64, end: u64) -> u64 {
    let (_, command) = root.get_status_command(device);
    let Ok(bars) = root.bars(device) else { return next };
    for (index, bar) in (0..).zip(bars) {
        let Some(BarInfo::Memory {
            address_type,
            address: 0,
            size,
            ..
        }) = bar
        else {
            continue;
        };
        let Some(start) = size
            .checked_sub(1)
            .map(|mask| (next + mask) & !mask)
            .filter(|start| start + size <= end)
        else {
            continue;
        };
        match address_type {
            MemoryBarType::Width64 => root.set_bar_64(device, index, start),
            _ => root.set_bar_32(device, index, start as u32),
        }
        next = start + size;
    }
    root.set_command(device, command | Command::MEMORY_SPACE);
    route_interrupt(device);
    next
}

/// Tells a device's driver which interrupt it has, on the PC with a PIIX3 (`-M pc`): the four interrupt pins rotate
/// from slot to slot over the four inputs of the PIIX3, which says which interrupt each of them is.
fn route_interrupt(device: DeviceFunction) {
    const PIIX3: DeviceFunction = DeviceFunction {
        bus: 0,
        device: 1,
        function: 0,
    };
    const PIIX3_ID: u32 = 0x7000_8086;
    const REGISTER_ROUTES: u8 = 0x60;
    const REGISTER_INTERRUPT: u8 = 0x3c;
    if Ports.read_word(PIIX3, REGISTER_ID) != PIIX3_ID {
        return;
    }
    let [_, pin, rest @ ..] = Ports.read_word(device, REGISTER_INTERRUPT).to_le_bytes();
    if let (Some(pin), Some(slot)) = (pin.checked_sub(1), device.device.checked_sub(1)) {
        let routes = Ports.read_word(PIIX3, REGISTER_ROUTES).to_le_bytes();
        let line = routes[usize::from(slot + pin) % routes.len()];
        let register = u32::from_le_bytes([line, pin + 1, rest[0], rest[1]]);
        Ports.write_word(device, REGISTER_INTERRUPT, register);
    }
}

/// Makes a device ready to be driven. Its number is its address as the ports take it.
pub(crate) fn transport(number: u32) -> Option<PciTransport> {
    let device = DeviceFunction {
        bus: (number >> 16) as u8,
        device: (number >> 11 & 0x1f) as u8,
        function: (number >> 8 & 7) as u8,
    };
    let mut root = PciRoot::new(Ports);
    let (_, command) = root.get_status_command(device);
    let decode = Command::IO_SPACE | Command::MEMORY_SPACE;
    // The size of a base address register is asked for with decoding off.
    root.set_command(device, command - decode);
    let transport = PciTransport::new::<Identity, _>(&mut root, device);
    let drive = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(device, command | drive);
    transport.ok()
}
