//! Copies files out of an image.
//!
//! **Invariant**: whatever the image holds, nothing is written outside of the destination, and nothing that exists is
//! replaced. Each name is made relative to the descriptor of the folder that it lies in, never through a symbolic
//! link: neither one of the image nor one that lay in the destination before is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use hermitage_erofs::format::{Damage, Kind};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Files, Found, InspectError, Opened, Stop, host, read_all};

/// The bits of a mode that are kept. Set-user-id and the like are not: an image from elsewhere must not bring them.
const KEPT_MODE: u16 = 0o777;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Regular files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// A folder of the destination whose content is being made.
struct Folder {
    fd: Rc<OwnedFd>,
    /// The mode that it gets when it is complete, as it may forbid writing; `None` if it was there before.
    mode: Option<Mode>,
}

impl Folder {
    fn finish(self) -> io::Result<()> {
        match self.mode {
            Some(mode) => Ok(rustix::fs::fchmod(&self.fd, mode)?),
            None => Ok(()),
        }
    }
}

/// Copies a file, a symbolic link (as a link), or a folder with all that lies in it. As with `cp`: into `destination`
/// if that is a folder, otherwise under that name. The root has no name, so its content is what is copied.
///
/// # Errors
/// Something cannot be read or written, or lies in the way. What was copied until then stays.
pub fn copy(image: &Opened, path: &[u8], destination: &Path) -> Result<Copied, InspectError> {
    let files = image.files()?;
    let name = path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
    let name = name.filter(|name| !matches!(*name, b"." | b".."));
    let (parent, name) = match (name, destination.file_name()) {
        (Some(name), _) if destination.is_dir() => (destination, OsStr::from_bytes(name)),
        (None, _) if destination.is_dir() => (destination, OsStr::new(".")),
        (_, Some(name)) => (parent(destination), name),
        (_, None) => (destination, OsStr::new(".")),
    };
    let fd: OwnedFd = File::open(parent).map_err(host("open", parent))?.into();
    let mut copy = Copy {
        files: &files,
        open: vec![Folder {
            fd: Rc::new(fd),
            mode: None,
        }],
        copied: Copied::default(),
    };
    let mut prefix = None;
    for found in image.walk(&files, path)? {
        let found = found.map_err(|broken| image.unreadable(&broken.path)(broken.error))?;
        let prefix: &Vec<u8> = prefix.get_or_insert_with(|| found.path.clone());
        let below = OsStr::from_bytes(&found.path[prefix.len().min(found.path.len())..]);
        let below = below.to_string_lossy();
        let mut target = parent.join(name);
        target.extend(below.split('/').filter(|name| !name.is_empty()));
        let name = if found.depth == 0 {
            name
        } else {
            OsStr::from_bytes(found.name())
        };
        copy.add(&found, name).map_err(|stop| match stop {
            Stop::Read(source) => image.unreadable(&found.path)(source),
            Stop::Sink(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                InspectError::InTheWay(target)
            }
            Stop::Sink(error) => host("create", &target)(error),
        })?;
    }
    copy.leave(0).map_err(host("create", destination))?;
    Ok(copy.copied)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

struct Copy<'a, 'b> {
    files: &'a Files<'b>,
    /// The folders from the destination to the current one.
    open: Vec<Folder>,
    copied: Copied,
}

impl Copy<'_, '_> {
    /// Completes the folders deeper than `depth`.
    fn leave(&mut self, depth: usize) -> io::Result<()> {
        while self.open.len() > depth + 1 {
            self.open.pop().map_or(Ok(()), Folder::finish)?;
        }
        Ok(())
    }

    fn add(&mut self, found: &Found, name: &OsStr) -> Result<(), Stop> {
        self.leave(found.depth).map_err(Stop::Sink)?;
        let Some(folder) = self.open.last() else {
            return Err(Stop::Read(Damage::DirectoryLoop.into()));
        };
        // The reader lets no such name through; this is the place where it would matter.
        let bytes = name.as_bytes();
        if found.depth > 0 && (matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/')) {
            return Err(Stop::Read(Damage::Name.into()));
        }
        let mode = Mode::from_raw_mode(u32::from(found.inode.permissions() & KEPT_MODE));
        let fd = Rc::clone(&folder.fd);
        match found.inode.kind() {
            Kind::Directory => {
                let folder = enter(&fd, name, mode).map_err(Stop::Sink)?;
                self.open.push(folder);
            }
            Kind::Symlink => {
                let target = self.files.read_link(&found.inode).map_err(Stop::Read)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), &fd, name)
                    .map_err(|errno| Stop::Sink(errno.into()))?;
            }
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&fd, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|errno| Stop::Sink(errno.into()))?;
                let mut file = File::from(file);
                let written = read_all(self.files, &found.inode, &mut |bytes| file.write_all(bytes));
                let written = written.and_then(|bytes| {
                    rustix::fs::fchmod(&file, mode).map_err(|errno| Stop::Sink(errno.into()))?;
                    Ok(bytes)
                });
                if written.is_err() {
                    // A part of a file must not pass for the whole; the first error is the one that counts.
                    let _ = rustix::fs::unlinkat(&fd, name, AtFlags::empty());
                }
                self.copied.bytes += written?;
                self.copied.files += 1;
            }
        }
        Ok(())
    }
}

/// Makes a folder, or opens the one that is there, if it is one and not a link to one.
fn enter(parent: &OwnedFd, name: &OsStr, mode: Mode) -> io::Result<Folder> {
    let new = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Folder {
            fd: Rc::new(fd),
            mode: new.then_some(mode),
        }),
        Err(Errno::LOOP | Errno::NOTDIR) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(errno) => Err(errno.into()),
    }
}
