//! What an image holds: a plain value, from paths to what lies there.
//!
//! Each path has an origin, so that two things which bring the same path are both named. Where the content of files
//! comes from is said, not read: reading is [`crate::image`]'s.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Modification time of everything in an image, seconds since 1970: a fixed one, since equal inputs give equal
/// images on any day.
pub const MTIME: i64 = 0;

/// Permissions of directories, and of files that can be run.
pub const MODE_EXECUTABLE: u16 = 0o755;

/// Permissions of other files.
pub const MODE_FILE: u16 = 0o644;

/// Most bytes of a name in an image (EROFS).
const MAX_NAME: usize = 255;

/// An absolute path in an image, without `.`, `..` and empty names. The root itself is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Vec<Vec<u8>>);

impl ImagePath {
    /// Checks a path; a `/` before it may be missing, one behind it is ignored.
    ///
    /// # Errors
    /// A path that cannot be in an image.
    pub fn new(path: &[u8]) -> Result<Self, PathError> {
        let names: Vec<_> = path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .collect();
        let wrong =
            |name: &&[u8]| name.contains(&0) || name.len() > MAX_NAME || matches!(*name, b"." | b"..");
        if names.is_empty() || names.iter().any(wrong) {
            return Err(PathError(String::from_utf8_lossy(path).into_owned()));
        }
        Ok(Self(names.into_iter().map(<[u8]>::to_vec).collect()))
    }

    /// The path of something in this folder, whose path from there is given.
    ///
    /// # Errors
    /// A path that cannot be in an image.
    pub fn join(&self, path: &Path) -> Result<Self, PathError> {
        let mut bytes = self.0.join(&b'/');
        bytes.push(b'/');
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        Self::new(&bytes)
    }

    /// Its bytes, without a `/` before them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }

    /// The folders that it lies in, the outermost first.
    fn folders(&self) -> impl Iterator<Item = Self> + '_ {
        (1..self.0.len()).map(|depth| Self(self.0[..depth].to_vec()))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|name| write!(f, "/{}", String::from_utf8_lossy(name)))
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stat {
    /// Its number.
    pub inode: u64,
    /// When its content changed last: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// When anything of it changed last, its times included.
    pub ctime: (i64, i64),
}

impl Stat {
    /// Takes it from what the host says.
    #[must_use]
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<ImagePath, Node>,
}

impl Tree {
    /// Adds a node, and the folders that it lies in where they are missing.
    ///
    /// # Errors
    /// Something else is there. Two directories at one path are no collision.
    pub fn add(&mut self, path: ImagePath, node: Node) -> Result<(), Collision> {
        for folder in path.folders() {
            let implied = Node {
                kind: NodeKind::Directory,
                mode: MODE_EXECUTABLE,
                origin: node.origin.clone(),
            };
            self.put(folder, implied)?;
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
        match self.nodes.get(&path) {
            None => {
                self.nodes.insert(path, node);
                Ok(())
            }
            Some(there) if there.kind == NodeKind::Directory && node.kind == NodeKind::Directory => Ok(()),
            Some(there) => Err(Collision {
                path,
                first: there.origin.clone(),
                second: node.origin,
            }),
        }
    }

    /// All nodes in the order of their paths; each folder comes before what lies in it.
    pub fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Node)> {
        self.nodes.iter()
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
