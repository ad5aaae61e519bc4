//! Writes the archive of a tree. Equal trees give equal bytes: entries are in the order of their paths, owner, group and
//! time are 0, and no name of the host gets in.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use flate2::GzBuilder;
use tar::{Builder, EntryType, Header};

use super::error::{ArchiveError, Fault};
use super::read::is_meta;
use super::{MANIFEST, RUN};
use crate::tree::{MODE_EXECUTABLE, MODE_FILE, NodeKind, Tree};

/// What is around the tar file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    #[default]
    Gzip,
    /// Nothing.
    Plain,
}

/// Writes the archive of a package: its tree, the text of its manifest, that of its `run.yaml`.
///
/// # Errors
/// A source cannot be read, or changes meanwhile; something lies where the manifest belongs; the output fails.
pub fn write(
    output: impl Write,
    compression: Compression,
    tree: &Tree,
    manifest: &str,
    run: Option<&str>,
) -> Result<(), ArchiveError> {
    match compression {
        Compression::Plain => {
            entries(output, tree, manifest, run)?;
        }
        Compression::Gzip => {
            // 255 is "unknown": the system that it is made on does not matter.
            let output = GzBuilder::new()
                .mtime(0)
                .operating_system(255)
                .write(output, flate2::Compression::default());
            entries(output, tree, manifest, run)?
                .finish()
                .map_err(ArchiveError::Write)?;
        }
    }
    Ok(())
}

fn entries<W: Write>(output: W, tree: &Tree, manifest: &str, run: Option<&str>) -> Result<W, ArchiveError> {
    let mut archive = Builder::new(output);
    let texts = [(MANIFEST, Some(manifest)), (RUN, run)];
    for (path, text) in texts.into_iter().filter_map(|(path, text)| Some((path, text?))) {
        let mut header = header(EntryType::Regular, MODE_FILE, text.len() as u64);
        archive
            .append_data(&mut header, host(path), text.as_bytes())
            .map_err(ArchiveError::Write)?;
    }
    for (place, node) in tree.iter() {
        let bytes = place.as_bytes();
        if is_meta(bytes) {
            return Err(ArchiveError::Entry {
                path: bytes.to_owned(),
                fault: Fault::Meta,
            });
        }
        let path = host(bytes);
        match &node.kind {
            NodeKind::Directory => {
                let mut header = header(EntryType::Directory, MODE_EXECUTABLE, 0);
                archive
                    .append_data(&mut header, path, io::empty())
                    .map_err(ArchiveError::Write)?;
            }
            NodeKind::Symlink(target) => {
                let mut header = header(EntryType::Symlink, node.mode, 0);
                // As it is, where it fits into the header: `append_link` would leave out a `./`.
                match header.set_link_name_literal(target) {
                    Ok(()) => archive.append_data(&mut header, path, io::empty()),
                    Err(_) => archive.append_link(&mut header, path, host(target)),
                }
                .map_err(ArchiveError::Write)?;
            }
            NodeKind::File { source, size, .. } => {
                let source = source.path(place);
                let unreadable = |error| ArchiveError::Source {
                    path: source.display().to_string(),
                    source: error,
                };
                let mut file = Exactly {
                    file: File::open(&source).map_err(unreadable)?,
                    left: *size,
                    has_failed: false,
                };
                let mut header = header(EntryType::Regular, node.mode, *size);
                let appended = archive.append_data(&mut header, path, &mut file);
                appended.map_err(|error| match file.has_failed {
                    true => unreadable(error),
                    false => ArchiveError::Write(error),
                })?;
                file.is_over().map_err(unreadable)?;
            }
        }
    }
    archive.into_inner().map_err(ArchiveError::Write)
}

fn header(kind: EntryType, mode: u16, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(u32::from(mode));
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn host(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// A file, as long as it has the size that it is said to have.
struct Exactly {
    file: File,
    left: u64,
    /// Whether reading it failed; whatever else fails is the output's fault.
    has_failed: bool,
}

impl Exactly {
    fn changed() -> io::Error {
        io::Error::other("it changed while it was read")
    }

    fn is_over(&mut self) -> io::Result<()> {
        match self.left == 0 && self.file.read(&mut [0])? == 0 {
            true => Ok(()),
            false => Err(Self::changed()),
        }
    }
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let result = match self.file.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => Err(Self::changed()),
            result => result,
        };
        match result {
            Ok(length) => self.left -= length as u64,
            Err(_) => self.has_failed = true,
        }
        result
    }
}
