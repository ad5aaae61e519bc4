//! The index of an image, `<name>.qcow2.index`: what is in the image, where it lies, and what the host said of each
//! file when it was read. With it an update finds out what changed without reading the image, or the files.
//!
//! It is a cache: whoever deletes it only makes the next update read all of the image and all files. It counts only
//! with its own digest right and the superblock in it the image's; an update removes it before it writes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | [`MAGIC`] |
//! | 32 | BLAKE3 of the rest |
//! | 128 | the superblock |
//! | 8 | how many bytes of records follow |
//! | | the records of [`Base`] |
//! | 24 each | for each file in their order: its inode on the host; mtime and ctime, nanoseconds since 1970. All zero if it is not to be trusted |

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use hermitage_erofs::format::{CHECKSUM_SPAN, SUPERBLOCK_SIZE, Superblock};
use hermitage_erofs::writer::Base;

use crate::cache::{CacheError, failed, remove, suffixed};
use crate::tree::Stat;

/// What an index starts with; its last digit is the version. 1: by `postcard`; 2: records of fixed fields;
/// 3: times are one number.
const MAGIC: &[u8; 8] = b"HMINDEX3";

/// Bytes before the records.
const HEADER: usize = 8 + blake3::OUT_LEN + SUPERBLOCK_SIZE + 8;

/// Bytes of a file's stat.
const STAT: usize = 24;

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// What is in it.
    pub(crate) base: Base,
    /// What the host said of each file, in their order; `None` if that cannot be trusted.
    pub(crate) stats: Vec<Option<Stat>>,
}

impl Index {
    /// The index of an image that has this superblock; `None` if it is missing, stale or damaged.
    pub(crate) fn load(image: &Path, superblock: &Superblock) -> Option<Self> {
        let mut file = File::open(suffixed(image, ".index")).ok()?;
        let length = file.metadata().ok()?.len();
        let mut header = [0; HEADER];
        file.read_exact(&mut header).ok()?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (digest, rest) = rest.split_at(blake3::OUT_LEN);
        let (stored, records) = rest.split_at(SUPERBLOCK_SIZE);
        let mut span = [0; CHECKSUM_SPAN];
        span[..SUPERBLOCK_SIZE].copy_from_slice(stored);
        if magic != MAGIC || Superblock::decode(&span).ok()? != *superblock {
            return None;
        }
        let stats = length.checked_sub(HEADER as u64);
        let records = u64::from_le_bytes(records.try_into().ok()?);
        let stats = stats?.checked_sub(records)?;
        let mut take = |length: u64| {
            // No longer than the file is.
            let mut bytes = vec![0; usize::try_from(length).ok()?];
            file.read_exact(&mut bytes).ok()?;
            Some(bytes)
        };
        let (records, stats) = (take(records)?, take(stats)?);
        let mut hasher = blake3::Hasher::new();
        hasher.update(rest).update(&records).update(&stats);
        if hasher.finalize().as_bytes() != digest {
            return None;
        }
        Some(Self {
            base: Base::from_records(superblock.clone(), records)?,
            stats: stats.chunks_exact(STAT).map(decode).collect(),
        })
    }

    /// Puts it beside its image.
    pub(crate) fn save(&self, image: &Path) -> Result<(), CacheError> {
        let path = &suffixed(image, ".index");
        let records = self.base.records();
        let mut stats = Vec::with_capacity(self.stats.len() * STAT);
        for stat in &self.stats {
            encode(stat.unwrap_or_default(), &mut stats);
        }
        let superblock = self.base.superblock.encode();
        let length = (records.len() as u64).to_le_bytes();
        let parts = [&superblock[..], &length, records, &stats];
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let digest = hasher.finalize();
        let write = || {
            let mut file = File::create(path)?;
            file.write_all(&[MAGIC, &digest.as_bytes()[..]].concat())?;
            parts.iter().try_for_each(|part| file.write_all(part))
        };
        write().map_err(|error: io::Error| {
            // Half an index is none; what cannot be removed either is known by its digest.
            let _ = fs::remove_file(path);
            failed("write", path)(error)
        })
    }

    /// Removes the index of an image that is about to change.
    pub(crate) fn remove(image: &Path) -> Result<(), CacheError> {
        remove(&suffixed(image, ".index"))
    }
}

fn encode(stat: Stat, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&stat.inode.to_le_bytes());
    bytes.extend_from_slice(&stat.mtime.to_le_bytes());
    bytes.extend_from_slice(&stat.ctime.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Option<Stat> {
    let (inode, times) = bytes.split_first_chunk()?;
    let (mtime, ctime) = times.split_first_chunk()?;
    let stat = Stat {
        inode: u64::from_le_bytes(*inode),
        mtime: i64::from_le_bytes(*mtime),
        ctime: i64::from_le_bytes(ctime.try_into().ok()?),
    };
    (stat != Stat::default()).then_some(stat)
}
