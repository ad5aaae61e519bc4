//! Reads archives, whoever made them.
//!
//! The tar crate gives raw entries here; [`Names`] puts long names together. Everything that is kept is counted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::error::{ArchiveError, Fault};
use super::extensions::Names;
use super::limits::{Counted, Limited, Limits, TooMuch};
use super::{MANIFEST, RUN};
use crate::manifest::{MAX_MANIFEST, META};
use crate::tree::{MODE_EXECUTABLE, MODE_FILE};

/// Most bytes of a path: that of Linux, without its NUL.
const MAX_PATH: usize = 4095;

/// Most bytes of a name (EROFS, and every file system that it is unpacked to).
const MAX_NAME: usize = 255;

/// Bytes that are handed on at once.
const CHUNK: usize = 64 << 10;

/// Who takes what is in an archive. Each path is there once, and comes after the folders that it lies in, where the
/// archive has them; paths are relative, without `.`, `..` and empty names.
pub trait Sink {
    /// Takes a folder.
    ///
    /// # Errors
    /// It cannot be stored.
    fn folder(&mut self, path: &[u8]) -> io::Result<()>;

    /// Takes a symbolic link.
    ///
    /// # Errors
    /// It cannot be stored.
    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()>;

    /// Takes a file; its content follows.
    ///
    /// # Errors
    /// It cannot be stored.
    fn file(&mut self, path: &[u8], mode: u16) -> io::Result<()>;

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// They cannot be stored.
    fn content(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A sink that keeps nothing: for who only wants to know whether an archive can be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn folder(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn link(&mut self, _: &[u8], _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, _: &[u8], _: u16) -> io::Result<()> {
        Ok(())
    }

    fn content(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// What an archive holds besides what a sink took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The text of its manifest.
    pub manifest: Option<String>,
    /// The text of its `run.yaml`.
    pub run: Option<String>,
    /// Regular files in it.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether all its files have the permissions that composition gives files by itself.
    pub plain_modes: bool,
    /// The permissions of each file and link, by its path; of folders, those that are empty.
    pub modes: BTreeMap<Vec<u8>, u16>,
}

/// Goes through an archive.
///
/// # Errors
/// It is none, is damaged, holds what no archive may hold, or more than `limits` let it.
pub fn read(input: impl Read, sink: &mut dyn Sink, limits: &Limits) -> Result<Contents, ArchiveError> {
    let consumed = Rc::new(Cell::new(0));
    let mut input = BufReader::with_capacity(CHUNK, Counted::new(input, &consumed));
    let compressed = {
        use std::io::BufRead as _;
        let start = input.fill_buf().map_err(ArchiveError::Damaged)?;
        start.starts_with(&[0x1f, 0x8b])
    };
    let limited = |input| Limited::new(input, consumed, *limits);
    if compressed {
        let mut input: Box<dyn Read + '_> = Box::new(MultiGzDecoder::new(input));
        entries(limited(&mut *input), sink, limits)
    } else {
        entries(limited(&mut input), sink, limits)
    }
}

fn entries(input: impl Read, sink: &mut dyn Sink, limits: &Limits) -> Result<Contents, ArchiveError> {
    let mut archive = Archive::new(input);
    let mut reader = Reader {
        sink,
        limits,
        nodes: BTreeMap::new(),
        names: 0,
        absolute: Vec::new(),
        contents: Contents {
            plain_modes: true,
            ..Contents::default()
        },
    };
    let mut names = Names::default();
    for entry in archive.entries().map_err(failed)?.raw(true) {
        let mut entry = entry.map_err(failed)?;
        if !names.take(&mut entry)? {
            let (path, target) = std::mem::take(&mut names).complete(&entry);
            reader.entry(&mut entry, &path, target)?;
        }
    }
    // What follows is padding; it is read because only its end says whether all of it arrived as it was packed.
    let mut rest = archive.into_inner();
    let mut buffer = vec![0; CHUNK];
    while read_some(&mut rest, &mut buffer)? > 0 {}
    reader.finish()
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(failed),
        }
    }
}

/// Turns what the readers below say into what is wrong with the archive.
pub(super) fn failed(error: io::Error) -> ArchiveError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(&TooMuch { what, max }) => ArchiveError::Limit { what, max },
        None if error.kind() == io::ErrorKind::UnexpectedEof => ArchiveError::CutOff,
        // The tar crate's own: it quotes the header, which is any bytes at all where a file is no archive.
        None if error.kind() == io::ErrorKind::Other => {
            ArchiveError::Damaged(io::Error::other("the header of an entry is wrong"))
        }
        None => ArchiveError::Damaged(error),
    }
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// A folder that has no entry yet: something lies in it.
    Implied,
    Folder,
    File,
    Link,
}

