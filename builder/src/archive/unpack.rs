//! A folder that takes what is in an archive.
//!
//! Every step from the folder down is made from the descriptor of the one above, and follows no link; nothing that
//! exists is replaced. Permissions are those of any file of the user's: what an archive says of them is in
//! [`Contents::modes`](super::Contents).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::read::Sink;

/// A folder, empty at first.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    file: Option<File>,
}

impl Folder {
    /// Makes the folder.
    ///
    /// # Errors
    /// It is there, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        std::fs::create_dir(path)?;
        Ok(Self {
            root: File::open(path)?.into(),
            file: None,
        })
    }

    /// The folder that something lies in, made with those above it where they are missing, and its name there.
    fn parent<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a OsStr)> {
        let mut folder = self.root.try_clone()?;
        let mut names = path.split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let last = names.next_back().unwrap_or_default();
        for name in names {
            match rustix::fs::mkdirat(&folder, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
        }
        // The reader lets no such name through; this is the place where it would matter.
        match last.as_bytes() {
            b"" | b"." | b".." => Err(io::ErrorKind::InvalidInput.into()),
            _ => Ok((folder, last)),
        }
    }
}

impl Sink for Folder {
    fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
            // Something that lay in it came before; the reader knows that it is a folder.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name)?)
    }

    fn file(&mut self, path: &[u8], mode: u16) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = match mode & 0o100 {
            0 => 0o666,
            _ => 0o777,
        };
        let file = rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(mode))?;
        self.file = Some(file.into());
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}
