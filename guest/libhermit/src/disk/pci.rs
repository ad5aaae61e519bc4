//! A disk on PCI. The loader has been here: it has an address, and decoding is on.

use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};

use super::memory::Kernel;
use crate::port;

/// Makes a function ready to be driven. Its number is the address that configuration mechanism #1 takes.
pub(super) fn transport(number: u32) -> Option<PciTransport> {
    let function = DeviceFunction {
        bus: (number >> 16) as u8,
        device: (number >> 11 & 0x1f) as u8,
        function: (number >> 8 & 7) as u8,
    };
    let mut root = PciRoot::new(Ports);
    let (_, command) = root.get_status_command(function);
    let drive = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(function, command | drive);
    PciTransport::new::<Kernel, _>(&mut root, function).ok()
}

/// Access through the ports. The kernel is done with its own at this time: it looks for devices once, at boot.
struct Ports;

fn select(function: DeviceFunction, register: u8) -> u32 {
    let DeviceFunction {
        bus,
        device,
        function,
    } = function;
    u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8 | u32::from(register & !3)
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        port::read_configuration(select(function, register))
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, value: u32) {
        // SAFETY: the caller, `virtio-drivers`, writes command and base address registers as PCI says.
        unsafe { port::write_configuration(select(function, register), value) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}
