//! What lies on the host: a look at one path, or at everything in a folder.
//!
//! A folder is opened once, and what lies in it is looked at relative to it: on the way through a large tree, most time
//! goes into paths. It follows no symbolic link and chooses nothing.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, readlinkat, statat};

use crate::tree::{Stat, nanoseconds};

/// Bytes that hold the names of a folder, some at a time; one entry has 280 at most.
const NAMES: usize = 16 << 10;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Directory,
    File {
        size: u64,
        stat: Stat,
        /// Whether its owner may run it.
        executable: bool,
    },
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A device, a pipe or a socket.
    Special,
}

/// Looks at a path.
pub(crate) fn look(path: &Path) -> io::Result<Found> {
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(found(&stat, || readlinkat(CWD, path, Vec::new()))?)
}

/// Looks at everything in a folder; in the order of names.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<(Box<[u8]>, Found)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, folder, flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(NAMES);
    let mut names = RawDir::new(&fd, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away since the folder was read.
            Err(rustix::io::Errno::NOENT) => continue,
            stat => stat?,
        };
        let found = found(&stat, || readlinkat(&fd, name, Vec::new()))?;
        entries.push((name.to_bytes().into(), found));
    }
    entries.sort_unstable_by(|(a, _): &(Box<[u8]>, _), (b, _)| a.cmp(b));
    Ok(entries)
}

fn found(
    stat: &rustix::fs::Stat,
    target: impl FnOnce() -> rustix::io::Result<std::ffi::CString>,
) -> rustix::io::Result<Found> {
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory,
        FileType::Symlink => Found::Symlink(target()?.into_bytes().into()),
        FileType::RegularFile => Found::File {
            // The kernel gives no negative size.
            size: stat.st_size as u64,
            stat: Stat {
                inode: stat.st_ino,
                mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
                ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
            },
            executable: stat.st_mode & 0o100 != 0,
        },
        _ => Found::Special,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_is_listed_by_names_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // More than one buffer of names.
        let names: Vec<_> = (0..200).map(|n| format!("{n:0200}")).collect();
        for name in names.iter().rev() {
            fs::write(path(name), name).unwrap();
        }
        symlink("nowhere", path("z")).unwrap();
        fs::create_dir(path("zz")).unwrap();
        let listed = list(folder.path()).unwrap();
        let expected = names.iter().map(String::as_bytes).chain([&b"z"[..], b"zz"]);
        assert!(listed.iter().map(|(name, _)| &name[..]).eq(expected));
        for (name, found) in &listed[..200] {
            let path = path(std::str::from_utf8(name).unwrap());
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(look(&path).unwrap(), *found);
            let Found::File {
                size,
                stat,
                executable,
            } = found
            else {
                panic!("{found:?}");
            };
            let times = (stat.mtime, stat.ctime);
            let expected = (
                metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
                metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
            );
            assert_eq!((*size, stat.inode, times), (200, metadata.ino(), expected));
            assert!(!executable);
        }
        assert_eq!(listed[200].1, Found::Symlink((*b"nowhere").into()));
        assert_eq!(listed[201].1, Found::Directory);
        assert!(list(&path("z")).is_err() && look(&path("no-such")).is_err());
    }
}
