//! Memory-mapped virtio devices.

use core::ptr::{NonNull, read_volatile};

use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};

use super::paging;
use hermitage_loader::error::Error;
use hermitage_loader::mmio::Slot;

/// Bytes of a device's registers (QEMU, `hw/i386/microvm.c`; Linux takes as many).
const SIZE: u64 = 512;

/// The first four bytes of the registers, "virt", then the version, then the type of device (virtio 1.2, 4.2.2).
const MAGIC: u32 = 0x7472_6976;
const REGISTER_VERSION: u64 = 4;
const REGISTER_TYPE: u64 = 8;
const VERSION_LEGACY: u32 = 1;
const NO_DEVICE: u32 = 0;

/// A device in a slot.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) slot: Slot,
    kind: u32,
}

impl Device {
    /// What is in a slot.
    ///
    /// # Errors
    /// A device in its legacy form, which the kernel's drivers do not know.
    pub(crate) fn find(slot: Slot) -> Result<Option<Self>, Error> {
        if slot.address % 4 != 0 || slot.address == 0 {
            return Ok(None);
        }
        paging::map_device(slot.address, SIZE);
        // SAFETY: the machine says that a device's registers lie here, in memory that is mapped; these are read without
        // an effect.
        let read = |register| unsafe { read_volatile((slot.address + register) as *const u32) };
        let kind = read(REGISTER_TYPE);
        if read(0) != MAGIC || kind == NO_DEVICE {
            return Ok(None);
        }
        if read(REGISTER_VERSION) == VERSION_LEGACY {
            return Err(Error::LegacyDevices);
        }
        Ok(Some(Self { slot, kind }))
    }

    /// Whether it is of a type.
    pub(crate) fn is(&self, wanted: DeviceType) -> bool {
        self.kind == wanted as u32
    }
}

/// Makes a device that was found at an address ready to be driven.
pub(super) fn transport(address: u64) -> Option<MmioTransport<'static>> {
    let header = NonNull::new(address as *mut VirtIOHeader)?;
    // SAFETY: `find` saw a device of this many bytes there, and mapped them for ever. No two transports of one device are
    // alive at once: each is dropped before the next is asked for.
    unsafe { MmioTransport::new(header, SIZE as usize) }.ok()
}
