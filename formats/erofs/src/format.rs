//! The structures of EROFS as they lie on the disk, little endian, fields in their order.
//!
//! Source: Linux, `fs/erofs/erofs_fs.h`, and "EROFS - Enhanced Read-Only File System" in the kernel's documentation.
//! Only what our images use is here: blocks of 4096 bytes, extended inodes, data in one run of blocks
//! ([`Layout::Plain`]) or with its tail behind the inode ([`Layout::Inline`]); no compression, no chunks.
//!
//! An inode's number (`nid`) is its address: it lies at byte `meta_block * 4096 + nid * 32`.

use core::fmt;

/// Bytes of a block. The Linux driver takes 4096 on every machine.
pub const BLOCK: usize = 4096;

/// Where the superblock lies; what is before it is free for boot code.
pub const SUPERBLOCK_OFFSET: u64 = 1024;

/// Bytes of a superblock.
pub const SUPERBLOCK_SIZE: usize = 128;

/// Bytes that the superblock's checksum covers: from its start to the end of block 0.
pub const CHECKSUM_SPAN: usize = BLOCK - SUPERBLOCK_OFFSET as usize;

/// The superblock's first four bytes.
pub const MAGIC: u32 = 0xE0F5_E1E2;

/// `feature_compat`: the superblock's checksum is valid.
pub const COMPAT_CHECKSUM: u32 = 1 << 0;

/// `feature_compat`: inode times are modification times.
pub const COMPAT_MTIME: u32 = 1 << 1;

/// Bytes of an inode slot; inodes start at multiples of it.
pub const SLOT: u64 = 32;

/// Bytes of an extended inode.
pub const INODE_SIZE: usize = 64;

/// Most bytes of a file's tail that lies behind its inode: both must fit into one block.
pub const MAX_INLINE_TAIL: usize = BLOCK - INODE_SIZE;

/// Bytes of a directory entry without its name.
pub const DIRENT_SIZE: usize = 12;

/// Most bytes of a name (Linux `NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// Most bytes of a symbolic link's target: Linux reads a target within one page, its NUL included.
pub const MAX_LINK_TARGET: usize = BLOCK - 1;

/// CRC-32C. EROFS takes it without the final inversion.
const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

impl Kind {
    /// The type bits of `i_mode`.
    const FORMAT_MASK: u16 = 0o170_000;

    /// The type bits of this kind in `i_mode`.
    #[must_use]
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// The kind that `i_mode` says; `None` for devices, pipes and sockets, which our images never hold.
    #[must_use]
    pub const fn from_mode(mode: u16) -> Option<Self> {
        match mode & Self::FORMAT_MASK {
            0o100_000 => Some(Self::File),
            0o040_000 => Some(Self::Directory),
            0o120_000 => Some(Self::Symlink),
            _ => None,
        }
    }

    /// `file_type` of a directory entry.
    #[must_use]
    pub const fn dirent_type(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Symlink => 7,
        }
    }

    /// The kind that a directory entry's `file_type` says.
    #[must_use]
    pub const fn from_dirent_type(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::File),
            2 => Some(Self::Directory),
            7 => Some(Self::Symlink),
            _ => None,
        }
    }
}

/// Where an inode's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All of it in blocks from `start_block` on.
    Plain,
    /// Full blocks from `start_block` on, the tail right behind the inode.
    Inline,
}

impl Layout {
    const fn bits(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Inline => 2,
        }
    }
}

/// What is wrong with a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The superblock does not start with [`MAGIC`]: no EROFS is here.
    Magic,
    /// The superblock carries no checksum, or one that does not match.
    SuperblockChecksum,
    /// The superblock asks for a block size or a feature that this code does not have.
    Feature,
    /// An inode lies outside the file system.
    InodeAddress,
    /// An inode's format, type or extended-attribute count is none that our images have.
    InodeFormat,
    /// An inode's data lies outside the file system, or is larger than the file system.
    DataAddress,
    /// An inline tail crosses the end of its block.
    InlineTail,
    /// A directory block's table of entries is malformed.
    Directory,
    /// A directory entry's name is empty, too long, or holds a NUL or a `/`.
    Name,
    /// A directory is reached by two ways, or lies within itself.
    DirectoryLoop,
    /// A symbolic link's target is empty or longer than a path can be.
    LinkTarget,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "no EROFS superblock",
            Self::SuperblockChecksum => "the superblock's checksum does not match",
            Self::Feature => "the superblock asks for a feature that is not known",
            Self::InodeAddress => "an inode lies outside the file system",
            Self::InodeFormat => "an inode has an unknown format",
            Self::DataAddress => "a file's data lies outside the file system",
            Self::InlineTail => "a file's tail crosses the end of its block",
            Self::Directory => "a directory's table of entries is malformed",
            Self::Name => "a directory holds a name that cannot be",
            Self::DirectoryLoop => "a directory is reached twice",
            Self::LinkTarget => "a symbolic link's target cannot be",
        })
    }
}

