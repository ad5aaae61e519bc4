//! The tree of files in a data base of redb: directories, files, their content in chunks.
//!
//! All changes are made in one transaction, which is committed by [`Tree::sync`], at the end, and when much has changed.
//! So after a power cut the tree is as it was at a moment: all before it, nothing after it. Each call checks first and
//! changes then, so that one that fails has changed nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use redb::{Database, WriteTransaction};

use super::Bytes;
use super::chunk::{CHUNK, touched};
use super::error::{Error, Result};
use super::superblock::Base;
use super::tables::{MAX_SIZE, ROOT, Tables, before};
use crate::sum::sum;

/// The version of what follows. 1, which no release had, was without sums; 2: with them.
const VERSION: u64 = 2;

/// Bytes that are written before all is committed: what is not yet committed takes room beside what it replaces.
const COMMIT_AFTER: u64 = 8 << 20;

/// Bytes of the smallest volume that takes a folder: an empty data base has 1.6 MB.
const SMALLEST: u64 = 4 << 20;

/// The inode, of no file, that has the pins: chunks that lie near the data base's end, so that redb does not take half of
/// it for free, and give it back. Where it puts one is its affair; the tree is opened until one fits.
const PINS: u64 = 0;
const MAX_PINS: u64 = 64;

/// Bytes of redb's cache, for reading and writing.
const CACHE: usize = 4 << 20;

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub inode: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Bytes of a file.
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds of that.
    pub nanoseconds: u32,
    /// Of a directory, how many entries it has. Of a file, how many chunks it has from the first on to the first hole. So
    /// what lacks of these is seen.
    pub(super) parts: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Make it if it is not there.
    pub create: bool,
    /// It must not be there.
    pub exclusive: bool,
    /// Nothing of it is kept.
    pub truncate: bool,
    /// It is to be written.
    pub write: bool,
}

/// A tree of files that is open.
#[derive(Debug)]
pub struct Tree {
    base: Database,
    state: Mutex<State>,
    /// Bytes that chunks may have, and bytes after which all is committed.
    room: u64,
    commit_after: u64,
}

