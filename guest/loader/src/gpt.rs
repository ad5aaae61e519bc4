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

/// The types of the partitions that are looked for.
const BOOT_CONFIG: Guid = Guid::parse_or_panic(layout::BOOT_CONFIG.type_guid);
const ROOT: Guid = Guid::parse_or_panic(layout::ROOT.type_guid);

/// The checksum of the table. In the variant that takes 16 bytes at a time: the table has 16 KiB.
static CRC32: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);

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
    let partition = |wanted, kind| partition(disk.size() / SECTOR, &entries, wanted, kind);
    Ok(Partitions {
        boot_config: partition(&layout::BOOT_CONFIG, BOOT_CONFIG)?,
        root: partition(&layout::ROOT, ROOT)?,
    })
}

fn partition(sectors: u64, entries: &[u8], wanted: &layout::Partition, kind: Guid) -> Result<Extent, Error> {
    let entry = entries
        .chunks_exact(ENTRY)
        .map(bytemuck::pod_read_unaligned::<GptPartitionEntry>)
        .find(|entry| {
            // Copies: the entry is packed.
            let (its_kind, name) = (entry.partition_type_guid, entry.name);
            its_kind.0 == kind && name.chars().eq(wanted.name.chars())
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use gpt_disk_types::{Crc32, GptPartitionType, LbaLe, U32Le};

    use super::*;
    use crate::disk::DeviceFailed;

    const SECTORS: u64 = 4096;
    const TABLE: u64 = 32;

    struct Memory(Vec<u8>);

    impl Sectors for &Memory {
        fn count(&self) -> u64 {
            self.0.len() as u64 / SECTOR
        }

        fn read(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceFailed> {
            buffer.copy_from_slice(&self.0[(sector * SECTOR) as usize..][..buffer.len()]);
            Ok(())
        }
    }

    fn found(disk: &Memory) -> Result<Partitions, Error> {
        find(&Disk::new(disk))
    }

    fn entry(partition: &layout::Partition, last: u64) -> GptPartitionEntry {
        let mut entry = GptPartitionEntry {
            partition_type_guid: GptPartitionType(Guid::parse_or_panic(partition.type_guid)),
            starting_lba: LbaLe::from_u64(partition.first),
            ending_lba: LbaLe::from_u64(last),
            ..GptPartitionEntry::default()
        };
        let name: Vec<u8> = partition.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        entry.name.0[..name.len()].copy_from_slice(&name);
        entry
    }

    /// A disk with an image's table and its backup.
    fn disk(root_end: u64) -> Memory {
        let entries = [
            entry(&layout::LOADER, 1087),
            entry(&layout::BOOT_CONFIG, 1599),
            entry(&layout::ROOT, root_end),
        ];
        let mut table: Vec<u8> = entries
            .iter()
            .flat_map(|entry| bytemuck::bytes_of(entry).to_vec())
            .collect();
        table.resize(MAX_ENTRIES as usize * ENTRY, 0);
        let mut disk = vec![0; (SECTORS * SECTOR) as usize];
        for (at, table_at) in [(PRIMARY, 2), (SECTORS - 1, SECTORS - 1 - TABLE)] {
            let mut header = GptHeader {
                my_lba: LbaLe::from_u64(at),
                partition_entry_lba: LbaLe::from_u64(table_at),
                number_of_partition_entries: U32Le::from_u32(MAX_ENTRIES),
                partition_entry_array_crc32: Crc32(U32Le::from_u32(CRC32.checksum(&table))),
                ..GptHeader::default()
            };
            header.update_header_crc32();
            let bytes = bytemuck::bytes_of(&header);
            disk[(at * SECTOR) as usize..][..bytes.len()].copy_from_slice(bytes);
            disk[(table_at * SECTOR) as usize..][..table.len()].copy_from_slice(&table);
        }
        Memory(disk)
    }

    #[test]
    fn finds_the_partitions_where_the_layout_puts_them() {
        let partitions = found(&disk(4000)).unwrap();
        assert_eq!(partitions.boot_config.start, layout::BOOT_CONFIG.first * SECTOR);
        assert_eq!(partitions.boot_config.size, 512 * SECTOR);
        assert_eq!(partitions.root.start, layout::ROOT.first * SECTOR);
        assert_eq!(partitions.root.size, (4000 - 2048 + 1) * SECTOR);
    }

    #[test]
    fn takes_the_backup_whichever_byte_of_the_table_is_damaged() {
        let whole = disk(4000);
        let expected = found(&whole);
        let header = SECTOR as usize..SECTOR as usize + size_of::<GptHeader>();
        let table = 2 * SECTOR as usize..2 * SECTOR as usize + 3 * ENTRY;
        for at in header.chain(table) {
            let mut damaged = Memory(whole.0.clone());
            damaged.0[at] ^= 0x40;
            assert_eq!(found(&damaged), expected, "byte {at}");
        }
    }

    #[test]
    fn says_that_both_tables_are_damaged() {
        let mut damaged = disk(4000);
        for at in [2 * SECTOR, (SECTORS - 1 - TABLE) * SECTOR] {
            damaged.0[at as usize] ^= 1;
        }
        assert_eq!(found(&damaged), Err(Error::Damaged));
    }

    #[test]
    fn says_what_a_disk_lacks() {
        assert_eq!(found(&Memory(vec![0; 1 << 20])), Err(Error::NoTable));
        assert!(matches!(found(&Memory(Vec::new())), Err(Error::Disk(_))));
        assert_eq!(
            found(&disk(SECTORS)),
            Err(Error::Damaged),
            "a partition beyond the disk's end"
        );
    }
}
