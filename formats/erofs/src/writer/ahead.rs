//! Reads and hashes files ahead of the writer, in threads of their own.
//!
//! The files are cut into jobs: a batch of small ones, or a large one. Each reader takes every so many-eth job, and
//! has a channel of its own, so that the writer gets all in their order without keeping any back. The readers' buffers
//! bound how far ahead they are: they come back when their bytes are written.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use super::content::Content;
use super::plan::{Node, Plan};
use super::{Error, ItemKind, shown};
use crate::format::BLOCK;

/// Threads that read. The writer is the third, and copies as fast as two of them read and hash.
const READERS: usize = 2;

/// Buffers of each reader: one that it fills, one that is written, one between.
const BUFFERS: usize = 3;

/// Bytes that are read or written at a time: few enough that those of all buffers stay in a CPU's cache on their way.
const CHUNK: usize = 256 << 10;

/// The largest file that is read in one piece with others.
const SMALL: u64 = CHUNK as u64 / 2;

/// Files that are read by one reader, one behind another.
#[derive(Debug)]
struct Job {
    /// Among them, directories and links, which are left out.
    nodes: Range<usize>,
    large: bool,
}

/// What a reader has read.
pub(super) enum Loaded {
    /// Small files.
    Batch(Batch),
    /// The digest of a large file whose content may be there already. It is read a second time.
    Digest(blake3::Hash),
    /// The next bytes of a large file.
    Piece(Piece),
    /// All of a large file was read; its digest.
    End(blake3::Hash),
    /// A file cannot be read.
    Failed(Error),
}

/// Small files of a run of nodes.
pub(super) struct Batch {
    pub(super) nodes: Range<usize>,
    /// What lies in blocks: of each file in turn, filled up with zeros.
    pub(super) blocks: Piece,
    /// What lies behind the inodes: of each file in turn.
    pub(super) tails: Vec<u8>,
    /// The files' digests.
    pub(super) digests: Vec<blake3::Hash>,
}

/// Some bytes, in a buffer that goes back to its reader.
pub(super) struct Piece {
    buffer: Vec<u8>,
    length: usize,
    home: Sender<Vec<u8>>,
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // A reader that has ended needs it no more.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
    }
}

/// What the readers have read, in the order of the files.
pub(super) struct Ahead {
    jobs: Vec<Receiver<Loaded>>,
    next: usize,
}

impl Ahead {
    /// Starts the readers.
    pub(super) fn start<'scope, C: Content>(
        scope: &'scope Scope<'scope, '_>,
        plan: &'scope Plan<'_>,
        content: &'scope C,
    ) -> Self {
        let jobs = std::sync::Arc::new(jobs(&plan.nodes.all));
        let readers = (0..READERS.min(jobs.len())).map(|first| {
            let (to_writer, from_reader) = channel();
            let jobs = jobs.clone();
            scope.spawn(move || {
                let (home, buffers) = channel();
                let mut reader = Reader {
                    nodes: &plan.nodes.all,
                    content,
                    made: 0,
                    home,
                    buffers,
                    to_writer,
                };
                // It ends early if the writer has failed and takes no more.
                let _ = jobs
                    .iter()
                    .skip(first)
                    .step_by(READERS)
                    .try_for_each(|job| reader.job(job));
            });
            from_reader
        });
        Self {
            jobs: readers.collect(),
            next: 0,
        }
    }

    /// What is next of the job that is being read.
    pub(super) fn next(&mut self) -> Result<Loaded, Error> {
        let reader = self.jobs.get(self.next).and_then(|reader| reader.recv().ok());
        // A reader ends before its last job only if it panics, which the scope passes on.
        let loaded = reader.ok_or_else(|| Error::Write(io::Error::other("a reader ended early")))?;
        match loaded {
            Loaded::Failed(error) => return Err(error),
            Loaded::Batch(_) | Loaded::End(_) => self.next = (self.next + 1) % self.jobs.len(),
            Loaded::Digest(_) | Loaded::Piece(_) => {}
        }
        Ok(loaded)
    }
}

/// Whether a file is read in pieces.
pub(super) fn is_large(node: &Node<'_>) -> bool {
    node.size > SMALL
}

/// Cuts all files into jobs.
fn jobs(nodes: &[Node<'_>]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut room = 0;
    for (index, node) in nodes.iter().enumerate() {
        if !matches!(node.item.kind, ItemKind::File(_)) {
            continue;
        }
        // Where the file is read to, its last byte found out, and the rest of its block.
        let needed = (node.size as usize + 1).next_multiple_of(BLOCK);
        let large = is_large(node);
        match jobs.last_mut() {
            Some(job) if !large && !job.large && needed <= room => job.nodes.end = index + 1,
            _ => {
                jobs.push(Job {
                    nodes: index..index + 1,
                    large,
                });
                room = CHUNK;
            }
        }
        room = room.saturating_sub(needed);
    }
    jobs
}

/// Nobody waits for what is read any more, or nothing more can be read.
struct Gone;

struct Reader<'a, C> {
    nodes: &'a [Node<'a>],
    content: &'a C,
    /// How many buffers there are.
    made: usize,
    home: Sender<Vec<u8>>,
    buffers: Receiver<Vec<u8>>,
    to_writer: Sender<Loaded>,
}