struct State {
    write: Option<WriteTransaction>,
    pending: u64,
    /// How often each inode is open.
    open: HashMap<u64, usize>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

fn data_base<D: Bytes>(base: &Base<D>) -> io::Result<Database> {
    Database::builder()
        .set_cache_size(CACHE)
        .create_with_backend(base.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl Tree {
    /// Opens the tree on a disk; on one that has never been written to, an empty one is made.
    ///
    /// # Errors
    /// `InvalidData`: there is something else on the disk, a folder of another version, or it is damaged; nothing was written. Others: the disk's.
    pub fn open<D: Bytes>(disk: D) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let base = Base::on(disk)?;
        if base.room() < SMALLEST {
            return Err(invalid("the volume is too small for a folder"));
        }
        if !base.has_all() {
            let small = data_base(&base)?;
            base.cut();
            drop(small);
            base.take_all()?;
        }
        for pins in 0..MAX_PINS {
            let tree = Self::on(&base)?;
            tree.prepare(pins).map_err(|error| match error {
                Error::UNKNOWN => invalid("the folder on the volume is of another version of Hermitage"),
                error => error.into(),
            })?;
            if base.has_all() {
                return Ok(tree);
            }
            base.cut();
            drop(tree);
            base.take_all()?;
        }
        Err(Error::IO.into())
    }

    fn on<D: Bytes>(base: &Base<D>) -> io::Result<Self> {
        let commit_after = COMMIT_AFTER.min(base.room() / 16);
        Ok(Self {
            base: data_base(base)?,
            state: Mutex::new(State {
                write: None,
                pending: 0,
                open: HashMap::new(),
            }),
            // What a commit replaces takes room until it is done, twice.
            room: base.room() / 8 * 7 - 2 * commit_after,
            commit_after,
        })
    }

    /// Makes the root where there is none, and removes what was open when the power went.
    fn prepare(&self, pins: u64) -> Result<()> {
        let mut state = self.lock();
        self.change(&mut state, |tables| {
            match tables.fact("version")? {
                0 => {
                    tables.put_fact("version", VERSION)?;
                    tables.put_fact("next", ROOT + 1)?;
                    tables.put(&Node::new(ROOT, true))?;
                }
                VERSION => {}
                _ => return Err(Error::UNKNOWN),
            }
            if pins > 0 {
                tables.put_pin(PINS, pins)?;
            }
            let orphans = tables.orphans()?;
            orphans
                .into_iter()
                .try_for_each(|inode| tables.forget_orphan(inode))
        })?;
        self.commit(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, state: &mut State, work: impl FnOnce(&mut Tables<'_>) -> Result<T>) -> Result<T> {
        if state.write.is_none() {
            state.write = Some(self.base.begin_write()?);
        }
        let Some(write) = &state.write else {
            return Err(Error::IO);
        };
        work(&mut Tables::of(write)?)
    }

    fn commit(&self, state: &mut State) -> Result<()> {
        state.pending = 0;
        match state.write.take() {
            Some(write) => Ok(write.commit()?),
            None => Ok(()),
        }
    }

    /// Counts what was changed, and commits when it is much.
    fn changed(&self, state: &mut State, bytes: u64) -> Result<()> {
        state.pending += bytes;
        if state.pending >= self.commit_after {
            self.commit(state)?;
        }
        Ok(())
    }

    /// Returns when all that was changed before is on stable storage.
    ///
    /// # Errors
    /// The disk failed: what was changed since the last time may be lost.
    pub fn sync(&self) -> Result<()> {
        self.commit(&mut self.lock())
    }
}

impl Tree {
    /// What is at a path.
    ///
    /// # Errors
    /// Nothing, or the disk failed.
    pub fn stat(&self, path: &[u8]) -> Result<Node> {
        self.change(&mut self.lock(), |tables| tables.find(path))
    }

    /// What an open file is.
    ///
    /// # Errors
    /// The disk failed.
    pub fn stat_inode(&self, inode: u64) -> Result<Node> {
        self.change(&mut self.lock(), |tables| tables.node(inode))
    }

    /// Opens a file or a directory; its inode. It stays until it is closed as often.
    ///
    /// # Errors
    /// It is not there, or there and was not to be; a directory cannot be written; the disk failed.
    pub fn open_file(&self, path: &[u8], how: How) -> Result<u64> {
        let mut state = self.lock();
        let inode = self.change(&mut state, |tables| {
            let node = match tables.find(path) {
                Ok(_) if how.exclusive => return Err(Error::EXISTS),
                Ok(node) if node.is_directory && (how.write || how.truncate) => {
                    return Err(Error::IS_A_DIRECTORY);
                }
                Err(Error::NOT_FOUND) if how.create => return tables.make(path, false, self.room),
                found => found?,
            };
            if how.truncate && node.size > 0 {
                tables.cut(node, 0)?;
            }
            Ok(node.inode)
        })?;
        *state.open.entry(inode).or_default() += 1;
        self.changed(&mut state, 0)?;
        Ok(inode)
    }

    /// Closes what was opened.
    ///
    /// # Errors
    /// The disk failed.
    pub fn close(&self, inode: u64) -> Result<()> {
        let mut state = self.lock();
        match state.open.get_mut(&inode) {
            Some(count) if *count > 1 => {
                *count -= 1;
                return Ok(());
            }
            _ => drop(state.open.remove(&inode)),
        }
        self.change(&mut state, |tables| tables.forget_orphan(inode))
    }

    /// Reads from `offset` on; how many bytes, fewer than asked for at the file's end alone.
    ///
    /// # Errors
    /// It is a directory, or the disk failed.
    pub fn read(&self, inode: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.change(&mut self.lock(), |tables| {
            let node = tables.file(inode)?;
            let length = usize::try_from(node.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let length = length.min(buffer.len());
            for (index, within, part) in touched(offset, length) {
                let part = &mut buffer[part];
                part.fill(0);
                tables.read(&node, index, within, part)?;
            }
            Ok(length)
        })
    }

    /// Writes from `offset` on, or at the end.
    ///
    /// # Errors
    /// The volume has no room, it is a directory, or the disk failed.
    pub fn write(&self, inode: u64, offset: Option<u64>, bytes: &[u8]) -> Result<()> {
        let mut state = self.lock();
        // Piece by piece, so that a long one is not all pending at once.
        let size = self.change(&mut state, |tables| Ok(tables.file(inode)?.size))?;
        let mut offset = offset.unwrap_or(size);
        for bytes in bytes.chunks(CHUNK) {
            self.change(&mut state, |tables| tables.write(inode, offset, bytes, self.room))?;
            self.changed(&mut state, CHUNK as u64)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Makes a file longer, with zeros, or shorter.
    ///
    /// # Errors
    /// It is a directory, it would be too large, or the disk failed.
    pub fn set_len(&self, inode: u64, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Error::TOO_LARGE);
        }
        let mut state = self.lock();
        self.change(&mut state, |tables| {
            let node = tables.file(inode)?;
            tables.cut(node, size)
        })?;
        self.changed(&mut state, 0)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Something is there already, or its parent is not; the disk failed.
    pub fn make_directory(&self, path: &[u8]) -> Result<()> {
        let mut state = self.lock();
        self.change(&mut state, |tables| match tables.find(path) {
            Ok(_) => Err(Error::EXISTS),
            Err(Error::NOT_FOUND) => tables.make(path, true, self.room).map(drop),
            Err(error) => Err(error),
        })
    }

    /// Removes a file, or an empty directory.
    ///
    /// # Errors
    /// It is not there, or not what was said; the directory is not empty; the disk failed.
    pub fn remove(&self, path: &[u8], directory: bool) -> Result<()> {
        let mut state = self.lock();
        let State { open, .. } = &*state;
        let open = open.clone();
        self.change(&mut state, |tables| {
            let node = tables.find(path)?;
            match (node.is_directory, directory) {
                (true, false) => return Err(Error::IS_A_DIRECTORY),
                (false, true) => return Err(Error::NOT_A_DIRECTORY),
                _ => {}
            }
            let (parent, name) = tables.parent(path)?;
            tables.unlink(parent, name, &node, &open)
        })
    }

    /// Gives a file or directory another name, in one step. A file that had it is gone, as is an empty directory.
    ///
    /// # Errors
    /// It is not there, the new name's directory is not, or what has the name cannot be replaced; a directory would be
    /// within itself; the disk failed.
    pub fn rename(&self, old: &[u8], new: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let open = state.open.clone();
        self.change(&mut state, |tables| {
            let node = tables.find(old)?;
            let (from, old_name) = tables.parent(old)?;
            let (to, new_name) = tables.parent(new)?;
            let found = tables.find(new);
            if found.is_ok_and(|there| there.inode == node.inode) {
                return Ok(());
            }
            // A directory within itself would be out of reach.
            if node.is_directory && tables.way(before(new, new_name))?.contains(&node.inode) {
                return Err(Error::INVALID);
            }
            match found {
                Ok(there) => {
                    match (node.is_directory, there.is_directory) {
                        (true, false) => return Err(Error::NOT_A_DIRECTORY),
                        (false, true) => return Err(Error::IS_A_DIRECTORY),
                        _ => {}
                    }
                    tables.unlink(to, new_name, &there, &open)?;
                }
                Err(Error::NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
            tables.remove_entry(from, old_name)?;
            tables.put_entry(to, new_name, node.inode)
        })
    }

    /// The entries of a directory, by their names' bytes.
    ///
    /// # Errors
    /// It is a file, or the disk failed.
    pub fn list(&self, inode: u64) -> Result<Vec<(Vec<u8>, Node)>> {
        self.change(&mut self.lock(), |tables| {
            let node = tables.node(inode)?;
            if !node.is_directory {
                return Err(Error::NOT_A_DIRECTORY);
            }
            tables.entries(&node)
        })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Who wants to know syncs before. What a panic left half done is not kept.
        if !std::thread::panicking() {
            let _unknown = self.sync();
        }
    }
}

impl Node {
    pub(super) fn new(inode: u64, is_directory: bool) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            inode,
            is_directory,
            size: 0,
            seconds: now.as_secs(),
            nanoseconds: now.subsec_nanos(),
            parts: 0,
        }
    }

    /// Whether it is right that a file lacks this chunk.
    pub(super) fn may_lack(&self, index: u64) -> Result<()> {
        if index < self.parts {
            Err(Error::IO)
        } else {
            Ok(())
        }
    }

    /// What tells whether all of it is as it was put.
    pub(super) fn sum(&self) -> u32 {
        let mut bytes = [0; 29];
        bytes[0] = self.is_directory.into();
        bytes[1..9].copy_from_slice(&self.size.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.seconds.to_le_bytes());
        bytes[17..21].copy_from_slice(&self.nanoseconds.to_le_bytes());
        bytes[21..].copy_from_slice(&self.parts.to_le_bytes());
        sum(self.inode, &bytes)
    }

    pub(super) fn changed(self, size: u64, parts: u64) -> Self {
        Self {
            size,
            parts,
            ..Self::new(self.inode, self.is_directory)
        }
    }
}
