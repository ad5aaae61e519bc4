//! Carries a plan out: reads the files, writes blocks, inodes, directories, and the superblock at last.

use std::collections::HashMap;
use std::io::{self, Read};

use super::base::{Base, Placed};
use super::output::{CHUNK, Records, Run};
use super::plan::{self, Node, Plan};
use super::{Error, ItemKind, WriteAt, shown};
use crate::format::{BLOCK, Kind, SUPERBLOCK_OFFSET, Superblock};

/// Where files' content comes from.
pub trait Content {
    /// What a file is read through.
    type Reader: Read;

    /// Opens the file of an item, by its index in what [`Plan::new`] was given. A file may be opened twice.
    ///
    /// # Errors
    /// The file cannot be opened.
    fn open(&mut self, item: usize) -> io::Result<Self::Reader>;
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// A digest of all paths, attributes and content; equal trees have equal digests.
    pub digest: blake3::Hash,
    /// What an update starts from. The superblock's uuid is the start of `digest`.
    pub base: Base,
}

impl Written {
    /// Bytes of the file system.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.base.superblock.blocks) * BLOCK as u64
    }
}

/// Writes a file system. The caller makes it durable.
///
/// # Errors
/// A file cannot be read or changes meanwhile, or the device fails.
pub fn write<W, C>(plan: &Plan, volume_name: &str, device: &W, content: &mut C) -> Result<Written, Error>
where
    W: WriteAt,
    C: Content,
{
    let mut writer = Writer {
        plan,
        content,
        run: Run::new(device, plan.data_block),
        records: Records::new(device),
        starts: vec![0; plan.nodes.len()],
        shared: HashMap::new(),
        buffer: vec![0; CHUNK],
    };
    let mut digests = vec![None; plan.nodes.len()];
    writer.directories(device).map_err(Error::Write)?;
    for (index, node) in plan.nodes.iter().enumerate() {
        match &node.item.kind {
            ItemKind::Directory => {}
            ItemKind::Symlink(target) => writer.symlink(index, target).map_err(Error::Write)?,
            ItemKind::File(_) => digests[index] = Some(writer.file(index)?),
        }
    }
    writer.records.finish().map_err(Error::Write)?;
    writer.run.finish().map_err(Error::Write)?;

    let digest = tree_digest(&plan.nodes, &digests);
    // The plan has checked that 32 bits are enough.
    let superblock = superblock(&plan.nodes, digest, volume_name, writer.run.block() as u32);
    device
        .write_at(SUPERBLOCK_OFFSET, &superblock.encode())
        .map_err(Error::Write)?;
    let nodes = plan.nodes.iter().zip(writer.starts).zip(digests);
    let nodes = nodes.map(|((node, start), digest)| Placed::new(node, start, digest));
    let base = Base {
        superblock,
        nodes: nodes.collect(),
    };
    Ok(Written { digest, base })
}

/// The superblock of a tree.
pub(super) fn superblock(nodes: &[Node], digest: blake3::Hash, volume_name: &str, blocks: u32) -> Superblock {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.as_bytes()[..16]);
    let mut name = [0; 16];
    let length = volume_name.len().min(name.len());
    name[..length].copy_from_slice(&volume_name.as_bytes()[..length]);
    Superblock {
        // The root lies in block 1.
        root_nid: nodes[0].nid() as u16,
        inodes: nodes.len() as u64,
        blocks,
        meta_block: 0,
        uuid,
        volume_name: name,
    }
}

/// The digest of a tree, from the digests of its files.
pub(super) fn tree_digest(nodes: &[Node], digests: &[Option<blake3::Hash>]) -> blake3::Hash {
    let mut digest = blake3::Hasher::new();
    for (node, data) in nodes.iter().zip(digests) {
        let data = match &node.item.kind {
            ItemKind::Symlink(target) => Some(blake3::hash(target)),
            _ => *data,
        };
        describe(&mut digest, node, data);
    }
    digest.finalize()
}

/// Adds what a node is to the digest of the tree: each field of fixed size, or with its length before it.
fn describe(digest: &mut blake3::Hasher, node: &Node, data: Option<blake3::Hash>) {
    let item = &node.item;
    digest.update(&[node.kind().dirent_type()]);
    digest
        .update(&(item.path.len() as u64).to_le_bytes())
        .update(&item.path);
    digest.update(&item.permissions.to_le_bytes());
    digest
        .update(&item.uid.to_le_bytes())
        .update(&item.gid.to_le_bytes());
    digest
        .update(&item.mtime.to_le_bytes())
        .update(&item.mtime_nsec.to_le_bytes());
    if let Some(data) = data {
        digest.update(&node.size.to_le_bytes()).update(data.as_bytes());
    }
}

struct Writer<'a, W, C> {
    plan: &'a Plan,
    content: &'a mut C,
    run: Run<'a, W>,
    records: Records<'a, W>,
    /// The first block of each node's content.
    starts: Vec<u32>,
    /// The first block of content that other files may share.
    shared: HashMap<(blake3::Hash, u64), u64>,
    buffer: Vec<u8>,
}

