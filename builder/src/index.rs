//! The index of an image, `<name>.qcow2.index`: what is in the image, where it lies, and what the host said of each
//! file when it was read. With it an update finds out what changed without reading the image, or the files.
//!
//! It is a cache: whoever deletes it only makes the next update read all of the image and all files. It counts only
//! with its own digest right and the superblock in it the image's; an update removes it before it writes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | [`MAGIC`] |
//! | 32 | BLAKE3 of records, stats, superblock and length |
//! | 128 | the superblock |
//! | 8 | how many bytes of records follow |
//! | | the records of [`Base`] |
//! | 24 each | for each file in their order: its inode on the host; mtime and ctime, nanoseconds since 1970. All zero if it is not to be trusted |
//!
//! It is written while the image is, so that a tree of many files is not held in memory once more: start at
//! [`Writer::new`].

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use hermitage_erofs::format::{CHECKSUM_SPAN, SUPERBLOCK_SIZE, Superblock};
use hermitage_erofs::writer::{Base, Placed};

use crate::cache::{CacheError, PARTIAL, Staged, failed, remove, suffixed};
use crate::tree::Stat;

/// What an index starts with; its last digit is the version. 1: by `postcard`; 2: records of fixed fields;
/// 3: times are one number; 4: the digest is of the parts in the order in which they are known.
const MAGIC: &[u8; 8] = b"HMINDEX4";

/// Bytes before the records.
const HEADER: usize = 8 + blake3::OUT_LEN + SUPERBLOCK_SIZE + 8;

/// Bytes of a file's stat.
const STAT: usize = 24;

/// Bytes that are hashed and written at a time.
const BUFFER: usize = 64 << 10;

/// How an index's name goes on behind its image's.
pub(crate) const SUFFIX: &str = ".index";

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
        let mut file = File::open(suffixed(image, SUFFIX)).ok()?;
        let length = file.metadata().ok()?.len();
        let mut header = [0; HEADER];
        file.read_exact(&mut header).ok()?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (digest, facts) = rest.split_at(blake3::OUT_LEN);
        let (stored, records) = facts.split_at(SUPERBLOCK_SIZE);
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
        hasher.update(&records).update(&stats).update(facts);
        if hasher.finalize().as_bytes() != digest {
            return None;
        }
        Some(Self {
            base: Base::from_records(superblock.clone(), records)?,
            stats: stats.chunks_exact(STAT).map(decode).collect(),
        })
    }

    /// Removes the index of an image that is about to change.
    pub(crate) fn remove(image: &Path) -> Result<(), CacheError> {
        remove(&suffixed(image, SUFFIX))
    }

    /// Removes half of an index, which a killed composition left.
    pub(crate) fn remove_partial(image: &Path) -> Result<(), CacheError> {
        remove(&suffixed(&suffixed(image, SUFFIX), PARTIAL))
    }
}

/// An index that is being written: it takes its image's place beside it when it is complete.
pub(crate) struct Writer {
    staged: Staged,
    file: File,
    hasher: blake3::Hasher,
    /// Bytes of records.
    length: u64,
    /// What is neither hashed nor written yet.
    buffer: Vec<u8>,
    /// What went wrong on the way; the image does not depend on it.
    result: io::Result<()>,
}

impl Writer {
    /// Starts the index of an image. Whoever does holds the lock of the image.
    pub(crate) fn new(image: &Path) -> Result<Self, CacheError> {
        let staged = Staged::new(&suffixed(image, SUFFIX))?;
        let mut file = File::create(staged.path()).map_err(failed("create", staged.path()))?;
        // What begins with zeros is no index.
        let result = file.write_all(&[0; HEADER]);
        Ok(Self {
            staged,
            file,
            hasher: blake3::Hasher::new(),
            length: 0,
            buffer: Vec::with_capacity(2 * BUFFER),
            result,
        })
    }

    /// Takes the next node, in the order of paths.
    pub(crate) fn add(&mut self, placed: &Placed<'_>) {
        let before = self.buffer.len();
        placed.encode(&mut self.buffer);
        self.length += (self.buffer.len() - before) as u64;
        self.put(BUFFER);
    }

    /// Completes it: `stats` are those of the files, in their order.
    pub(crate) fn finish(
        mut self,
        superblock: &Superblock,
        stats: impl Iterator<Item = Option<Stat>>,
    ) -> Result<(), CacheError> {
        for stat in stats {
            encode(stat.unwrap_or_default(), &mut self.buffer);
            self.put(BUFFER);
        }
        self.put(0);
        let facts = [&superblock.encode()[..], &self.length.to_le_bytes()].concat();
        let digest = self.hasher.update(&facts).finalize();
        let header = [MAGIC, &digest.as_bytes()[..], &facts].concat();
        self.result
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(&header))
            .map_err(failed("write", self.staged.path()))?;
        self.staged.publish_cache()
    }

    /// Writes what is in the buffer if that is more than `limit` bytes.
    fn put(&mut self, limit: usize) {
        if self.buffer.len() <= limit {
            return;
        }
        self.hasher.update(&self.buffer);
        if self.result.is_ok() {
            self.result = self.file.write_all(&self.buffer);
        }
        self.buffer.clear();
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