/// `struct erofs_super_block`.
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | 4 | magic |
/// | 4 | 4 | checksum: CRC-32C without final inversion over bytes 1024..4096, this field taken as 0 |
/// | 8 | 4 | feature_compat |
/// | 12 | 1 | blkszbits, 12 |
/// | 13 | 1 | sb_extslots, 0 |
/// | 14 | 2 | root_nid |
/// | 16 | 8 | inos |
/// | 24 | 8 | build_time, 0: extended inodes carry their own |
/// | 32 | 4 | build_time_nsec, 0 |
/// | 36 | 4 | blocks |
/// | 40 | 4 | meta_blkaddr |
/// | 44 | 4 | xattr_blkaddr, 0 |
/// | 48 | 16 | uuid |
/// | 64 | 16 | volume_name |
/// | 80 | 4 | feature_incompat, 0 |
/// | 84 | 44 | of features that we do not use, 0 |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The root directory's nid. 16 bits: it lies in the first 2 MiB of the metadata area.
    pub root_nid: u16,
    /// How many inodes there are.
    pub inodes: u64,
    /// How many blocks the file system has, block 0 included.
    pub blocks: u32,
    /// The block that nids count from.
    pub meta_block: u32,
    /// Identifies the content.
    pub uuid: [u8; 16],
    /// A name, padded with NULs.
    pub volume_name: [u8; 16],
}

impl Superblock {
    /// Encodes it, its checksum included, for a block 0 that is otherwise zero.
    #[must_use]
    pub fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut span = [0; CHECKSUM_SPAN];
        put(&mut span, 0, &MAGIC.to_le_bytes());
        put(&mut span, 8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        span[12] = BLOCK.trailing_zeros() as u8;
        put(&mut span, 14, &self.root_nid.to_le_bytes());
        put(&mut span, 16, &self.inodes.to_le_bytes());
        put(&mut span, 36, &self.blocks.to_le_bytes());
        put(&mut span, 40, &self.meta_block.to_le_bytes());
        put(&mut span, 48, &self.uuid);
        put(&mut span, 64, &self.volume_name);
        let checksum = !CRC32C.checksum(&span);
        put(&mut span, 4, &checksum.to_le_bytes());
        array(&span, 0)
    }

    /// Decodes it from all bytes that its checksum covers.
    ///
    /// # Errors
    /// No superblock, a checksum that does not match, or a feature that is not known.
    pub fn decode(span: &[u8; CHECKSUM_SPAN]) -> Result<Self, Damage> {
        if u32_at(span, 0) != MAGIC {
            return Err(Damage::Magic);
        }
        if u32_at(span, 8) & COMPAT_CHECKSUM == 0 {
            return Err(Damage::SuperblockChecksum);
        }
        let mut digest = CRC32C.digest();
        digest.update(&span[..4]);
        digest.update(&[0; 4]);
        digest.update(&span[8..]);
        if !digest.finalize() != u32_at(span, 4) {
            return Err(Damage::SuperblockChecksum);
        }
        // Compatible features may be ignored by definition; incompatible ones may not.
        if 1 << u32::from(span[12]).min(31) != BLOCK || span[13] != 0 || u32_at(span, 80) != 0 {
            return Err(Damage::Feature);
        }
        Ok(Self {
            root_nid: u16_at(span, 14),
            inodes: u64_at(span, 16),
            blocks: u32_at(span, 36),
            meta_block: u32_at(span, 40),
            uuid: array(span, 48),
            volume_name: array(span, 64),
        })
    }
}

