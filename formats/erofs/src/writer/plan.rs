//! The plan: where everything lies.

use std::collections::HashMap;

use super::directory::{self, Entry};
use super::pack::Packer;
use super::{Error, Item, ItemKind, compare_paths, shown};
use crate::format::{
    BLOCK, INODE_SIZE, Kind, Layout, MAX_INLINE_TAIL, MAX_LINK_TARGET, MAX_NAME, RawInode, SLOT,
};

/// The block whose slots hold the root inode.
pub(super) const ROOT_BLOCK: u64 = 1;

/// Most bytes of a path: more than any host can open (Linux `PATH_MAX` is 4096), and what 16 bits count.
const MAX_PATH: usize = u16::MAX as usize;

/// An item and its place.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) item: Item<'a>,
    /// The item's index in what the caller gave; `None` for a root that nobody gave.
    pub(super) source: Option<u32>,
    pub(super) parent: u32,
    /// Where its children begin in [`Nodes::children`], and how many there are.
    children: (u32, u32),
    /// Bytes of data.
    pub(super) size: u64,
    pub(super) layout: Layout,
    /// Byte offset of the inode.
    pub(super) address: u64,
    /// The first block of a directory's data that does not lie behind the inode.
    pub(super) start_block: u64,
    /// Whether another file has the same size, so that their content may be equal.
    pub(super) maybe_shared: bool,
}

impl Node<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.item.kind {
            ItemKind::File(_) => Kind::File,
            ItemKind::Directory => Kind::Directory,
            ItemKind::Symlink(_) => Kind::Symlink,
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        let path = self.item.path;
        &path[path.iter().rposition(is_slash).map_or(0, |slash| slash + 1)..]
    }

    pub(super) fn nid(&self) -> u64 {
        self.address / SLOT
    }

    /// Bytes that lie behind the inode.
    pub(super) fn tail(&self) -> usize {
        match self.layout {
            Layout::Plain => 0,
            Layout::Inline => (self.size % BLOCK as u64) as usize,
        }
    }

    /// Blocks that the rest of the data needs.
    pub(super) fn blocks(&self) -> u64 {
        (self.size - self.tail() as u64).div_ceil(BLOCK as u64)
    }
}

/// All nodes, in the order of their paths, the root first.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    pub(super) all: Vec<Node<'a>>,
    /// The children of each directory, by their names: one directory's behind another's.
    children: Vec<u32>,
}

/// Where everything lies.
#[derive(Debug)]
pub struct Plan<'a> {
    pub(super) nodes: Nodes<'a>,
    /// The first block after all metadata.
    pub(super) data_block: u64,
    /// The first block after all content, if no two files share theirs.
    end_block: u64,
}

impl<'a> Plan<'a> {
    /// Plans a file system for these items, in any order. A root with the permissions 0755 is added if there is none.
    ///
    /// # Errors
    /// Items that no file system can hold, or that cannot be together.
    pub fn new(items: impl IntoIterator<Item = Item<'a>>) -> Result<Self, Error> {
        let mut nodes = Nodes::new(items)?;
        nodes.shape();
        let mut next = ROOT_BLOCK + 1;
        let directories = nodes.all.iter_mut().filter(|node| node.kind() == Kind::Directory);
        for node in directories {
            node.start_block = next;
            next += node.blocks();
        }
        nodes.all[0].address = ROOT_BLOCK * BLOCK as u64;
        for directories in [true, false] {
            let mut packer = Packer::new(next);
            for node in nodes.all.iter_mut().skip(1) {
                if (node.kind() == Kind::Directory) == directories {
                    node.address = packer.place(INODE_SIZE + node.tail());
                }
            }
            next = packer.end();
        }
        let files = nodes.all.iter().filter(|node| node.kind() != Kind::Directory);
        let end_block = files.fold(next, |end, node| end.saturating_add(node.blocks()));
        if end_block > u64::from(u32::MAX) {
            return Err(Error::TooLarge(end_block));
        }
        Ok(Self {
            nodes,
            data_block: next,
            end_block,
        })
    }

    /// Bytes that the file system needs at most: fewer if files have equal content.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end_block * BLOCK as u64
    }

    /// How many inodes there are.
    #[must_use]
    pub fn inodes(&self) -> u64 {
        self.nodes.all.len() as u64
    }
}

impl<'a> Nodes<'a> {
    /// Puts items in order, checks each, and finds its parent and its children.
    pub(super) fn new(items: impl IntoIterator<Item = Item<'a>>) -> Result<Self, Error> {
        let items = items.into_iter();
        let mut all = Vec::with_capacity(items.size_hint().0 + 1);
        let root = Item {
            path: b"",
            kind: ItemKind::Directory,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
        };
        all.push(Node::new(root, None));
        for (index, item) in items.enumerate() {
            // Each needs a slot of 64 bytes in 2^32 blocks at most, and 32 bits count them, the root included.
            let index = u32::try_from(index).ok().filter(|index| *index < u32::MAX - 1);
            let index = index.ok_or(Error::TooLarge(u64::from(u32::MAX)))?;
            let node = Node::new(item, Some(index));
            match item.path.is_empty() && all[0].source.is_none() {
                true => all[0] = node,
                false => all.push(node),
            }
        }
        let ordered = |a: &Node<'_>, b: &Node<'_>| compare_paths(a.item.path, b.item.path);
        if !all.is_sorted_by(|a, b| ordered(a, b).is_le()) {
            all.sort_by(ordered);
        }
        let mut nodes = Self {
            all,
            children: Vec::new(),
        };
        nodes.relate()?;
        Ok(nodes)
    }

