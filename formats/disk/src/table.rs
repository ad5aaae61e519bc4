//! The partition table: GPT, with boot code in its protective MBR.
//!
//! Every GUID in it comes from an identity that the caller derives from the content, so that equal images have
//! equal tables.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptError};
use uuid::Uuid;

use crate::device::BlockDevice;
use crate::layout::{BOOT_CONFIG, LOADER, Partition, ROOT, SECTOR};

/// Bytes of the boot code in the MBR.
pub const BOOT_CODE: usize = 440;

/// Sectors at the disk's end that belong to the backup table.
pub const BACKUP_SECTORS: u64 = 33;

/// A partition as a table says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// The partitions of a disk, those of [`crate::layout`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    extents: BTreeMap<&'static str, Extent>,
}

impl Table {
    /// Where a partition lies.
    #[must_use]
    pub fn extent(&self, partition: &Partition) -> Option<&Extent> {
        self.extents.get(partition.name)
    }

    /// Reads the table. Both copies must be intact, since the second one is what a file that was cut off lacks.
    ///
    /// # Errors
    /// The device fails, or a copy is damaged.
    pub fn read(device: &dyn BlockDevice) -> io::Result<Self> {
        let disk = GptConfig::new()
            .logical_block_size(LogicalBlockSize::Lb512)
            .only_valid_headers(true)
            .open_from_device(Cursor::new(device))
            .map_err(to_io)?;
        let mut extents = BTreeMap::new();
        for known in [LOADER, BOOT_CONFIG, ROOT] {
            let found = disk
                .partitions()
                .values()
                .find(|entry| entry.name == known.name && entry.part_type_guid.guid == type_guid(&known));
            let Some(entry) = found else { continue };
            let sectors = entry
                .last_lba
                .checked_sub(entry.first_lba)
                .and_then(|n| n.checked_add(1));
            let (Some(start), Some(size)) = (
                entry.first_lba.checked_mul(SECTOR),
                sectors.and_then(|n| n.checked_mul(SECTOR)),
            ) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a partition ends before it starts",
                ));
            };
            extents.insert(known.name, Extent { start, size });
        }
        Ok(Self { extents })
    }
}

/// Where a partition lies on a disk of `disk_size` bytes: the last one takes what is left.
///
/// # Errors
/// The disk is too small for it.
pub fn place(partition: &Partition, disk_size: u64) -> io::Result<Extent> {
    let end = (disk_size / SECTOR).saturating_sub(BACKUP_SECTORS);
    let sectors = partition
        .sectors
        .unwrap_or_else(|| end.saturating_sub(partition.first));
    if sectors == 0 || partition.first + sectors > end {
        let text = format!(
            "a disk of {disk_size} bytes has no room for partition `{}`",
            partition.name
        );
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    Ok(Extent {
        start: partition.first * SECTOR,
        size: sectors * SECTOR,
    })
}

/// Writes boot code and table.
///
/// # Errors
/// The device fails, or is too small for the partitions.
pub fn write(device: &dyn BlockDevice, boot_code: &[u8; BOOT_CODE], identity: [u8; 16]) -> io::Result<()> {
    let mut cursor = Cursor::new(device);
    // The protective entry covers the disk without the MBR itself, or as much as 32 bits can say.
    let covered = u32::try_from(device.size() / SECTOR - 1).unwrap_or(u32::MAX);
    let mut mbr = ProtectiveMBR::with_lb_size(covered);
    mbr.set_bootcode(*boot_code);
    mbr.overwrite_lba0(&mut cursor).map_err(io::Error::other)?;

    let mut partitions = BTreeMap::new();
    for (number, partition) in (1_u8..).zip([LOADER, BOOT_CONFIG, ROOT]) {
        let extent = place(&partition, device.size())?;
        let entry = gpt::partition::Partition {
            part_type_guid: Type {
                guid: type_guid(&partition),
                os: OperatingSystem::None,
            },
            part_guid: guid(identity, number),
            first_lba: extent.start / SECTOR,
            last_lba: (extent.start + extent.size) / SECTOR - 1,
            flags: 0,
            name: partition.name.to_owned(),
        };
        partitions.insert(u32::from(number), entry);
    }
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(cursor, Some(guid(identity, 0)))
        .map_err(to_io)?;
    disk.update_partitions(partitions).map_err(to_io)?;
    disk.write().map_err(to_io)?;
    Ok(())
}

/// The GUID of the disk (`number` 0) or of a partition: version 8 of RFC 9562, whose bits are the maker's own.
fn guid(identity: [u8; 16], number: u8) -> Uuid {
    let mut bytes = identity;
    bytes[15] = bytes[15].wrapping_add(number);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn type_guid(partition: &Partition) -> Uuid {
    Uuid::parse_str(partition.type_guid).unwrap_or_default()
}

fn to_io(error: GptError) -> io::Error {
    match error {
        GptError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// A block device as the stream that the `gpt` crate wants.
#[derive(Debug)]
struct Cursor<'a> {
    device: &'a dyn BlockDevice,
    position: u64,
}

impl<'a> Cursor<'a> {
    fn new(device: &'a dyn BlockDevice) -> Self {
        Self { device, position: 0 }
    }

    /// Bytes from here on, at most `wanted`.
    fn available(&self, wanted: usize) -> usize {
        let left = self.device.size().saturating_sub(self.position);
        usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.available(buffer.len());
        self.device.read_at(self.position, &mut buffer[..length])?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Write for Cursor<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.available(bytes.len());
        self.device.write_at(self.position, &bytes[..length])?;
        self.position += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        // The caller decides when a barrier is due.
        Ok(())
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.device.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