impl<C: Content> Reader<'_, C> {
    fn job(&mut self, job: &Job) -> Result<(), Gone> {
        let result = if job.large {
            self.large(job.nodes.start)?
        } else {
            self.batch(&job.nodes)?
        };
        match result {
            Ok(loaded) => self.send(loaded),
            Err(error) => {
                self.send(Loaded::Failed(error))?;
                // The writer reads no further.
                Err(Gone)
            }
        }
    }

    fn send(&self, loaded: Loaded) -> Result<(), Gone> {
        self.to_writer.send(loaded).map_err(|_| Gone)
    }

    /// A buffer of [`CHUNK`] bytes, which hold anything.
    fn buffer(&mut self) -> Result<Vec<u8>, Gone> {
        if self.made < BUFFERS {
            self.made += 1;
            return Ok(vec![0; CHUNK]);
        }
        // The writer gives every buffer back, even when it fails.
        self.buffers.recv().map_err(|_| Gone)
    }

    fn piece(&self, buffer: Vec<u8>, length: usize) -> Piece {
        Piece {
            buffer,
            length,
            home: self.home.clone(),
        }
    }

    fn batch(&mut self, nodes: &Range<usize>) -> Result<Result<Loaded, Error>, Gone> {
        let mut buffer = self.buffer()?;
        let (mut used, mut tails, mut digests) = (0, Vec::new(), Vec::new());
        for node in &self.nodes[nodes.clone()] {
            if !matches!(node.item.kind, ItemKind::File(_)) {
                continue;
            }
            let length = match self.whole(node, &mut buffer[used..]) {
                Ok(length) => length,
                Err(error) => return Ok(Err(error)),
            };
            let bytes = &mut buffer[used..];
            digests.push(blake3::hash(&bytes[..length]));
            let in_blocks = length - node.tail();
            tails.extend_from_slice(&bytes[in_blocks..length]);
            let padded = in_blocks.next_multiple_of(BLOCK);
            bytes[in_blocks..padded].fill(0);
            used += padded;
        }
        Ok(Ok(Loaded::Batch(Batch {
            nodes: nodes.clone(),
            blocks: self.piece(buffer, used),
            tails,
            digests,
        })))
    }

    /// Reads a file whose size is known into a buffer that is larger.
    fn whole(&self, node: &Node<'_>, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut reader = open(self.content, node)?;
        // One byte more than planned shows that a file has grown.
        let wanted = node.size as usize + 1;
        let length = fill(&mut reader, &mut buffer[..wanted]).map_err(|error| read_error(node, error))?;
        if length as u64 != node.size {
            return Err(Error::Changed(shown(node.item.path)));
        }
        Ok(length)
    }

    fn large(&mut self, index: usize) -> Result<Result<Loaded, Error>, Gone> {
        let node = &self.nodes[index];
        let mut first = None;
        if node.maybe_shared {
            match self.pieces(node, None)? {
                Ok(digest) => first = Some(digest),
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Some(digest) = first {
            self.send(Loaded::Digest(digest))?;
        }
        let channel = self.to_writer.clone();
        Ok(match self.pieces(node, Some(&channel))? {
            Ok(digest) if first.is_some_and(|first| first != digest) => {
                Err(Error::Changed(shown(node.item.path)))
            }
            result => result.map(Loaded::End),
        })
    }

    /// Reads a file in pieces, and sends them if that is wanted; its digest.
    fn pieces(
        &mut self,
        node: &Node<'_>,
        to_writer: Option<&Sender<Loaded>>,
    ) -> Result<Result<blake3::Hash, Error>, Gone> {
        let mut reader = match open(self.content, node) {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        let mut hasher = blake3::Hasher::new();
        let mut left = node.size;
        loop {
            let mut buffer = self.buffer()?;
            let length = match fill(&mut reader, &mut buffer) {
                Ok(length) => length,
                Err(error) => return Ok(Err(read_error(node, error))),
            };
            hasher.update(&buffer[..length]);
            let piece = self.piece(buffer, length);
            match left.checked_sub(length as u64) {
                Some(rest) if length > 0 || rest == 0 => left = rest,
                _ => return Ok(Err(Error::Changed(shown(node.item.path)))),
            }
            if length == 0 {
                return Ok(Ok(hasher.finalize()));
            }
            if let Some(to_writer) = to_writer {
                to_writer.send(Loaded::Piece(piece)).map_err(|_| Gone)?;
            }
        }
    }
}

/// Reads until the buffer is full, or the end is reached.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn open<C: Content>(content: &C, node: &Node<'_>) -> Result<C::Reader, Error> {
    let source = node.source.unwrap_or_default() as usize;
    content.open(source).map_err(|error| read_error(node, error))
}

pub(super) fn read_error(node: &Node<'_>, source: io::Error) -> Error {
    Error::Read {
        path: shown(node.item.path),
        source,
    }
}
