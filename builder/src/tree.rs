//! What an image holds: a plain value, from paths to what lies there.
//!
//! Each path has an origin, so that two things which bring the same path are both named. Where the content of files
//! comes from is said, not read: reading is [`crate::image`]'s.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hermitage_erofs::writer::compare_paths;

/// Modification time of everything in an image, seconds since 1970: a fixed one, since equal inputs give equal
/// images on any day.
pub const MTIME: i64 = 0;

/// Permissions of directories, and of files that can be run.
pub const MODE_EXECUTABLE: u16 = 0o755;

/// Permissions of other files.
pub const MODE_FILE: u16 = 0o644;

/// Most bytes of a name in an image (EROFS).
const MAX_NAME: usize = 255;

/// An absolute path in an image, without `.`, `..` and empty names. The root itself is none. The order is that of
/// names: what lies in `/a` comes right behind it, before `/a.b`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImagePath(Box<[u8]>);

impl ImagePath {
    /// Checks a path; a `/` before it may be missing, one behind it is ignored.
    ///
    /// # Errors
    /// A path that cannot be in an image.
    pub fn new(path: &[u8]) -> Result<Self, PathError> {
        if path.split(is_slash).all(is_name) {
            return Ok(Self(path.into()));
        }
        let names: Vec<_> = path.split(is_slash).filter(|name| !name.is_empty()).collect();
        if names.is_empty() || !names.iter().all(|name| is_name(name)) {
            return Err(PathError(String::from_utf8_lossy(path).into_owned()));
        }
        Ok(Self(names.join(&b'/').into()))
    }

    /// The path of something in this folder, whose path from there is given.
    ///
    /// # Errors
    /// A path that cannot be in an image.
    pub fn join(&self, path: &Path) -> Result<Self, PathError> {
        Self::new(&[&self.0, &b"/"[..], path.as_os_str().as_bytes()].concat())
    }

    /// Its bytes, without a `/` before them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The folders that it lies in, the outermost first.
    fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| is_slash(byte));
        slashes.map(|(at, _)| &self.0[..at])
    }

    /// The folder that it lies in, if that is not the root.
    fn folder(&self) -> Option<&[u8]> {
        self.0.iter().rposition(is_slash).map(|at| &self.0[..at])
    }
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// Whether something in an image can have this name.
fn is_name(name: &[u8]) -> bool {
    let wrong = |byte: &u8| matches!(byte, 0 | b'/');
    !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME && !name.iter().any(wrong)
}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_paths(&self.0, &other.0)
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

/// A path that cannot be in an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a path in an image: it is empty, leaves the image, or has a name over 255 bytes")]
pub struct PathError(String);

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits.
    pub mode: u16,
    /// Who brings it, for messages: a service, an entry of a manifest.
    pub origin: String,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Where its content is read from.
        source: PathBuf,
        /// Its size when the tree was made.
        size: u64,
        /// What else tells whether it changed since.
        stat: Stat,
    },
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
}

/// What the host says of a file, and changes when anybody writes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub inode: u64,
    /// When its content changed last: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// When anything of it changed last, its times included.
    pub ctime: (i64, u32),
}

impl Stat {
    /// Takes it from what the host says.
    #[must_use]
    pub fn new(metadata: &Metadata) -> Self {
        // Nanoseconds are less than a thousand million.
        Self {
            inode: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            ctime: (metadata.ctime(), metadata.ctime_nsec() as u32),
        }
    }
}

/// Two things that bring the same path, or one that needs a folder where the other brings a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is brought by both {first} and {second}")]
pub struct Collision {
    /// The path.
    pub path: ImagePath,
    /// Who brought it first.
    pub first: String,
    /// Who brings it too.
    pub second: String,
}

/// What an image holds.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<ImagePath, Node>,
    /// A folder that is there: the one that the last node was put into, which most often is the next one's, too.
    folder: Vec<u8>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

impl Eq for Tree {}

