//! The partitions of an image.
//!
//! | LBA (512 bytes) | what |
//! | --- | --- |
//! | 0 | protective MBR, its first 440 bytes our boot code |
//! | 1..34 | GPT |
//! | 64..1088 | `loader`: the loader, an ELF file that is also its own flat memory image (512 KiB) |
//! | 1088..1600 | `boot-config`: the boot configuration, `hermitage_boot::config` (256 KiB) |
//! | 2048.. | `root`: an EROFS file system with the packages' files; `/bin/<role>` are the programs |
//! | last 33 | backup GPT |

/// Bytes of a sector (GPT, BIOS and virtio-blk agree).
pub const SECTOR: u64 = 512;

/// A partition of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// GPT partition name.
    pub name: &'static str,
    /// GPT partition type GUID, in its textual form.
    pub type_guid: &'static str,
    /// First sector.
    pub first: u64,
    /// Number of sectors; `None` for what is left of the disk.
    pub sectors: Option<u64>,
}

/// The loader. Type: BIOS boot partition (UEFI specification 2.10, 5.3.3 allows private types; this one is GRUB's,
/// known to every partition tool).
pub const LOADER: Partition = Partition {
    name: "loader",
    type_guid: "21686148-6449-6E6F-744E-656564454649",
    first: 64,
    sectors: Some(1024),
};

/// The boot configuration. The type is our own random GUID.
pub const BOOT_CONFIG: Partition = Partition {
    name: "boot-config",
    type_guid: "8D3A6C1E-52B7-4F0B-9C64-3E1A90D7B2F5",
    first: 1088,
    sectors: Some(512),
};

/// The packages' files. Type: Linux file-system data.
pub const ROOT: Partition = Partition {
    name: "root",
    type_guid: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    first: 2048,
    sectors: None,
};
