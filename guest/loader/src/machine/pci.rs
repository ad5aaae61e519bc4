//! PCI configuration space through the ports that every PC has, and the virtio devices in it.

use alloc::vec;
use alloc::vec::Vec;

use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    Command, ConfigurationAccess, DeviceFunction, HeaderType, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use super::port;
use super::virtio::Identity;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Register of a bridge that holds, in its second byte, the bus behind it.
const BRIDGE_BUSES: u8 = 0x18;

/// Access through the ports.
pub(crate) struct Ports;

impl Ports {
    fn select(device: DeviceFunction, register: u8) {
        let function =
            u32::from(device.bus) << 16 | u32::from(device.device) << 11 | u32::from(device.function) << 8;
        // SAFETY: selects a register; no device acts on it.
        unsafe { port::write32(ADDRESS, ENABLE | function | u32::from(register & !3)) };
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

/// The virtio devices of one type, in the order of their addresses, buses behind bridges included.
pub(crate) fn devices(wanted: DeviceType) -> Vec<DeviceFunction> {
    let root = PciRoot::new(Ports);
    let mut found = Vec::new();
    let mut buses = vec![0];
    // Buses are visited once each, in whatever way bridges are misconfigured.
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for (device, info) in root.enumerate_bus(bus) {
            if virtio_device_type(&info) == Some(wanted) {
                found.push(device);
            }
            if info.header_type == HeaderType::PciPciBridge {
                let behind = (Ports.read_word(device, BRIDGE_BUSES) >> 8) as u8;
                if !buses.contains(&behind) {
                    buses.push(behind);
                }
            }
        }
    }
    found
}

/// Makes a device ready to be driven.
pub(crate) fn transport(device: DeviceFunction) -> Option<PciTransport> {
    let mut root = PciRoot::new(Ports);
    let (_, command) = root.get_status_command(device);
    let on = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(device, command | on);
    PciTransport::new::<Identity, _>(&mut root, device).ok()
}
