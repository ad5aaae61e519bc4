//! Carries a plan out: reads the files, writes blocks, inodes, directories, and the superblock at last.

use std::collections::HashMap;
use std::io::{self, Read};

use super::ahead::{Ahead, Batch, Loaded, is_large};
use super::base::Placed;
use super::output::{Records, Run};
use super::plan::{Nodes, Plan};
use super::tree_digest::TreeDigest;
use super::{Error, ItemKind, WriteAt};
use crate::format::{BLOCK, INODE_SIZE, Kind, SUPERBLOCK_OFFSET, Superblock};

/// Where files' content comes from. Threads open and read files at once.
pub trait Content: Sync {
    /// What a file is read through.
    type Reader: Read;

    /// Opens the file of an item, by its index in what [`Plan::new`] was given. A file may be opened twice.
    ///
    /// # Errors
    /// The file cannot be opened.
    fn open(&self, item: usize) -> io::Result<Self::Reader>;
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// A digest of all paths, attributes and content; equal trees have equal digests.
    pub digest: blake3::Hash,
    /// What makes this the tree; its uuid is the start of `digest`.
    pub superblock: Superblock,
}

impl Written {
    /// Bytes of the file system.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.superblock.blocks) * BLOCK as u64
    }
}

/// Writes a file system, and tells `placed` where each node lies, in the order of paths, the root first: what an update
/// starts from ([`super::Base`]). The caller makes it durable.
///
/// # Errors
/// A file cannot be read or changes meanwhile, or the device fails.
pub fn write<W, C>(
    plan: &Plan<'_>,
    volume_name: &str,
    device: &W,
    content: &C,
    placed: &mut dyn FnMut(&Placed<'_>),
) -> Result<Written, Error>
where
    W: WriteAt,
    C: Content,
{
    let mut writer = Writer {
        nodes: &plan.nodes,
        device,
        next: plan.data_block,
        records: Records::new(device),
        shared: HashMap::new(),
        digest: TreeDigest::default(),
        placed,
    };
    writer.directories().map_err(Error::Write)?;
    std::thread::scope(|scope| writer.content(Ahead::start(scope, plan, content)))?;
    writer.records.finish().map_err(Error::Write)?;
    let digest = writer.digest.finish();
    // The plan has checked that 32 bits are enough.
    let superblock = superblock(&plan.nodes, digest, volume_name, writer.next as u32);
    device
        .write_at(SUPERBLOCK_OFFSET, &superblock.encode())
        .map_err(Error::Write)?;
    Ok(Written { digest, superblock })
}

/// The superblock of a tree.
pub(super) fn superblock(
    nodes: &Nodes<'_>,
    digest: blake3::Hash,
    volume_name: &str,
    blocks: u32,
) -> Superblock {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.as_bytes()[..16]);
    let mut name = [0; 16];
    let length = volume_name.len().min(name.len());
    name[..length].copy_from_slice(&volume_name.as_bytes()[..length]);
    Superblock {
        // The root lies in block 1.
        root_nid: nodes.all[0].nid() as u16,
        inodes: nodes.all.len() as u64,
        blocks,
        meta_block: 0,
        uuid,
        volume_name: name,
    }
}

struct Writer<'a, W> {
    nodes: &'a Nodes<'a>,
    device: &'a W,
    /// The block behind all content that was written.
    next: u64,
    records: Records<'a, W>,
    /// The first block of content that other files may share.
    shared: HashMap<(blake3::Hash, u64), u64>,
    /// Of what was stored so far.
    digest: TreeDigest,
    placed: &'a mut dyn FnMut(&Placed<'_>),
}