/// `struct erofs_inode_extended`.
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | 2 | i_format: bit 0 is 1 (extended), bits 1..4 the layout |
/// | 2 | 2 | i_xattr_icount |
/// | 4 | 2 | i_mode |
/// | 6 | 2 | reserved |
/// | 8 | 8 | i_size |
/// | 16 | 4 | i_u: the first block of the data |
/// | 20 | 4 | i_ino, for 32-bit stat |
/// | 24 | 4 | i_uid |
/// | 28 | 4 | i_gid |
/// | 32 | 8 | i_mtime, seconds since 1970, signed |
/// | 40 | 4 | i_mtime_nsec |
/// | 44 | 4 | i_nlink |
/// | 48 | 16 | reserved |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawInode {
    /// Where the data lies.
    pub layout: Layout,
    /// Bytes of extended attributes between the inode and its inline tail.
    pub xattr_size: u32,
    /// Type and permission bits.
    pub mode: u16,
    /// Bytes of data.
    pub size: u64,
    /// The first block of the data.
    pub start_block: u32,
    /// A number for 32-bit stat.
    pub ino: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
    /// How many directory entries name it.
    pub links: u32,
}

impl RawInode {
    /// Encodes it, without extended attributes.
    #[must_use]
    pub fn encode(&self) -> [u8; INODE_SIZE] {
        let mut bytes = [0; INODE_SIZE];
        put(&mut bytes, 0, &(1 | (self.layout.bits() << 1)).to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &self.start_block.to_le_bytes());
        put(&mut bytes, 20, &self.ino.to_le_bytes());
        put(&mut bytes, 24, &self.uid.to_le_bytes());
        put(&mut bytes, 28, &self.gid.to_le_bytes());
        put(&mut bytes, 32, &self.mtime.to_le_bytes());
        put(&mut bytes, 40, &self.mtime_nsec.to_le_bytes());
        put(&mut bytes, 44, &self.links.to_le_bytes());
        bytes
    }

    /// Decodes it.
    ///
    /// # Errors
    /// An inode that is not extended, or has a layout that is not known.
    pub fn decode(bytes: &[u8; INODE_SIZE]) -> Result<Self, Damage> {
        let layout = match u16_at(bytes, 0) {
            0b001 => Layout::Plain,
            0b101 => Layout::Inline,
            _ => return Err(Damage::InodeFormat),
        };
        // A header of 12 bytes comes with the first entry of 4 bytes; a count of 0 has neither.
        let xattr_size = match u32::from(u16_at(bytes, 2)) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        Ok(Self {
            layout,
            xattr_size,
            mode: u16_at(bytes, 4),
            size: u64_at(bytes, 8),
            start_block: u32_at(bytes, 16),
            ino: u32_at(bytes, 20),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            mtime: i64::from_le_bytes(array(bytes, 32)),
            mtime_nsec: u32_at(bytes, 40),
            links: u32_at(bytes, 44),
        })
    }
}

/// `struct erofs_dirent`: in each block of a directory a table of these, then their names, in the same order.
/// A name ends where the next begins; the block's last one ends at the block's end or at a NUL.
/// The table's size is told by its first `name_offset`. All entries are sorted by their names' bytes.
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | 8 | nid |
/// | 8 | 2 | nameoff, from the block's start |
/// | 10 | 1 | file_type |
/// | 11 | 1 | reserved |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDirent {
    /// The inode.
    pub nid: u64,
    /// Where the name starts, from the block's start.
    pub name_offset: u16,
    /// What the inode is.
    pub file_type: u8,
}

impl RawDirent {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> [u8; DIRENT_SIZE] {
        let mut bytes = [0; DIRENT_SIZE];
        put(&mut bytes, 0, &self.nid.to_le_bytes());
        put(&mut bytes, 8, &self.name_offset.to_le_bytes());
        bytes[10] = self.file_type;
        bytes
    }

    /// Decodes it.
    #[must_use]
    pub fn decode(bytes: &[u8; DIRENT_SIZE]) -> Self {
        Self {
            nid: u64_at(bytes, 0),
            name_offset: u16_at(bytes, 8),
            file_type: bytes[10],
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
