//! What an image holds: a plain value, from paths to what lies there.
//!
//! Each path has an origin, so that two things which bring the same path are both named. Where the content of files
//! comes from is said, not read: reading is [`crate::image`]'s.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// The path of something in this folder, by its name.
    ///
    /// # Errors
    /// A name that nothing in an image can have.
    pub fn child(&self, name: &[u8]) -> Result<Self, PathError> {
        let path = [&self.0, &b"/"[..], name].concat();
        match is_name(name) {
            true => Ok(Self(path.into())),
            false => Err(PathError(String::from_utf8_lossy(&path).into_owned())),
        }
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
    pub origin: Origin,
}

/// Who brings something, in words. There is a node for each path: what many share is one pointer, not a fat one.
pub type Origin = Arc<String>;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Where its content is read from.
        source: Source,
        /// Its size when the tree was made.
        size: u64,
        /// What else tells whether it changed since.
        stat: Stat,
    },
    /// A symbolic link, with its target.
    Symlink(Box<[u8]>),
}

/// Where a file's content is read from: a path that many files share, and below it the end of the file's own path in
/// the image. So a tree of many files keeps each path once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    base: Arc<PathBuf>,
    /// Where in the file's path the part begins that lies below `base`; if behind its end, `base` is the file.
    from: u32,
}

impl Source {
    /// What lies below `base`, and will lie below `destination`: `None` is the image's root.
    pub(crate) fn below(base: &Path, destination: Option<&ImagePath>) -> Self {
        Self {
            base: Arc::new(base.to_owned()),
            // With the slash behind it. A path of so many bytes that they have no number leads nowhere on any host.
            from: destination.map_or(0, |path| (path.0.len() + 1) as u32),
        }
    }

    /// One file.
    pub(crate) fn file(path: &Path) -> Self {
        Self {
            base: Arc::new(path.to_owned()),
            from: u32::MAX,
        }
    }

    /// The part of a path in the image that lies below the base.
    pub(crate) fn inner<'a>(&self, path: &'a ImagePath) -> &'a Path {
        let inner = path.as_bytes().get(self.from as usize..).unwrap_or_default();
        Path::new(OsStr::from_bytes(inner))
    }

    /// The host's path of what lies at a path in the image.
    #[must_use]
    pub fn path(&self, path: &ImagePath) -> PathBuf {
        let inner = self.inner(path);
        match inner.as_os_str().is_empty() {
            true => self.base.as_ref().clone(),
            false => self.base.join(inner),
        }
    }
}

/// What the host says of a file, and changes when anybody writes into it. Times are nanoseconds since 1970; those before
/// 1677 and after 2262 are the nearest that can be said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub inode: u64,
    /// When its content changed last.
    pub mtime: i64,
    /// When anything of it changed last, its times included.
    pub ctime: i64,
}

/// A time as [`Stat`] has it.
pub(crate) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
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
    /// Where each path's node is. A map that is filled in order has half its room empty, so it holds no nodes.
    paths: BTreeMap<ImagePath, u32>,
    nodes: Vec<Node>,
    /// A folder that is there: the one that the last node was put into, which most often is the next one's, too.
    folder: Vec<u8>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Tree {}

impl Tree {
    /// Adds a node, and the folders that it lies in where they are missing.
    ///
    /// # Errors
    /// Something else is there. Two directories at one path are no collision.
    pub fn add(&mut self, path: ImagePath, node: Node) -> Result<(), Collision> {
        self.put(path, node, false)
    }

    /// As [`Tree::add`], and takes the place of a file or a link that is there.
    ///
    /// # Errors
    /// One of the two is a directory.
    pub fn add_over(&mut self, path: ImagePath, node: Node) -> Result<(), Collision> {
        self.put(path, node, true)
    }

    fn put(&mut self, path: ImagePath, node: Node, overrides: bool) -> Result<(), Collision> {
        if let Some(folder) = path.folder().filter(|folder| *folder != &self.folder[..]) {
            for folder in path.folders() {
                let implied = Node {
                    kind: NodeKind::Directory,
                    mode: MODE_EXECUTABLE,
                    origin: node.origin.clone(),
                };
                self.put_alone(ImagePath(folder.into()), implied, false)?;
            }
            self.folder.clear();
            self.folder.extend_from_slice(folder);
        }
        self.put_alone(path, node, overrides)
    }

    fn put_alone(&mut self, path: ImagePath, node: Node, overrides: bool) -> Result<(), Collision> {
        match self.paths.entry(path) {
            Entry::Vacant(place) => {
                // The file system numbers its inodes with 32 bits, and refuses a tree of more.
                place.insert(self.nodes.len() as u32);
                self.nodes.push(node);
                Ok(())
            }
            Entry::Occupied(there) => {
                let path = there.key();
                let there = &mut self.nodes[*there.get() as usize];
                match [&*there, &node].map(|node| node.kind == NodeKind::Directory) {
                    [true, true] => Ok(()),
                    [false, false] if overrides => {
                        *there = node;
                        Ok(())
                    }
                    _ => Err(Collision {
                        path: path.clone(),
                        first: there.origin.to_string(),
                        second: node.origin.to_string(),
                    }),
                }
            }
        }
    }

    /// All nodes in the order of their paths; each folder comes before what lies in it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ImagePath, &Node)> {
        let paths = self.paths.iter();
        paths.map(|(path, node)| (path, &self.nodes[*node as usize]))
    }

    /// What lies at a path.
    #[must_use]
    pub fn get(&self, path: &ImagePath) -> Option<&Node> {
        self.paths.get(path).map(|node| &self.nodes[*node as usize])
    }

    /// How many regular files it has.
    #[must_use]
    pub fn files(&self) -> usize {
        let is_file = |node: &&Node| matches!(node.kind, NodeKind::File { .. });
        self.nodes.iter().filter(is_file).count()
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
            source: Source::file(Path::new("source")),
            size: 0,
            stat: Stat::default(),
        };
        Node {
            kind,
            mode: MODE_FILE,
            origin: Origin::new(origin.to_owned()),
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
        for wrong in ["", ".", "..", "b/c"] {
            assert!(path("a").child(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(path("a").child(b"b").unwrap(), path("a/b"));
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

    #[test]
    fn only_a_file_or_link_gives_way_to_one_that_overrides() {
        let mut tree = Tree::default();
        tree.add(path("a/b"), file("first")).unwrap();
        tree.add_over(path("a/b"), file("second")).unwrap();
        assert_eq!(tree.get(&path("a/b")), Some(&file("second")));
        assert!(tree.add_over(path("a"), file("third")).is_err());
        assert!(tree.add_over(path("a/b/c"), file("third")).is_err());
        assert_eq!(tree.files(), 1);
    }

    #[test]
    fn a_source_is_the_base_and_what_lies_below_the_destination() {
        let below = Source::below(Path::new("/host/site"), Some(&path("srv")));
        assert_eq!(below.path(&path("srv/a/b")), Path::new("/host/site/a/b"));
        assert_eq!(below.path(&path("srv")), Path::new("/host/site"));
        let root = Source::below(Path::new("/host"), None);
        assert_eq!(root.path(&path("srv/a")), Path::new("/host/srv/a"));
        let file = Source::file(Path::new("/host/motd"));
        assert_eq!(file.path(&path("etc/motd")), Path::new("/host/motd"));
    }
}
