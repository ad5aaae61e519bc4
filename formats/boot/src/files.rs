//! Where a guest finds its image's files, and its other disks: what the loader, which found them, tells the glue.
//!
//! `HERMITAGE_FILES=<disk>,<start>,<size>`: `disk` is `<bus>:<address>`, where `bus` is `pci` (the address is the
//! function's, as in configuration mechanism #1: bus from bit 16 on, device from bit 11, function from bit 8) or `mmio`
//! (that of the registers); `start` and `size` are the file system's place on the disk, in bytes. Numbers are hexadecimal.
//!
//! `HERMITAGE_DISKS=<disk>,<disk>...`: all other disks; not there if there is none.

/// Kernel environment variable through which the loader tells where files are.
pub const FILES_VARIABLE: &str = "HERMITAGE_FILES";

/// The one through which it tells where other disks are.
pub const DISKS_VARIABLE: &str = "HERMITAGE_DISKS";

/// Where a virtio device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAddress {
    /// On PCI, by its function's address.
    Pci(u32),
    /// Mapped into memory, by its registers' physical address.
    Mapped(u64),
}

impl DeviceAddress {
    /// The name of its bus, and its address there.
    #[must_use]
    pub fn parts(self) -> (&'static str, u64) {
        match self {
            Self::Pci(function) => ("pci", function.into()),
            Self::Mapped(registers) => ("mmio", registers),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (bus, address) = text.split_once(':')?;
        let address = u64::from_str_radix(address, 16).ok()?;
        match bus {
            "pci" => address.try_into().ok().map(Self::Pci),
            "mmio" => Some(Self::Mapped(address)),
            _ => None,
        }
    }
}

/// Reads what stands behind `HERMITAGE_DISKS=`, leaving out what is not known.
pub fn disks(text: &str) -> impl Iterator<Item = DeviceAddress> {
    text.split(',').filter_map(DeviceAddress::parse)
}

/// Where the image's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// The disk.
    pub device: DeviceAddress,
    /// The file system's first byte on it.
    pub start: u64,
    /// Bytes of the file system.
    pub size: u64,
}

impl Files {
    /// Reads what stands behind `HERMITAGE_FILES=`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (device, place) = text.split_once(',')?;
        let mut numbers = place
            .split(',')
            .map(|number| u64::from_str_radix(number, 16).ok());
        let mut next = || numbers.next().flatten();
        let (device, start, size) = (DeviceAddress::parse(device)?, next()?, next()?);
        Some(Self { device, start, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_buses_are_read() {
        let files = Files {
            device: DeviceAddress::Pci(0x1800),
            start: 0x10_0000,
            size: 0x4000,
        };
        assert_eq!(Files::parse("pci:1800,100000,4000"), Some(files));
        let device = DeviceAddress::Mapped(0xfeb0_0e00);
        assert_eq!(
            Files::parse("mmio:feb00e00,100000,4000"),
            Some(Files { device, ..files })
        );
    }

    #[test]
    fn other_disks_are_read_in_their_order() {
        let both = [DeviceAddress::Pci(0x2000), DeviceAddress::Mapped(0xfeb0_0c00)];
        assert!(disks("pci:2000,mmio:feb00c00").eq(both));
        assert!(disks("pci:2000,isa:1,,pci,mmio:feb00c00").eq(both));
        assert_eq!(disks("").count(), 0);
    }

    #[test]
    fn what_is_incomplete_or_unknown_is_nothing() {
        for text in [
            "",
            "pci:",
            "pci:1,2",
            "isa:1,2,3",
            "pci:x,2,3",
            "pci:100000000,2,3",
            "pci:1,,3",
        ] {
            assert_eq!(Files::parse(text), None, "{text}");
        }
    }
}
