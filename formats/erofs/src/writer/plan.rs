//! The plan: where everything lies.

use std::collections::HashMap;

use super::directory::{self, Entry};
use super::pack::Packer;
use super::{Error, Item, ItemKind, shown};
use crate::format::{
    BLOCK, INODE_SIZE, Kind, Layout, MAX_INLINE_TAIL, MAX_LINK_TARGET, MAX_NAME, RawInode, SLOT,
};

/// The block whose slots hold the root inode.
pub(super) const ROOT_BLOCK: u64 = 1;

/// An item and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) item: Item,
    /// The item's index in what the caller gave; `None` for a root that nobody gave.
    pub(super) source: Option<usize>,
    pub(super) parent: usize,
    /// Those that lie in it, by the bytes of their names.
    pub(super) children: Vec<usize>,
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

impl Node {
    pub(super) fn kind(&self) -> Kind {
        match self.item.kind {
            ItemKind::File(_) => Kind::File,
            ItemKind::Directory => Kind::Directory,
            ItemKind::Symlink(_) => Kind::Symlink,
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        let path = &self.item.path;
        &path[path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1)..]
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

/// Where everything lies.
#[derive(Debug)]
pub struct Plan {
    /// In the order of their paths, the root first.
    pub(super) nodes: Vec<Node>,
    /// The first block after all metadata.
    pub(super) data_block: u64,
    /// The first block after all content, if no two files share theirs.
    end_block: u64,
}

impl Plan {
    /// Plans a file system for these items, in any order. A root with the permissions 0755 is added if there is none.
    ///
    /// # Errors
    /// Items that no file system can hold, or that cannot be together.
    pub fn new(items: Vec<Item>) -> Result<Self, Error> {
        let mut nodes = arrange(items)?;
        shape(&mut nodes);
        let mut next = ROOT_BLOCK + 1;
        for node in nodes.iter_mut().filter(|node| node.kind() == Kind::Directory) {
            node.start_block = next;
            next += node.blocks();
        }
        nodes[0].address = ROOT_BLOCK * BLOCK as u64;
        for directories in [true, false] {
            let mut packer = Packer::new(next);
            for node in nodes.iter_mut().skip(1) {
                if (node.kind() == Kind::Directory) == directories {
                    node.address = packer.place(INODE_SIZE + node.tail());
                }
            }
            next = packer.end();
        }
        let files = nodes.iter().filter(|node| node.kind() != Kind::Directory);
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
        self.nodes.len() as u64
    }
}

/// Finds out how many bytes each node has, and how they are laid out.
pub(super) fn shape(nodes: &mut [Node]) {
    let mut sizes = HashMap::new();
    for node in nodes.iter() {
        if node.kind() == Kind::File {
            *sizes.entry(node.size).or_insert(0_u32) += 1;
        }
    }
    for index in 0..nodes.len() {
        if nodes[index].kind() == Kind::Directory {
            nodes[index].size = directory::size(names(nodes, index).iter().map(|entry| entry.0.len()));
        }
        let node = &mut nodes[index];
        node.maybe_shared = node.kind() == Kind::File && sizes.get(&node.size).is_some_and(|n| *n > 1);
        let tail = (node.size % BLOCK as u64) as usize;
        // The root's slot has no room for a tail.
        let inline = index != 0 && (1..=MAX_INLINE_TAIL).contains(&tail);
        node.layout = if inline { Layout::Inline } else { Layout::Plain };
    }
}

/// The bytes of a directory.
pub(super) fn directory(nodes: &[Node], index: usize) -> Vec<u8> {
    let names = names(nodes, index);
    let entries: Vec<_> = names
        .iter()
        .map(|(name, node)| Entry {
            name,
            nid: nodes[*node].nid(),
            kind: nodes[*node].kind(),
        })
        .collect();
    directory::encode(&entries)
}

/// The inode of a node whose data starts at a block.
pub(super) fn inode(nodes: &[Node], index: usize, start_block: u64) -> RawInode {
    let node = &nodes[index];
    let links = match node.kind() {
        Kind::Directory => {
            let folders = node
                .children
                .iter()
                .filter(|child| nodes[**child].kind() == Kind::Directory);
            2 + folders.count() as u32
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
fn names(nodes: &[Node], directory: usize) -> Vec<(&[u8], usize)> {
    let node = &nodes[directory];
    let mut names: Vec<(&[u8], usize)> = vec![(b".", directory), (b"..", node.parent)];
    names.extend(node.children.iter().map(|child| (nodes[*child].name(), *child)));
    names.sort_unstable();
    names
}

/// Items in the order of their paths, each checked and with its parent and children.
pub(super) fn arrange(items: Vec<Item>) -> Result<Vec<Node>, Error> {
    let mut sources: Vec<_> = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| (item, Some(index)))
        .collect();
    if !sources.iter().any(|(item, _)| item.path.is_empty()) {
        let kind = ItemKind::Directory;
        let root = Item {
            path: vec![],
            kind,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
        };
        sources.push((root, None));
    }
    // By names, not by bytes: what lies in `a` comes before `a.b`.
    sources.sort_by(|(a, _), (b, _)| a.path.split(is_slash).cmp(b.path.split(is_slash)));

    let mut nodes: Vec<Node> = Vec::with_capacity(sources.len());
    let mut directories: HashMap<Vec<u8>, usize> = HashMap::new();
    for (index, (item, source)) in sources.into_iter().enumerate() {
        check(&item)?;
        if index > 0 && nodes[index - 1].item.path == item.path {
            return Err(Error::Duplicate(shown(&item.path)));
        }
        let mut parent = 0;
        if index > 0 {
            let slash = item.path.iter().rposition(is_slash).unwrap_or(0);
            let folder = directories.get(&item.path[..slash]);
            parent = *folder.ok_or_else(|| Error::NoParent(shown(&item.path)))?;
            nodes[parent].children.push(index);
        }
        let size = match &item.kind {
            ItemKind::File(size) => *size,
            ItemKind::Directory => 0,
            ItemKind::Symlink(target) => target.len() as u64,
        };
        if item.kind == ItemKind::Directory {
            directories.insert(item.path.clone(), index);
        }
        nodes.push(Node {
            item,
            source,
            parent,
            children: Vec::new(),
            size,
            layout: Layout::Plain,
            address: 0,
            start_block: 0,
            maybe_shared: false,
        });
    }
    Ok(nodes)
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

fn check(item: &Item) -> Result<(), Error> {
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
    if item.path.split(is_slash).any(wrong) {
        return Err(Error::Path(shown(&item.path)));
    }
    if let ItemKind::Symlink(target) = &item.kind {
        if target.is_empty() || target.len() > MAX_LINK_TARGET || target.contains(&0) {
            return Err(Error::Target(shown(&item.path)));
        }
    }
    Ok(())
}
