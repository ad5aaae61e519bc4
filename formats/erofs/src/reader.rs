//! Reads a file system: finds paths, lists directories, reads files into a caller's buffer.
//!
//! It owns no cache and no device; a [`ReadAt`] under it may cache. It trusts nothing that it reads: whatever the
//! bytes are, each call ends with a value or an [`Error`], after a bounded number of reads, in bounded memory.
//! Beyond the superblock nothing carries a checksum: a flipped bit in a file's data is not seen here.
//!
//! Start at [`FileSystem::open`] and [`FileSystem::resolve`].

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::format::{
    BLOCK, CHECKSUM_SPAN, Damage, INODE_SIZE, Kind, Layout, MAX_LINK_TARGET, RawInode, SLOT,
    SUPERBLOCK_OFFSET, Superblock,
};

mod directory;

pub use directory::{Entry, ReadDir};

/// Most symbolic links that a path may lead through, as in Linux.
pub const MAX_LINKS: usize = 40;

/// Most bytes of a directory that is read. A million names of the usual length need 32 MiB; a damaged inode
/// may claim terabytes.
pub const MAX_DIRECTORY: u64 = 256 << 20;

/// Something that bytes can be read from, at any offset: a partition.
pub trait ReadAt {
    /// Why bytes cannot be read.
    type Error;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The device fails, or has fewer bytes.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error>;
}

impl<D: ReadAt + ?Sized> ReadAt for &D {
    type Error = D::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read_at(offset, buffer)
    }
}

/// Why something cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The device failed.
    Device(E),
    /// The file system is damaged, or not one of ours.
    Damaged(Damage),
    /// The path names nothing.
    NotFound,
    /// A directory was needed.
    NotADirectory,
    /// A regular file was needed.
    NotAFile,
    /// A symbolic link was needed.
    NotALink,
    /// The path leads through more than [`MAX_LINKS`] symbolic links.
    TooManyLinks,
}

