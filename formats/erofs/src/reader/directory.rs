//! Directories: listing one, and finding a name in one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Error, FileSystem, Inode, MAX_DIRECTORY, ReadAt};
use crate::format::{BLOCK, DIRENT_SIZE, Damage, Kind, MAX_NAME, RawDirent};

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode, for [`FileSystem::inode`].
    pub nid: u64,
    /// What the directory says that the inode is.
    pub kind: Kind,
    /// Its name.
    pub name: Vec<u8>,
}

/// One block of a directory, its table of entries checked.
struct Block {
    bytes: Box<[u8; BLOCK]>,
    /// Bytes of it that belong to the directory.
    length: usize,
    count: usize,
}

impl Block {
    fn parse(bytes: Box<[u8; BLOCK]>, length: usize) -> Result<Self, Damage> {
        let mut block = Self {
            bytes,
            length,
            count: 1,
        };
        if length < DIRENT_SIZE {
            return Err(Damage::Directory);
        }
        let names = usize::from(block.dirent(0).name_offset);
        if names < DIRENT_SIZE || names % DIRENT_SIZE != 0 || names > length {
            return Err(Damage::Directory);
        }
        block.count = names / DIRENT_SIZE;
        let mut end = names;
        for index in 0..block.count {
            let start = usize::from(block.dirent(index).name_offset);
            // Names follow one another without gaps; only then do they not overlap the table or each other.
            if (index > 0 && start <= end) || start >= length {
                return Err(Damage::Directory);
            }
            end = start;
        }
        Ok(block)
    }

    fn dirent(&self, index: usize) -> RawDirent {
        let mut bytes = [0; DIRENT_SIZE];
        bytes.copy_from_slice(&self.bytes[index * DIRENT_SIZE..][..DIRENT_SIZE]);
        RawDirent::decode(&bytes)
    }

    fn name(&self, index: usize) -> Result<&[u8], Damage> {
        let start = usize::from(self.dirent(index).name_offset);
        let name = if index + 1 < self.count {
            &self.bytes[start..usize::from(self.dirent(index + 1).name_offset)]
        } else {
            // The last name may be padded with NULs.
            let rest = &self.bytes[start..self.length];
            &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
        };
        if name.is_empty() || name.len() > MAX_NAME || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Damage::Name);
        }
        Ok(name)
    }

    fn entry(&self, index: usize) -> Result<Entry, Damage> {
        let dirent = self.dirent(index);
        let kind = Kind::from_dirent_type(dirent.file_type).ok_or(Damage::Directory)?;
        Ok(Entry {
            nid: dirent.nid,
            kind,
            name: self.name(index)?.to_vec(),
        })
    }
}

/// The entries of a directory in the order of their names' bytes, without `.` and `..`. Ends after an error.
pub struct ReadDir<'a, D> {
    file_system: &'a FileSystem<D>,
    directory: Inode,
    /// The block that is next, and the one that is being gone through with the index of its next entry.
    next: u64,
    current: Option<(Block, usize)>,
}

impl<D: ReadAt> ReadDir<'_, D> {
    fn advance(&mut self) -> Result<Option<Entry>, Error<D::Error>> {
        loop {
            if let Some((block, index)) = &mut self.current {
                while *index < block.count {
                    let entry = block.entry(*index)?;
                    *index += 1;
                    if !matches!(entry.name.as_slice(), b"." | b"..") {
                        return Ok(Some(entry));
                    }
                }
            }
            if self.next == self.directory.size().div_ceil(BLOCK as u64) {
                return Ok(None);
            }
            let block = self.file_system.directory_block(&self.directory, self.next)?;
            self.current = Some((block, 0));
            self.next += 1;
        }
    }
}

impl<D: ReadAt> Iterator for ReadDir<'_, D> {
    type Item = Result<Entry, Error<D::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.current = None;
            self.next = self.directory.size().div_ceil(BLOCK as u64);
        }
        item
    }
}

impl<D: ReadAt> FileSystem<D> {
    /// Lists a directory.
    ///
    /// # Errors
    /// This is not a directory, or it is larger than [`MAX_DIRECTORY`].
    pub fn read_dir(&self, directory: &Inode) -> Result<ReadDir<'_, D>, Error<D::Error>> {
        check_directory(directory)?;
        Ok(ReadDir {
            file_system: self,
            directory: directory.clone(),
            next: 0,
            current: None,
        })
    }

    /// Finds one name in a directory: by halving its blocks, then within one block.
    ///
    /// # Errors
    /// This is not a directory, it is damaged, or the device fails.
    pub fn find(&self, directory: &Inode, name: &[u8]) -> Result<Option<Entry>, Error<D::Error>> {
        check_directory(directory)?;
        let (mut low, mut high) = (0, directory.size().div_ceil(BLOCK as u64));
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.directory_block(directory, middle)?;
            if name < block.name(0)? {
                high = middle;
            } else if name > block.name(block.count - 1)? {
                low = middle + 1;
            } else {
                for index in 0..block.count {
                    if block.name(index)? == name {
                        return Ok(Some(block.entry(index)?));
                    }
                }
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn directory_block(&self, directory: &Inode, index: u64) -> Result<Block, Error<D::Error>> {
        let mut bytes = Box::new([0; BLOCK]);
        let length = self.read_data(directory, index * BLOCK as u64, &mut bytes[..])?;
        Ok(Block::parse(bytes, length)?)
    }
}

fn check_directory<E>(directory: &Inode) -> Result<(), Error<E>> {
    if directory.kind() != Kind::Directory {
        return Err(Error::NotADirectory);
    }
    if directory.size() > MAX_DIRECTORY {
        return Err(Damage::DataAddress.into());
    }
    Ok(())
}
