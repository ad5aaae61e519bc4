//! The disks on PCI, but for the image's. The loader has been here: what firmware left open has an address, and decoding is on.

use std::arch::asm;
use std::io;

use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use super::memory::Kernel;

/// Configuration mechanism #1 (PCI 3.0, 3.2.2.3.2).
const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
const NOTHING: u32 = 0xffff_ffff;

const HOST_BRIDGE: DeviceFunction = DeviceFunction {
    bus: 0,
    device: 0,
    function: 0,
};

/// The virtio disks on the first bus, where QEMU puts them, but for the image's.
pub(super) fn disks() -> io::Result<Vec<PciTransport>> {
    if Ports.read_word(HOST_BRIDGE, 0) == NOTHING {
        // Disks of a machine without PCI cannot be found by asking.
        return Ok(Vec::new());
    }
    let of_image = sys_hermitage_image_disk();
    let mut root = PciRoot::new(Ports);
    let functions = root.enumerate_bus(0);
    let disks: Vec<_> = functions
        .filter(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block))
        .map(|(function, _)| function)
        .filter(|function| i64::from(number(*function)) != of_image)
        .collect();
    let transports = disks.into_iter().map(|function| {
        let (_, command) = root.get_status_command(function);
        root.set_command(
            function,
            command | Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE,
        );
        PciTransport::new::<Kernel, _>(&mut root, function)
            .map_err(|error| io::Error::other(error.to_string()))
    });
    transports.collect()
}

// SAFETY: this is the signature that the glue gives it (`guest/libhermit/src/files/image.rs`), and any thread may call it
// at any time.
unsafe extern "C" {
    /// The function that is the image's disk, which the glue drives, or -1.
    safe fn sys_hermitage_image_disk() -> i64;
}

/// A function's address as the ports take it.
fn number(function: DeviceFunction) -> u32 {
    let DeviceFunction {
        bus,
        device,
        function,
    } = function;
    u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8
}

/// Access through the ports. The kernel is done with its own at this time: it looks for devices once, at boot.
struct Ports;

impl Ports {
    fn select(function: DeviceFunction, register: u8) {
        // SAFETY: selects a register; no device acts on it.
        unsafe { write(ADDRESS, ENABLE | number(function) | u32::from(register & !3)) };
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        Self::select(function, register);
        let value;
        // SAFETY: reads a configuration register, which does nothing.
        unsafe {
            asm!("in eax, dx", in("dx") DATA, out("eax") value, options(nomem, nostack, preserves_flags));
        }
        value
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, value: u32) {
        Self::select(function, register);
        // SAFETY: the caller, `virtio-drivers`, writes command and base address registers as PCI says.
        unsafe { write(DATA, value) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// # Safety
/// What the device of the port does with the value is sound.
unsafe fn write(port: u16, value: u32) {
    // SAFETY: as the caller promises; the program runs in ring 0.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags));
    }
}
