//! Finds an image's partitions on a disk: a GPT (UEFI specification 2.10, chapter 5) with both checksums right, or
//! else its backup at the disk's end.

use alloc::vec;
use core::fmt;

use gpt_disk_types::{GptHeader, GptPartitionEntry, Guid};
use hermitage_erofs::reader::ReadAt;

use crate::disk::{Disk, Error as DiskError, Extent, Sectors};
use crate::layout::{self, SECTOR};

/// Sector of the first partition table; the backup is in the last sector.
const PRIMARY: u64 = 1;

/// Bytes of a partition entry, and the most that a table has: what every partition tool writes.
const ENTRY: usize = size_of::<GptPartitionEntry>();
const MAX_ENTRIES: u32 = 128;

/// The checksum of the table. A constant: its own table is made at compile time.
const CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Where on a disk the parts of an image lie that the loader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// The boot configuration.
    pub boot_config: Extent,
    /// The packages' files.
    pub root: Extent,
}

/// Why a disk is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The disk fails.
    Disk(DiskError),
    /// Neither the first table nor its backup is a GPT.
    NoTable,
    /// A table is there, but it, and its backup, are damaged.
    Damaged,
    /// The table is right, but lacks a partition of ours.
    NoPartition(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::NoTable => f.write_str("disk has no partition table"),
            Self::Damaged => f.write_str("disk's partition table and its backup are damaged"),
            Self::NoPartition(name) => write!(f, "disk has no partition `{name}`"),
        }
    }
}

impl core::error::Error for Error {}

/// Finds an image's partitions.
///
/// # Errors
/// The disk fails, or is not an image of ours.
pub fn find<S: Sectors>(disk: &Disk<S>) -> Result<Partitions, Error> {
    let last = (disk.size() / SECTOR).saturating_sub(1);
    match find_by(disk, PRIMARY) {
        Err(first @ (Error::NoTable | Error::Damaged | Error::Disk(_))) => {
            // An empty disk is "no table", a table that was one and is damaged says so, whichever of both it is.
            find_by(disk, last).map_err(|backup| if backup == Error::NoTable { first } else { backup })
        }
        found => found,
    }
}

fn find_by<S: Sectors>(disk: &Disk<S>, at: u64) -> Result<Partitions, Error> {
    let mut sector = [0; SECTOR as usize];
    disk.read_at(at * SECTOR, &mut sector).map_err(Error::Disk)?;
    let header: GptHeader = bytemuck::pod_read_unaligned(&sector[..size_of::<GptHeader>()]);
    if !header.is_signature_valid() {
        return Err(Error::NoTable);
    }
    let count = header.number_of_partition_entries.to_u32();
    if header.header_crc32 != header.calculate_header_crc32()
        || header.my_lba.to_u64() != at
        || header.size_of_partition_entry.to_u32() as usize != ENTRY
        || count > MAX_ENTRIES
    {
        return Err(Error::Damaged);
    }
    let mut entries = vec![0; count as usize * ENTRY];
    let start = header.partition_entry_lba.to_u64().saturating_mul(SECTOR);
    disk.read_at(start, &mut entries).map_err(Error::Disk)?;
    if CRC32.checksum(&entries) != header.partition_entry_array_crc32.0.to_u32() {
        return Err(Error::Damaged);
    }
    let partition = |wanted| partition(disk.size() / SECTOR, &entries, wanted);
    Ok(Partitions {
        boot_config: partition(&layout::BOOT_CONFIG)?,
        root: partition(&layout::ROOT)?,
    })
}

fn partition(sectors: u64, entries: &[u8], wanted: &layout::Partition) -> Result<Extent, Error> {
    let guid = Guid::try_parse(wanted.type_guid).map_err(|_| Error::NoPartition(wanted.name))?;
    let entry = entries
        .chunks_exact(ENTRY)
        .map(bytemuck::pod_read_unaligned::<GptPartitionEntry>)
        .find(|entry| {
            // Copies: the entry is packed.
            let (kind, name) = (entry.partition_type_guid, entry.name);
            kind.0 == guid && name.chars().eq(wanted.name.chars())
        })
        .ok_or(Error::NoPartition(wanted.name))?;
    match (entry.starting_lba.to_u64(), entry.ending_lba.to_u64()) {
        (first, last) if first <= last && last < sectors => Ok(Extent {
            start: first * SECTOR,
            size: (last - first + 1) * SECTOR,
        }),
        _ => Err(Error::Damaged),
    }
}