struct Reader<'a> {
    sink: &'a mut dyn Sink,
    limits: &'a Limits,
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Bytes of the paths in `nodes` and `absolute`.
    names: usize,
    /// Links whose targets are paths from the root: path and target. They are looked up at the end.
    absolute: Vec<(Vec<u8>, Vec<u8>)>,
    contents: Contents,
}

impl Reader<'_> {
    fn entry<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        name: &[u8],
        target: Option<Vec<u8>>,
    ) -> Result<(), ArchiveError> {
        let wrong = |fault| ArchiveError::Entry {
            path: name.to_owned(),
            fault,
        };
        let path = normal(name).ok_or_else(|| wrong(Fault::Path))?;
        let kind = entry.header().entry_type();
        if path.is_empty() {
            // The root itself: `tar -C folder .` begins with it.
            return match kind {
                EntryType::Directory => Ok(()),
                _ => Err(wrong(Fault::Path)),
            };
        }
        let node = match kind {
            EntryType::Regular | EntryType::Continuous => Node::File,
            EntryType::Directory => Node::Folder,
            EntryType::Symlink => Node::Link,
            other => return Err(wrong(Fault::Kind(described(other)))),
        };
        self.place(&path, node).map_err(|error| match error {
            Refused::Fault(fault) => wrong(fault),
            Refused::Limit(what, max) => ArchiveError::Limit { what, max },
        })?;
        let meta = is_meta(&path);
        let store = |source| ArchiveError::Store {
            path: path.clone(),
            source,
        };
        match node {
            Node::Link => {
                let target = target.unwrap_or_default();
                self.check_link(&path, &target)
                    .ok_or_else(|| wrong(Fault::LinkOut(target.clone())))?;
                if !meta {
                    self.sink.link(&path, &target).map_err(store)?;
                }
            }
            Node::Folder | Node::Implied => {
                if !meta {
                    self.sink.folder(&path).map_err(store)?;
                }
            }
            Node::File if meta => self.meta(entry, &path)?,
            Node::File => {
                let mode = entry.header().mode().map_err(failed)? & 0o7777;
                // It has twelve bits.
                let mode = mode as u16;
                self.contents.plain_modes &= matches!(mode, MODE_FILE | MODE_EXECUTABLE);
                self.contents.modes.insert(path.clone(), mode);
                self.contents.files += 1;
                self.sink.file(&path, mode).map_err(store)?;
                let sink = &mut self.sink;
                self.contents.bytes += content(entry, &mut |bytes| {
                    sink.content(bytes).map_err(|source| ArchiveError::Store {
                        path: path.clone(),
                        source,
                    })
                })?;
            }
        }
        Ok(())
    }

    /// Notes what lies at a path, and that it lies in folders.
    fn place(&mut self, path: &[u8], node: Node) -> Result<(), Refused> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (end, _) in ends {
            let folder = &path[..end];
            match self.nodes.get(folder) {
                Some(Node::File) => return Err(Refused::Fault(Fault::InFile)),
                Some(Node::Link) => return Err(Refused::Fault(Fault::ThroughLink)),
                Some(Node::Folder | Node::Implied) => {}
                None => self.insert(folder, Node::Implied)?,
            }
        }
        match (self.nodes.get_mut(path), node) {
            (None, node) => self.insert(path, node),
            (Some(there @ Node::Implied), Node::Folder) => {
                *there = Node::Folder;
                Ok(())
            }
            _ => Err(Refused::Fault(Fault::Twice)),
        }
    }

    fn insert(&mut self, path: &[u8], node: Node) -> Result<(), Refused> {
        self.count(path.len())?;
        if self.nodes.len() >= self.limits.entries {
            return Err(Refused::Limit("entries", self.limits.entries as u64));
        }
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refused> {
        self.names += bytes;
        match self.names <= self.limits.names {
            true => Ok(()),
            false => Err(Refused::Limit("bytes of names", self.limits.names as u64)),
        }
    }

    /// Whether a link stays in the archive, as far as that is known now. Its own folders are no links. `..` is taken at
    /// the target's start alone, where it leads from there to where it says: behind a name that is a link, it would not.
    fn check_link(&mut self, path: &[u8], target: &[u8]) -> Option<()> {
        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
            return None;
        }
        let parts = || {
            target
                .split(|byte| *byte == b'/')
                .filter(|part| !matches!(*part, b"" | b"."))
        };
        let up = parts().take_while(|part| *part == b"..").count();
        if parts().skip(up).any(|part| part == b"..") {
            return None;
        }
        if target[0] == b'/' {
            if up > 0 {
                return None;
            }
            self.absolute
                .push((path.to_owned(), parts().collect::<Vec<_>>().join(&b'/')));
            // What exceeds the limit is told by the next entry, which counts, too.
            self.names += path.len() + target.len();
            return Some(());
        }
        let depth = path.iter().filter(|byte| **byte == b'/').count();
        (up <= depth).then_some(())
    }

    /// Keeps the manifest, and reads over everything else that is said of the package.
    fn meta<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[u8]) -> Result<(), ArchiveError> {
        let kept = match path {
            MANIFEST => &mut self.contents.manifest,
            RUN => &mut self.contents.run,
            _ => return content(entry, &mut |_| Ok(())).map(drop),
        };
        if entry.size() > MAX_MANIFEST as u64 {
            return Err(ArchiveError::Limit {
                what: "bytes of a manifest",
                max: MAX_MANIFEST as u64,
            });
        }
        let mut text = Vec::new();
        content(entry, &mut |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        *kept = Some(String::from_utf8(text).map_err(|_| ArchiveError::ManifestText)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Contents, ArchiveError> {
        for (path, target) in &self.absolute {
            let mut ends = target.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let through_link = ends.any(|(end, _)| self.nodes.get(&target[..end]) == Some(&Node::Link));
            if !target.is_empty() && !through_link && !self.nodes.contains_key(target) {
                return Err(ArchiveError::Entry {
                    path: path.clone(),
                    fault: Fault::LinkOut([b"/", target.as_slice()].concat()),
                });
            }
        }
        for (path, node) in &self.nodes {
            let kept = match node {
                Node::Link => true,
                Node::Folder => {
                    let inside = [path.as_slice(), b"/"].concat();
                    let first = self.nodes.range(inside.clone()..).next();
                    !first.is_some_and(|(first, _)| first.starts_with(&inside))
                }
                Node::File | Node::Implied => false,
            };
            if kept && !is_meta(path) {
                self.contents.modes.insert(path.clone(), 0);
            }
        }
        Ok(self.contents)
    }
}

/// Whether something is said of the package, and is no part of the image.
pub(super) fn is_meta(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').next() == Some(META.as_bytes())
}

/// Why a path is not taken.
enum Refused {
    Fault(Fault),
    Limit(&'static str, u64),
}

/// Hands an entry's content to `take`, piece by piece; how many bytes.
pub(super) fn content<R: Read>(
    entry: &mut Entry<'_, R>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<u64, ArchiveError> {
    let size = entry.size();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        match read_some(entry, &mut buffer)? {
            0 if done == size => return Ok(size),
            0 => return Err(ArchiveError::CutOff),
            length => {
                take(&buffer[..length])?;
                done += length as u64;
            }
        }
    }
}

/// A path without a `/` before it, without `.` and empty names; `None` if no file can have it.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    let names: Vec<_> = path
        .split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .collect();
    let wrong = |name: &&[u8]| *name == b".." || name.len() > MAX_NAME || name.contains(&0);
    (path.len() <= MAX_PATH && !names.iter().any(wrong)).then(|| names.join(&b'/'))
}

fn described(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown kind",
    }
}
