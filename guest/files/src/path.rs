//! Which file system a path leads to: `/tmp` and `/proc` are the kernel's, in memory; `/data` is what is
//! mounted there, if something is; all else is the image's.

use alloc::vec::Vec;

use crate::mount::MOUNTED;

/// The folders in `/` that the kernel makes at its start.
pub const IN_MEMORY: [&[u8]; 2] = [b"proc", b"tmp"];

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To `/` itself, where the file systems meet.
    Root,
    /// To a file of the image.
    Image,
    /// To the kernel's files in memory, under this path.
    Memory(Vec<u8>),
    /// To what is mounted, if something is, under this path from its root on.
    Mounted(Vec<u8>),
}

/// Finds where a path leads. One that does not start with `/` starts there, too: a guest has no other folder to be in.
#[must_use]
pub fn place(path: &[u8]) -> Place {
    let names = names(path);
    match names.first() {
        None => Place::Root,
        Some(first) if IN_MEMORY.contains(first) => Place::Memory(joined(&names)),
        Some(&MOUNTED) => Place::Mounted(joined(&names[1..])),
        Some(_) => Place::Image,
    }
}

fn joined(names: &[&[u8]]) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// A path's names from the root on, `.` and `..` resolved; `..` of the root is the root.
fn names(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_decides() {
        for root in ["/", "", ".", "//", "/a/..", "/../.."] {
            assert_eq!(place(root.as_bytes()), Place::Root, "{root}");
        }
        for image in ["/srv/index.html", "srv", "/tmp/../srv", "/tmpx", "/srv/tmp"] {
            assert_eq!(place(image.as_bytes()), Place::Image, "{image}");
        }
        for (path, names) in [
            ("/tmp", "/tmp"),
            ("tmp/a", "/tmp/a"),
            ("/srv/../tmp//a/./b/../c", "/tmp/a/c"),
            ("/proc/version", "/proc/version"),
        ] {
            assert_eq!(place(path.as_bytes()), Place::Memory(names.into()), "{path}");
        }
        for (path, names) in [("/data", ""), ("data/", ""), ("/data/../data/a/./b", "/a/b")] {
            assert_eq!(place(path.as_bytes()), Place::Mounted(names.into()), "{path}");
        }
    }
}