impl<W: WriteAt, C: Content> Writer<'_, W, C> {
    /// All directories: first their blocks, then their inodes.
    fn directories(&mut self, device: &W) -> io::Result<()> {
        let plan = self.plan;
        let directories = || {
            plan.nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.kind() == Kind::Directory)
        };
        let mut blocks = Run::new(device, plan.nodes[0].start_block);
        for (index, node) in directories() {
            let bytes = plan::directory(&plan.nodes, index);
            blocks
                .buffer
                .extend_from_slice(&bytes[..bytes.len() - node.tail()]);
            blocks.pad();
            blocks.drain()?;
        }
        blocks.finish()?;
        for (index, node) in directories() {
            let bytes = plan::directory(&plan.nodes, index);
            self.record(index, node.start_block, &bytes[bytes.len() - node.tail()..])?;
            if index == 0 {
                self.records.finish()?;
            }
        }
        self.records.finish()
    }

    fn symlink(&mut self, index: usize, target: &[u8]) -> io::Result<()> {
        let node = &self.plan.nodes[index];
        let start = self.run.block();
        let (blocks, tail) = target.split_at(target.len() - node.tail());
        self.run.buffer.extend_from_slice(blocks);
        self.run.pad();
        self.run.drain()?;
        self.record(index, start, tail)
    }

    /// Stores a file's content and its inode; the content's digest.
    fn file(&mut self, index: usize) -> Result<blake3::Hash, Error> {
        let node = &self.plan.nodes[index];
        if node.size <= CHUNK as u64 {
            self.small_file(index)
        } else {
            self.large_file(index)
        }
    }

    /// A file that fits into the buffer: it is read to where it will be written from, and taken back if its content
    /// is there already.
    fn small_file(&mut self, index: usize) -> Result<blake3::Hash, Error> {
        let node = &self.plan.nodes[index];
        let from = self.run.buffer.len();
        let mut reader = self.open(index)?.take(node.size + 1);
        reader
            .read_to_end(&mut self.run.buffer)
            .map_err(|error| read_error(node, error))?;
        if (self.run.buffer.len() - from) as u64 != node.size {
            return Err(Error::Changed(shown(&node.item.path)));
        }
        let hash = blake3::hash(&self.run.buffer[from..]);
        let tail_at = self.run.buffer.len() - node.tail();
        let tail = self.run.buffer[tail_at..].to_vec();
        self.run.buffer.truncate(tail_at);
        let known = self.shared.get(&(hash, node.size)).copied();
        let start = known.unwrap_or_else(|| self.run.block_at(from));
        if known.is_some() {
            self.run.buffer.truncate(from);
        } else if node.maybe_shared && node.blocks() > 0 {
            self.shared.insert((hash, node.size), start);
        }
        self.run.pad();
        self.run.drain().map_err(Error::Write)?;
        self.record(index, start, &tail).map_err(Error::Write)?;
        Ok(hash)
    }

    /// A file that is read in pieces; twice if another one has its size, since what to write is not known before.
    fn large_file(&mut self, index: usize) -> Result<blake3::Hash, Error> {
        let node = &self.plan.nodes[index];
        let known = if node.maybe_shared {
            let hash = self.pieces(index, |_, _| Ok(()))?;
            self.shared.get(&(hash, node.size)).map(|start| (hash, *start))
        } else {
            None
        };
        let in_blocks = node.size - node.tail() as u64;
        let start = known.map_or_else(|| self.run.block(), |(_, start)| start);
        let mut tail = Vec::with_capacity(node.tail());
        let mut at = 0;
        let hash = self.pieces(index, |run, piece| {
            let split = usize::try_from(in_blocks.saturating_sub(at))
                .unwrap_or(usize::MAX)
                .min(piece.len());
            at += piece.len() as u64;
            tail.extend_from_slice(&piece[split..]);
            if known.is_none() {
                run.buffer.extend_from_slice(&piece[..split]);
                run.drain()?;
            }
            Ok(())
        })?;
        if known.is_some_and(|(before, _)| before != hash) {
            return Err(Error::Changed(shown(&node.item.path)));
        }
        self.run.pad();
        self.run.drain().map_err(Error::Write)?;
        if node.maybe_shared {
            self.shared.insert((hash, node.size), start);
        }
        self.record(index, start, &tail).map_err(Error::Write)?;
        Ok(hash)
    }

    /// Reads a file in pieces and checks its size; its digest.
    fn pieces<F>(&mut self, index: usize, mut take: F) -> Result<blake3::Hash, Error>
    where
        F: FnMut(&mut Run<'_, W>, &[u8]) -> io::Result<()>,
    {
        let node = &self.plan.nodes[index];
        let mut reader = self.open(index)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = node.size;
        loop {
            let length = match reader.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(node, error)),
            };
            if length == 0 {
                break;
            }
            left = left
                .checked_sub(length as u64)
                .ok_or_else(|| Error::Changed(shown(&node.item.path)))?;
            hasher.update(&self.buffer[..length]);
            take(&mut self.run, &self.buffer[..length]).map_err(Error::Write)?;
        }
        if left > 0 {
            return Err(Error::Changed(shown(&node.item.path)));
        }
        Ok(hasher.finalize())
    }

    fn open(&mut self, index: usize) -> Result<C::Reader, Error> {
        let node = &self.plan.nodes[index];
        let source = node.source.unwrap_or_default();
        self.content.open(source).map_err(|error| read_error(node, error))
    }

    /// Puts an inode and its tail.
    fn record(&mut self, index: usize, start_block: u64, tail: &[u8]) -> io::Result<()> {
        let node = &self.plan.nodes[index];
        let inode = plan::inode(&self.plan.nodes, index, start_block);
        self.starts[index] = inode.start_block;
        self.records.put(node.address, &inode.encode())?;
        if tail.is_empty() {
            return Ok(());
        }
        self.records
            .put(node.address + crate::format::INODE_SIZE as u64, tail)
    }
}

pub(super) fn read_error(node: &Node, source: io::Error) -> Error {
    Error::Read {
        path: shown(&node.item.path),
        source,
    }
}