    /// Checks each node, and finds its parent and its children.
    fn relate(&mut self) -> Result<(), Error> {
        // The directories from the root to where we are.
        let mut way: Vec<u32> = Vec::new();
        for index in 0..self.all.len() {
            let item = self.all[index].item;
            check(&item)?;
            if index > 0 {
                if self.all[index - 1].item.path == item.path {
                    return Err(Error::Duplicate(shown(item.path)));
                }
                let folder = &item.path[..item.path.iter().rposition(is_slash).unwrap_or(0)];
                while way
                    .last()
                    .is_some_and(|last| self.all[*last as usize].item.path != folder)
                {
                    way.pop();
                }
                let parent = *way.last().ok_or_else(|| Error::NoParent(shown(item.path)))?;
                self.all[index].parent = parent;
                self.all[parent as usize].children.1 += 1;
            }
            if item.kind == ItemKind::Directory {
                // `new` has checked that 32 bits count the nodes.
                way.push(index as u32);
            }
        }
        let mut next = 0;
        for node in &mut self.all {
            let count = node.children.1;
            node.children = (next, 0);
            next += count;
        }
        self.children = vec![0; next as usize];
        for index in 1..self.all.len() {
            let parent = self.all[index].parent as usize;
            let (start, count) = &mut self.all[parent].children;
            self.children[(*start + *count) as usize] = index as u32;
            *count += 1;
        }
        Ok(())
    }

    /// Finds out how many bytes each node has, and how they are laid out.
    pub(super) fn shape(&mut self) {
        let mut sizes = HashMap::new();
        for node in &self.all {
            if node.kind() == Kind::File {
                *sizes.entry(node.size).or_insert(0_u32) += 1;
            }
        }
        for index in 0..self.all.len() {
            if self.all[index].kind() == Kind::Directory {
                let size = directory::size(self.names(index).iter().map(|entry| entry.0.len()));
                self.all[index].size = size;
            }
            let node = &mut self.all[index];
            node.maybe_shared = node.kind() == Kind::File && sizes.get(&node.size).is_some_and(|n| *n > 1);
            let tail = (node.size % BLOCK as u64) as usize;
            // The root's slot has no room for a tail.
            let inline = index != 0 && (1..=MAX_INLINE_TAIL).contains(&tail);
            node.layout = if inline { Layout::Inline } else { Layout::Plain };
        }
    }

    /// What lies in a directory, by the bytes of its names.
    fn children(&self, directory: usize) -> &[u32] {
        let (start, count) = self.all[directory].children;
        &self.children[start as usize..(start + count) as usize]
    }

    /// The bytes of a directory.
    pub(super) fn directory(&self, index: usize) -> Vec<u8> {
        let names = self.names(index);
        let entries: Vec<_> = names
            .iter()
            .map(|(name, node)| Entry {
                name,
                nid: self.all[*node as usize].nid(),
                kind: self.all[*node as usize].kind(),
            })
            .collect();
        directory::encode(&entries)
    }

    /// The inode of a node whose data starts at a block.
    pub(super) fn inode(&self, index: usize, start_block: u64) -> RawInode {
        let node = &self.all[index];
        let links = match node.kind() {
            Kind::Directory => {
                let is_folder = |child: &&u32| self.all[**child as usize].kind() == Kind::Directory;
                2 + self.children(index).iter().filter(is_folder).count() as u32
            }
            _ => 1,
        };
        RawInode {
            layout: node.layout,
            xattr_size: 0,
            mode: node.kind().mode_bits() | (node.item.permissions & 0o7777),
            size: node.size,
            // The plan has checked that 32 bits are enough.
            start_block: if node.blocks() == 0 { 0 } else { start_block as u32 },
            // Unique whatever an update does, since it is the inode's place.
            ino: node.nid() as u32,
            uid: node.item.uid,
            gid: node.item.gid,
            mtime: node.item.mtime,
            mtime_nsec: node.item.mtime_nsec,
            links,
        }
    }

    /// A directory's names, `.` and `..` included, in the order of their bytes, and whose they are.
    fn names(&self, directory: usize) -> Vec<(&[u8], u32)> {
        let children = self.children(directory);
        let mut names: Vec<(&[u8], u32)> = Vec::with_capacity(children.len() + 2);
        names.push((b".", directory as u32));
        names.push((b"..", self.all[directory].parent));
        names.extend(
            children
                .iter()
                .map(|child| (self.all[*child as usize].name(), *child)),
        );
        // Few names come before these two.
        names.sort();
        names
    }
}

impl<'a> Node<'a> {
    fn new(item: Item<'a>, source: Option<u32>) -> Self {
        Self {
            item,
            source,
            parent: 0,
            children: (0, 0),
            size: match item.kind {
                ItemKind::File(size) => size,
                ItemKind::Directory => 0,
                ItemKind::Symlink(target) => target.len() as u64,
            },
            layout: Layout::Plain,
            address: 0,
            start_block: 0,
            maybe_shared: false,
        }
    }
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

fn check(item: &Item<'_>) -> Result<(), Error> {
    if item.path.is_empty() {
        return if item.kind == ItemKind::Directory {
            Ok(())
        } else {
            Err(Error::Root)
        };
    }
    let wrong = |name: &[u8]| {
        name.is_empty() || name.len() > MAX_NAME || name.contains(&0) || name == b"." || name == b".."
    };
    if item.path.len() > MAX_PATH || item.path.split(is_slash).any(wrong) {
        return Err(Error::Path(shown(item.path)));
    }
    if let ItemKind::Symlink(target) = item.kind {
        if target.is_empty() || target.len() > MAX_LINK_TARGET || target.contains(&0) {
            return Err(Error::Target(shown(item.path)));
        }
    }
    Ok(())
}