impl Tree {
    /// Adds a node, and the folders that it lies in where they are missing.
    ///
    /// # Errors
    /// Something else is there. Two directories at one path are no collision.
    pub fn add(&mut self, path: ImagePath, node: Node) -> Result<(), Collision> {
        if let Some(folder) = path.folder().filter(|folder| *folder != &self.folder[..]) {
            for folder in path.folders() {
                let implied = Node {
                    kind: NodeKind::Directory,
                    mode: MODE_EXECUTABLE,
                    origin: node.origin.clone(),
                };
                self.put(ImagePath(folder.into()), implied)?;
            }
            self.folder.clear();
            self.folder.extend_from_slice(folder);
        }
        self.put(path, node)
    }

    /// As [`Tree::add`], and takes the place of a file or a link that is there.
    ///
    /// # Errors
    /// One of the two is a directory.
    pub fn add_over(&mut self, path: ImagePath, node: Node) -> Result<(), Collision> {
        let is_directory = |node: &Node| node.kind == NodeKind::Directory;
        if !is_directory(&node) && self.nodes.get(&path).is_some_and(|there| !is_directory(there)) {
            self.nodes.remove(&path);
        }
        self.add(path, node)
    }

    fn put(&mut self, path: ImagePath, node: Node) -> Result<(), Collision> {
        match self.nodes.entry(path) {
            Entry::Vacant(place) => {
                place.insert(node);
                Ok(())
            }
            Entry::Occupied(there) => {
                let (path, first) = (there.key(), there.get());
                if first.kind == NodeKind::Directory && node.kind == NodeKind::Directory {
                    return Ok(());
                }
                Err(Collision {
                    path: path.clone(),
                    first: first.origin.clone(),
                    second: node.origin,
                })
            }
        }
    }

    /// All nodes in the order of their paths; each folder comes before what lies in it.
    pub fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Node)> {
        self.nodes.iter()
    }

    /// What lies at a path.
    #[must_use]
    pub fn get(&self, path: &ImagePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// How many regular files it has.
    #[must_use]
    pub fn files(&self) -> usize {
        self.nodes
            .values()
            .filter(|node| matches!(node.kind, NodeKind::File { .. }))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::new(text.as_bytes()).unwrap()
    }

    fn file(origin: &str) -> Node {
        let kind = NodeKind::File {
            source: "source".into(),
            size: 0,
            stat: Stat::default(),
        };
        Node {
            kind,
            mode: MODE_FILE,
            origin: origin.to_owned(),
        }
    }

    #[test]
    fn a_collision_names_both_parties() {
        let mut tree = Tree::default();
        tree.add(path("/bin/kv"), file("service `kv`")).unwrap();
        tree.add(path("bin/db"), file("service `db`")).unwrap();
        let error = tree.add(path("/bin/kv/"), file("`files` entry 1")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/bin/kv` is brought by both service `kv` and `files` entry 1"
        );
        let error = tree.add(path("/bin/kv/x"), file("`files` entry 2")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/bin/kv` is brought by both service `kv` and `files` entry 2"
        );
        let error = tree.add(path("/bin"), file("`files` entry 3")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/bin` is brought by both service `kv` and `files` entry 3"
        );
        assert_eq!(tree.files(), 2);
    }

    #[test]
    fn paths_that_leave_the_image_are_refused() {
        for wrong in ["", "/", "//", "..", "/a/../b", "a/./b", "a\0b", &"n".repeat(256)] {
            assert!(ImagePath::new(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(path("a//b/").to_string(), "/a/b");
        assert!(path("a").join(Path::new("../b")).is_err());
    }

    #[test]
    fn folders_come_before_what_lies_in_them() {
        let mut tree = Tree::default();
        for name in ["a.b", "a/b/c", "a"] {
            // `a` is a folder by then.
            let _ = tree.add(path(name), file(name));
        }
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c", "/a.b"]);
    }
}