impl<E> From<Damage> for Error<E> {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Damaged(damage) => write!(f, "file system is damaged: {damage}"),
            Self::NotFound => f.write_str("no such file or directory"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::NotALink => f.write_str("not a symbolic link"),
            Self::TooManyLinks => f.write_str("too many levels of symbolic links"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Error<E> {}

/// A file, directory or symbolic link whose address and size were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    nid: u64,
    kind: Kind,
    raw: RawInode,
    /// Byte offset of the inline tail; only meaningful where `inline` is not 0.
    tail: u64,
    /// Bytes of the inline tail.
    inline: u64,
}

impl Inode {
    /// Its number.
    #[must_use]
    pub fn nid(&self) -> u64 {
        self.nid
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of data.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.raw.size
    }

    /// Permission bits, those of set-user-id and the like included.
    #[must_use]
    pub fn permissions(&self) -> u16 {
        self.raw.mode & 0o7777
    }

    /// Everything that the inode says.
    #[must_use]
    pub fn raw(&self) -> &RawInode {
        &self.raw
    }

    /// Bytes of data that lie in blocks of their own, from `start_block` on.
    #[must_use]
    pub fn in_blocks(&self) -> u64 {
        self.raw.size - self.inline
    }
}

/// An opened file system.
#[derive(Debug)]
pub struct FileSystem<D> {
    device: D,
    superblock: Superblock,
}

impl<D: ReadAt> FileSystem<D> {
    /// Reads and checks the superblock.
    ///
    /// # Errors
    /// The device fails, or holds no EROFS that we know.
    pub fn open(device: D) -> Result<Self, Error<D::Error>> {
        let mut span = [0; CHECKSUM_SPAN];
        device
            .read_at(SUPERBLOCK_OFFSET, &mut span)
            .map_err(Error::Device)?;
        let superblock = Superblock::decode(&span)?;
        Ok(Self { device, superblock })
    }

    /// The superblock.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Bytes of the file system.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.superblock.blocks) * BLOCK as u64
    }

    /// The root directory.
    ///
    /// # Errors
    /// The device fails, or the inode is damaged.
    pub fn root(&self) -> Result<Inode, Error<D::Error>> {
        let root = self.inode(u64::from(self.superblock.root_nid))?;
        match root.kind {
            Kind::Directory => Ok(root),
            _ => Err(Damage::InodeFormat.into()),
        }
    }

    /// The inode with a number that a directory entry gave.
    ///
    /// # Errors
    /// The device fails, or the inode is damaged.
    pub fn inode(&self, nid: u64) -> Result<Inode, Error<D::Error>> {
        let address = nid
            .checked_mul(SLOT)
            .and_then(|at| at.checked_add(u64::from(self.superblock.meta_block) * BLOCK as u64))
            .filter(|at| {
                at.checked_add(INODE_SIZE as u64)
                    .is_some_and(|end| end <= self.size())
            })
            .ok_or(Damage::InodeAddress)?;
        let mut bytes = [0; INODE_SIZE];
        self.device.read_at(address, &mut bytes).map_err(Error::Device)?;
        let raw = RawInode::decode(&bytes)?;
        let kind = Kind::from_mode(raw.mode).ok_or(Damage::InodeFormat)?;
        let (tail, inline) = self.extent(address, &raw)?;
        Ok(Inode {
            nid,
            kind,
            raw,
            tail,
            inline,
        })
    }

    /// Checks where an inode's data lies; the address and length of its inline tail.
    fn extent(&self, address: u64, raw: &RawInode) -> Result<(u64, u64), Damage> {
        if raw.size > self.size() {
            return Err(Damage::DataAddress);
        }
        let block = BLOCK as u64;
        let tail = address + INODE_SIZE as u64 + u64::from(raw.xattr_size);
        let inline = match raw.layout {
            Layout::Plain => 0,
            // As Linux has it: the last block, full or not, is the tail.
            Layout::Inline if raw.size == 0 => 0,
            Layout::Inline => (raw.size - 1) % block + 1,
        };
        if inline != 0 && (tail % block + inline > block || tail + inline > self.size()) {
            return Err(Damage::InlineTail);
        }
        let blocks = (raw.size - inline).div_ceil(block);
        if blocks != 0
            && (raw.start_block == 0
                || u64::from(raw.start_block) + blocks > u64::from(self.superblock.blocks))
        {
            return Err(Damage::DataAddress);
        }
        Ok((tail, inline))
    }

    /// Reads from a file into `buffer`, from `offset` on; how many bytes, fewer than `buffer` has only at the
    /// file's end. At most two reads of the device: one for all that lies in blocks, one for the tail.
    ///
    /// # Errors
    /// The device fails, or this is not a regular file.
    pub fn read(&self, file: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize, Error<D::Error>> {
        match file.kind {
            Kind::File => self.read_data(file, offset, buffer),
            _ => Err(Error::NotAFile),
        }
    }

    /// As [`FileSystem::read`], for any kind.
    fn read_data(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize, Error<D::Error>> {
        let left = inode.size().saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let in_blocks = inode.in_blocks().saturating_sub(offset);
        let split = usize::try_from(in_blocks).unwrap_or(usize::MAX).min(length);
        let (blocks, tail) = buffer[..length].split_at_mut(split);
        if !blocks.is_empty() {
            let start = u64::from(inode.raw.start_block) * BLOCK as u64;
            self.device
                .read_at(start + offset, blocks)
                .map_err(Error::Device)?;
        }
        if !tail.is_empty() {
            let skip = (offset + split as u64) - inode.in_blocks();
            self.device
                .read_at(inode.tail + skip, tail)
                .map_err(Error::Device)?;
        }
        Ok(length)
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// The device fails, this is not a symbolic link, or its target cannot be.
    pub fn read_link(&self, link: &Inode) -> Result<Vec<u8>, Error<D::Error>> {
        if link.kind != Kind::Symlink {
            return Err(Error::NotALink);
        }
        if link.size() == 0 || link.size() > MAX_LINK_TARGET as u64 {
            return Err(Damage::LinkTarget.into());
        }
        let mut target = vec![0; link.size() as usize];
        self.read_data(link, 0, &mut target)?;
        if target.contains(&0) {
            return Err(Damage::LinkTarget.into());
        }
        Ok(target)
    }

    /// Finds what a path names, from the root, whether or not it starts with `/`. Symbolic links are followed,
    /// the last one too; `..` goes back along the way that was taken, and stays at the root.
    ///
    /// # Errors
    /// The device fails, the path names nothing, or what it leads through is damaged.
    pub fn resolve(&self, path: &[u8]) -> Result<Inode, Error<D::Error>> {
        self.walk(path, true)
    }

    /// As [`FileSystem::resolve`], but a symbolic link at the path's end is not followed.
    ///
    /// # Errors
    /// As [`FileSystem::resolve`].
    pub fn resolve_link(&self, path: &[u8]) -> Result<Inode, Error<D::Error>> {
        self.walk(path, false)
    }

    fn walk(&self, path: &[u8], follow_last: bool) -> Result<Inode, Error<D::Error>> {
        // Directories from the root to the current one; the names still to go, next one last.
        let mut way = vec![self.root()?];
        let mut names = Vec::new();
        push_names(&mut names, path);
        let mut links = 0;
        while let Some(name) = names.pop() {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let here = way.last().ok_or(Error::NotFound)?;
            let entry = self.find(here, &name)?.ok_or(Error::NotFound)?;
            let inode = self.inode(entry.nid)?;
            match inode.kind {
                Kind::Symlink if follow_last || !names.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::TooManyLinks);
                    }
                    let target = self.read_link(&inode)?;
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    push_names(&mut names, &target);
                }
                Kind::Directory => way.push(inode),
                _ if names.is_empty() => return Ok(inode),
                _ => return Err(Error::NotADirectory),
            }
        }
        way.pop().ok_or(Error::NotFound)
    }
}

/// Puts a path's names onto a stack, so that its first one is popped first.
fn push_names(names: &mut Vec<Vec<u8>>, path: &[u8]) {
    names.extend(
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .rev()
            .map(<[u8]>::to_vec),
    );
}
