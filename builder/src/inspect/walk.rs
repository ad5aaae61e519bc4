//! Goes through the files of an image, whatever its bytes are: what cannot be read is an item of its own, and the
//! walk goes on behind it.

use std::collections::BTreeSet;
use std::io;

use hermitage_erofs::format::{Damage, Kind};
use hermitage_erofs::reader::{Error, FileSystem, Inode, ReadAt};

/// Most levels of folders that are gone into: what was made from real folders has fewer, as their paths have at most
/// 4096 bytes, and copying holds a descriptor for each level, of which a process commonly has 1024.
const MAX_DEPTH: usize = 512;

/// Something in an image.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path, from the image's root, starting with `/`.
    pub path: Vec<u8>,
    /// How far below the walk's start it lies.
    pub depth: usize,
    /// Whether it is the last one in its folder.
    pub last: bool,
    /// What it is.
    pub inode: Inode,
}

impl Found {
    /// The last part of its path; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Something in an image that cannot be read.
#[derive(Debug)]
pub struct Broken {
    /// Its path; for a damaged directory, that of the directory.
    pub path: Vec<u8>,
    /// Why.
    pub error: Error<io::Error>,
}

/// What is still to go.
struct Pending {
    path: Vec<u8>,
    depth: usize,
    last: bool,
    inode: Result<Inode, Error<io::Error>>,
}

/// Each folder, then what lies in it, in the order of names.
pub struct Walk<'a, D> {
    files: &'a FileSystem<D>,
    /// Next one last.
    left: Vec<Pending>,
    /// The directories that were gone into: a damaged one may lie within itself.
    seen: BTreeSet<u64>,
}

impl<'a, D: ReadAt<Error = io::Error>> Walk<'a, D> {
    pub(super) fn new(files: &'a FileSystem<D>, start: Inode, path: &[u8]) -> Self {
        let names: Vec<_> = path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .collect();
        let start = Pending {
            path: [b"/", names.join(&b'/').as_slice()].concat(),
            depth: 0,
            last: true,
            inode: Ok(start),
        };
        Self {
            files,
            left: vec![start],
            seen: BTreeSet::new(),
        }
    }

    /// Puts what lies in a directory on the stack.
    fn enter(&mut self, found: &Found) -> Result<(), Error<io::Error>> {
        if found.depth >= MAX_DEPTH || !self.seen.insert(found.inode.nid()) {
            return Err(Damage::DirectoryLoop.into());
        }
        let folder = if found.path == b"/" {
            &[]
        } else {
            found.path.as_slice()
        };
        let mut children = Vec::new();
        let mut previous = Vec::new();
        for entry in self.files.read_dir(&found.inode)? {
            let mut child = Pending {
                path: found.path.clone(),
                depth: found.depth + 1,
                last: false,
                inode: Err(Damage::Directory.into()),
            };
            match entry {
                // Names are looked up by halving: out of order, some would not be found. Two equal ones are an attack.
                Ok(entry) if entry.name > previous => {
                    child.path = [folder, b"/", &entry.name].concat();
                    child.inode = self.files.inode(entry.nid).and_then(|inode| {
                        if inode.kind() == entry.kind {
                            Ok(inode)
                        } else {
                            Err(Damage::Directory.into())
                        }
                    });
                    previous = entry.name;
                }
                Ok(_) => {}
                Err(error) => child.inode = Err(error),
            }
            children.push(child);
        }
        if let Some(last) = children.last_mut() {
            last.last = true;
        }
        self.left.extend(children.into_iter().rev());
        Ok(())
    }
}

impl<D: ReadAt<Error = io::Error>> Iterator for Walk<'_, D> {
    type Item = Result<Found, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let Pending {
            path,
            depth,
            last,
            inode,
        } = self.left.pop()?;
        let inode = match inode {
            Ok(inode) => inode,
            Err(error) => return Some(Err(Broken { path, error })),
        };
        let found = Found {
            path,
            depth,
            last,
            inode,
        };
        let entered = match found.inode.kind() {
            Kind::Directory => self.enter(&found),
            _ => Ok(()),
        };
        Some(match entered {
            Ok(()) => Ok(found),
            Err(error) => Err(Broken {
                path: found.path,
                error,
            }),
        })
    }
}
