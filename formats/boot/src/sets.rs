//! Boot sets: the commands that an image has by name, so that `run --boot NAME` needs no manifest.
//!
//! They follow the image's default in the disk's boot-config partition, at the next sector: a loader, which reads
//! the default alone, never sees them. Bytes (little endian):
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `HERMSETS` |
//! | 8 | 2 | version, [`VERSION`] |
//! | 10 | 2 | number of sets, at most [`MAX_SETS`] |
//! | 12 | 4 | length of the sets in bytes |
//! | 16 | 4 | CRC-32C (iSCSI) of the sets |
//! | 20 | - | sets, in the order of their names: length of the name u16, length of the configuration u32, name (UTF-8), configuration ([`crate::config`]) |
//!
//! An area that starts with eight zero bytes holds no sets.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::{BootConfig, CRC32C, DecodeError, EncodeError, HEADER, MAX_ENCODED, encoded_length};

/// Version of the encoding. 1: names and configurations.
pub const VERSION: u16 = 1;

/// Most sets of an image: many more than anybody would choose from.
pub const MAX_SETS: usize = 1024;

const MAGIC: &[u8; 8] = b"HERMSETS";

/// Bytes of a sector of the disk, at whose start the sets lie.
const SECTOR: usize = 512;

/// Boot configurations by name.
pub type BootSets = BTreeMap<String, BootConfig>;

/// Encodes what is in the boot-config partition: the default, if there is one, then the sets, if there are any.
///
/// # Errors
/// A configuration that no guest can take, or more than the partition holds.
pub fn encode(default: Option<&BootConfig>, sets: &BootSets) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = default.map(BootConfig::encode).transpose()?.unwrap_or_default();
    if sets.is_empty() {
        return Ok(bytes);
    }
    if sets.len() > MAX_SETS {
        return Err(EncodeError::TooManySets(sets.len()));
    }
    let mut records = Vec::new();
    for (name, config) in sets {
        let config = config.encode()?;
        // A name beyond u16 makes the whole too large or is cut, and a cut one is refused here.
        let length = u16::try_from(name.len()).map_err(|_| EncodeError::TooLarge(name.len()))?;
        records.extend_from_slice(&length.to_le_bytes());
        // At most MAX_ENCODED.
        records.extend_from_slice(&(config.len() as u32).to_le_bytes());
        records.extend_from_slice(name.as_bytes());
        records.extend_from_slice(&config);
    }
    let start = bytes.len().next_multiple_of(SECTOR).max(SECTOR);
    let size = start + HEADER + records.len();
    if size > MAX_ENCODED {
        return Err(EncodeError::TooLarge(size));
    }
    bytes.resize(start, 0);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    // Both bounded above.
    bytes.extend_from_slice(&(sets.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&CRC32C.checksum(&records).to_le_bytes());
    bytes.extend_from_slice(&records);
    Ok(bytes)
}

/// Decodes the sets of a boot-config partition. It must be an image's own: in an instance's overlay, another
/// configuration lies over them.
///
/// # Errors
/// The default or the sets are damaged or newer. No sets are no error.
pub fn decode(partition: &[u8]) -> Result<BootSets, DecodeError> {
    let header = partition.first_chunk().ok_or(DecodeError::Truncated)?;
    let start = match encoded_length(header) {
        Ok(length) => length.next_multiple_of(SECTOR),
        Err(DecodeError::Absent) => SECTOR,
        Err(error) => return Err(error),
    };
    let area = partition.get(start..).unwrap_or_default();
    let Some((header, rest)) = area.split_first_chunk::<HEADER>() else {
        return Ok(BootSets::new());
    };
    if header[..8] == [0; 8] {
        return Ok(BootSets::new());
    }
    if &header[..8] != MAGIC {
        return Err(DecodeError::Magic);
    }
    let version = u16_at(header, 8);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let count = usize::from(u16_at(header, 10));
    if count > MAX_SETS {
        return Err(DecodeError::Limit);
    }
    let mut records = rest
        .get(..u32_at(header, 12) as usize)
        .ok_or(DecodeError::Truncated)?;
    if CRC32C.checksum(records) != u32_at(header, 16) {
        return Err(DecodeError::Checksum);
    }
    let mut sets = BootSets::new();
    while !records.is_empty() {
        let (name, config, rest) = split(records).ok_or(DecodeError::Truncated)?;
        let name = core::str::from_utf8(name).map_err(|_| DecodeError::Sets)?;
        // Names ascend, so that equal sets have equal bytes.
        if sets
            .last_key_value()
            .is_some_and(|(last, _)| name <= last.as_str())
        {
            return Err(DecodeError::Sets);
        }
        sets.insert(String::from(name), BootConfig::decode(config)?);
        records = rest;
    }
    if sets.len() != count {
        return Err(DecodeError::Sets);
    }
    Ok(sets)
}

/// The first set's name and configuration, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<6>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16_at(lengths, 0)))?;
    let (config, rest) = rest.split_at_checked(u32_at(lengths, 2) as usize)?;
    Some((name, config, rest))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    fn config(role: &str) -> BootConfig {
        BootConfig {
            arguments: vec![role.as_bytes().to_vec()],
            environment: vec![b"PORT=1".to_vec()],
            ..BootConfig::default()
        }
    }

    fn sets() -> BootSets {
        [("serve", config("kv")), ("other:debug", config("db"))]
            .map(|(name, config)| (String::from(name), config))
            .into()
    }

    /// A partition's bytes, which go on behind what was written.
    fn partition(default: Option<&BootConfig>, sets: &BootSets) -> Vec<u8> {
        let mut bytes = encode(default, sets).unwrap();
        bytes.resize(MAX_ENCODED, 0);
        bytes
    }

    #[test]
    fn default_and_sets_are_read_apart_from_each_other() {
        let large = BootConfig {
            environment: vec![[b"BIG=".as_slice(), &[b'x'; 5000]].concat()],
            ..config("kv")
        };
        for default in [None, Some(&config("kv")), Some(&large)] {
            for sets in [BootSets::new(), sets()] {
                let bytes = partition(default, &sets);
                assert_eq!(decode(&bytes), Ok(sets));
                assert_eq!(BootConfig::decode(&bytes).ok().as_ref(), default);
            }
        }
    }

    #[test]
    fn an_image_without_sets_has_the_bytes_of_its_default() {
        let default = config("kv");
        assert_eq!(encode(Some(&default), &BootSets::new()), default.encode());
        assert_eq!(encode(None, &BootSets::new()), Ok(vec![]));
    }

    #[test]
    fn refuses_every_flipped_byte_and_every_cut() {
        let bytes = encode(None, &sets()).unwrap();
        assert_eq!(decode(&bytes), Ok(sets()));
        for at in SECTOR..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {at}");
        }
        for end in SECTOR + HEADER..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn sets_that_do_not_fit_are_refused() {
        let many = (0..=MAX_SETS).map(|n| (format!("{n}"), config("kv"))).collect();
        assert_eq!(encode(None, &many), Err(EncodeError::TooManySets(MAX_SETS + 1)));
        let large = BootConfig {
            environment: vec![[b"BIG=".as_slice(), &[b'x'; MAX_ENCODED / 2]].concat()],
            ..config("kv")
        };
        let sets = [(String::from("a"), large.clone()), (String::from("b"), large)].into();
        assert!(matches!(encode(None, &sets), Err(EncodeError::TooLarge(_))));
    }
}