impl<W: WriteAt> Writer<'_, W> {
    /// All directories: first their blocks, then their inodes.
    fn directories(&mut self) -> io::Result<()> {
        let nodes = self.nodes;
        let directories = || {
            let all = nodes.all.iter().enumerate();
            all.filter(|(_, node)| node.kind() == Kind::Directory)
        };
        let mut blocks = Run::new(self.device, nodes.all[0].start_block);
        for (index, node) in directories() {
            if node.blocks() > 0 {
                let bytes = nodes.directory(index);
                blocks.put(&bytes[..bytes.len() - node.tail()])?;
            }
        }
        blocks.finish()?;
        for (index, node) in directories() {
            let bytes = nodes.directory(index);
            self.record(index, node.start_block, &bytes[bytes.len() - node.tail()..])?;
            if index == 0 {
                self.records.finish()?;
            }
        }
        self.records.finish()
    }

    /// All links and files, as they come.
    fn content(&mut self, mut files: Ahead) -> Result<(), Error> {
        let mut batch: Option<Batched> = None;
        for index in 0..self.nodes.all.len() {
            let node = &self.nodes.all[index];
            match node.item.kind {
                ItemKind::Directory => self.stored(index, node.start_block, None),
                ItemKind::Symlink(target) => {
                    // Where its blocks go depends on what comes before them.
                    if let Some(batch) = batch.as_mut().filter(|_| node.blocks() > 0) {
                        self.write(batch).map_err(Error::Write)?;
                    }
                    self.symlink(index, target).map_err(Error::Write)?;
                }
                ItemKind::File(_) if is_large(node) => {
                    self.flush(&mut batch)?;
                    self.large_file(index, &mut files)?;
                }
                ItemKind::File(_) => {
                    if !batch
                        .as_ref()
                        .is_some_and(|batch| batch.files.nodes.contains(&index))
                    {
                        self.flush(&mut batch)?;
                        batch = match files.next()? {
                            Loaded::Batch(files) => Some(Batched::new(files)),
                            _ => None,
                        };
                    }
                    // The readers cut the files as this loop does.
                    let batch = batch.as_mut().ok_or_else(out_of_order)?;
                    self.small_file(index, batch)?;
                }
            }
        }
        self.flush(&mut batch)
    }

    /// Writes what is left of a batch.
    fn flush(&mut self, batch: &mut Option<Batched>) -> Result<(), Error> {
        batch
            .take()
            .map_or(Ok(()), |mut batch| self.write(&mut batch))
            .map_err(Error::Write)
    }

    /// Writes the blocks of a batch that are gone through and not written yet.
    fn write(&mut self, batch: &mut Batched) -> io::Result<()> {
        let bytes = &batch.files.blocks.bytes()[batch.written..batch.at];
        batch.written = batch.at;
        self.append(bytes)
    }

    /// Writes whole blocks behind all others.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.device.write_at(self.next * BLOCK as u64, bytes)?;
        self.next += (bytes.len() / BLOCK) as u64;
        Ok(())
    }

    fn symlink(&mut self, index: usize, target: &[u8]) -> io::Result<()> {
        let start = self.next;
        let (blocks, tail) = target.split_at(target.len() - self.nodes.all[index].tail());
        let mut blocks = blocks.to_vec();
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        self.append(&blocks)?;
        self.stored(index, start, None);
        self.record(index, start, tail)
    }

    /// Stores a file of a batch, unless its content is there already, and its inode.
    fn small_file(&mut self, index: usize, batch: &mut Batched) -> Result<(), Error> {
        let node = &self.nodes.all[index];
        let digest = batch.files.digests[batch.file];
        batch.file += 1;
        let length = node.blocks() as usize * BLOCK;
        let known = self.shared.get(&(digest, node.size)).copied();
        let start = match known {
            Some(start) => {
                self.write(batch).map_err(Error::Write)?;
                batch.at += length;
                batch.written = batch.at;
                start
            }
            None => {
                let start = self.next + ((batch.at - batch.written) / BLOCK) as u64;
                batch.at += length;
                if node.maybe_shared && length > 0 {
                    self.shared.insert((digest, node.size), start);
                }
                start
            }
        };
        let tail = batch.tail..batch.tail + node.tail();
        batch.tail = tail.end;
        self.stored(index, start, Some(digest));
        self.record(index, start, &batch.files.tails[tail])
            .map_err(Error::Write)
    }

    /// Stores a file that comes in pieces, unless its content is there already, and its inode.
    fn large_file(&mut self, index: usize, files: &mut Ahead) -> Result<(), Error> {
        let node = &self.nodes.all[index];
        let (mut start, mut known) = (self.next, false);
        let mut left = node.size - node.tail() as u64;
        let mut tail = Vec::with_capacity(node.tail());
        let digest = loop {
            match files.next()? {
                Loaded::Digest(digest) => {
                    if let Some(there) = self.shared.get(&(digest, node.size)) {
                        (start, known) = (*there, true);
                    }
                }
                Loaded::Piece(piece) => {
                    let bytes = piece.bytes();
                    let split = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (blocks, rest) = bytes.split_at(split);
                    left -= split as u64;
                    tail.extend_from_slice(rest);
                    if !known {
                        self.piece(blocks).map_err(Error::Write)?;
                    }
                }
                Loaded::End(digest) => break digest,
                _ => return Err(out_of_order()),
            }
        };
        if node.maybe_shared {
            self.shared.insert((digest, node.size), start);
        }
        self.stored(index, start, Some(digest));
        self.record(index, start, &tail).map_err(Error::Write)
    }

    /// Writes a piece of a large file; only its last one does not end with a block.
    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (whole, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        self.append(whole)?;
        let mut last = rest.to_vec();
        last.resize(rest.len().next_multiple_of(BLOCK), 0);
        self.append(&last)
    }

    /// What is next in the order of paths has its place.
    fn stored(&mut self, index: usize, start_block: u64, digest: Option<blake3::Hash>) {
        let node = &self.nodes.all[index];
        self.digest.add(&node.item, digest);
        (self.placed)(&Placed::new(node, start_block, digest));
    }

    /// Puts an inode and its tail.
    fn record(&mut self, index: usize, start_block: u64, tail: &[u8]) -> io::Result<()> {
        let node = &self.nodes.all[index];
        let inode = self.nodes.inode(index, start_block);
        self.records.put(node.address, &inode.encode())?;
        if tail.is_empty() {
            return Ok(());
        }
        self.records.put(node.address + INODE_SIZE as u64, tail)
    }
}

/// A batch that is being stored, and how far.
struct Batched {
    files: Batch,
    /// The file that is next.
    file: usize,
    /// Where its blocks begin, and its tail.
    at: usize,
    tail: usize,
    /// Where blocks begin that are not written yet.
    written: usize,
}

impl Batched {
    fn new(files: Batch) -> Self {
        Self {
            files,
            file: 0,
            at: 0,
            tail: 0,
            written: 0,
        }
    }
}

fn out_of_order() -> Error {
    Error::Write(io::Error::other("files come in another order than planned"))
}
