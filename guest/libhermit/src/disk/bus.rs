//! How a disk is reached: on PCI, or through registers that are mapped into memory. The loader has been here: what is on
//! PCI has addresses, and what is mapped is of virtio 1.0.

use core::ptr::NonNull;

use hermitage_boot::DeviceAddress;
use virtio_drivers::transport::SomeTransport;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::lock::Lock;
use crate::port;

/// Bytes of a memory-mapped device's registers (QEMU, `hw/i386/microvm.c`; Linux takes as many).
const REGISTERS: usize = 512;

/// Makes a disk ready to be driven, by whoever asks first and nobody else.
pub(super) fn transport(address: DeviceAddress) -> Option<SomeTransport<'static>> {
    match address {
        DeviceAddress::Pci(function) => pci(function).map(SomeTransport::from),
        DeviceAddress::Mapped(registers) => {
            let header = NonNull::new(hermit::map_registers(registers, REGISTERS))?;
            // SAFETY: the loader found a device's registers there, and gave it up; they stay mapped for ever, and nobody
            // else drives it: each disk is taken once.
            let transport = unsafe { MmioTransport::new(header.cast::<VirtIOHeader>(), REGISTERS) };
            transport.ok().map(SomeTransport::from)
        }
    }
}

/// Held while PCI is asked: the ports are two, and remember between them which register is meant. The kernel is done with
/// its own use of them, it looks for devices once, at boot.
static PORTS: Lock<()> = Lock::new(());

/// The function's number is the address that configuration mechanism #1 takes.
fn pci(number: u32) -> Option<PciTransport> {
    let function = DeviceFunction {
        bus: (number >> 16) as u8,
        device: (number >> 11 & 0x1f) as u8,
        function: (number >> 8 & 7) as u8,
    };
    let _alone = PORTS.lock();
    let mut root = PciRoot::new(Ports);
    let (_, command) = root.get_status_command(function);
    let drive = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(function, command | drive);
    PciTransport::new::<Registers, _>(&mut root, function).ok()
}

/// Access through the ports.
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

/// What `virtio-drivers` needs to find a device's registers. Memory it gets none: it drives no queue here.
struct Registers;

// SAFETY: no memory is given, registers stay mapped for ever.
unsafe impl Hal for Registers {
    fn dma_alloc(_: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // Address 0 is how this trait says that there is no memory.
        (0, NonNull::dangling())
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        NonNull::new(hermit::map_registers(address, size)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        0
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
