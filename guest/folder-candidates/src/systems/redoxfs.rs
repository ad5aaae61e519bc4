//! RedoxFS. Its disk knows no flush: the adapter puts one before and one behind each write of a header, which is what a
//! commit ends with.

use redoxfs::{BLOCK_SIZE, DirEntry, FileSystem, HEADER_RING, Node, Transaction, TreePtr};
use syscall::error::{EIO, ENOENT, ENOSPC, Error};

use super::{Failure, Result, System, split};
use crate::disk::Disk;

pub struct Ordered(Disk);

impl redoxfs::Disk for Ordered {
    unsafe fn read_at(&mut self, block: u64, buffer: &mut [u8]) -> syscall::error::Result<usize> {
        if self.0.read_at(block * BLOCK_SIZE, buffer) {
            Ok(buffer.len())
        } else {
            Err(Error::new(EIO))
        }
    }

    unsafe fn write_at(&mut self, block: u64, buffer: &[u8]) -> syscall::error::Result<usize> {
        let is_header = block < HEADER_RING;
        if is_header {
            self.0.flush();
        }
        if !self.0.write_at(block * BLOCK_SIZE, buffer) {
            return Err(Error::new(EIO));
        }
        if is_header {
            self.0.flush();
        }
        Ok(buffer.len())
    }

    fn size(&mut self) -> syscall::error::Result<u64> {
        Ok(self.0.size())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.errno {
            ENOSPC => Self::Full,
            ENOENT => Self::NotFound,
            _ => Self::Other(error.to_string()),
        }
    }
}

pub struct Redoxfs(FileSystem<Ordered>);

/// What is at a path.
fn find(tx: &mut Transaction<'_, Ordered>, path: &str) -> syscall::error::Result<TreePtr<Node>> {
    let mut here = TreePtr::root();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = tx.find_node(here, name)?.ptr();
    }
    Ok(here)
}

impl Redoxfs {
    fn make(&mut self, path: &str, mode: u16) -> Result<u64> {
        let (parent, name) = split(path);
        Ok(self.0.tx(|tx| {
            let parent = find(tx, parent)?;
            Ok(u64::from(tx.create_node(parent, name, mode, 1, 0)?.id()))
        })?)
    }
}

fn node(file: u64) -> TreePtr<Node> {
    TreePtr::new(file as u32)
}

impl System for Redoxfs {
    fn format(disk: &Disk) -> Result<()> {
        FileSystem::create(Ordered(disk.clone()), None, 1, 0)?;
        Ok(())
    }

    fn mount(disk: &Disk) -> Result<Self> {
        Ok(Self(FileSystem::open(
            Ordered(disk.clone()),
            None,
            Some(0),
            true,
        )?))
    }

    fn make_directory(&mut self, path: &str) -> Result<()> {
        self.make(path, Node::MODE_DIR | 0o755).map(drop)
    }

    fn open(&mut self, path: &str, create: bool) -> Result<u64> {
        let found = self.0.tx(|tx| Ok(u64::from(find(tx, path)?.id())));
        match found {
            Err(error) if error.errno == ENOENT && create => self.make(path, Node::MODE_FILE | 0o644),
            found => Ok(found?),
        }
    }

    fn close(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let length = self.0.tx(|tx| tx.write_node(node(file), offset, bytes, 1, 0))?;
        if length == bytes.len() {
            Ok(())
        } else {
            Err(Failure::Other(format!("{length} bytes of {}", bytes.len())))
        }
    }

    fn read(&mut self, file: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        // At the time that it has, so that reading is not writing.
        Ok(self.0.tx(|tx| tx.read_node(node(file), offset, buffer, 0, 0))?)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let (parent, name) = split(path);
        self.0.tx(|tx| {
            let parent = find(tx, parent)?;
            let found = tx.find_node(parent, name)?;
            let mode = if found.data().is_dir() {
                Node::MODE_DIR
            } else {
                Node::MODE_FILE
            };
            tx.remove_node(parent, name, mode)
        })?;
        Ok(())
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        let ((old_parent, old), (new_parent, new)) = (split(old), split(new));
        Ok(self.0.tx(|tx| {
            let (from, to) = (find(tx, old_parent)?, find(tx, new_parent)?);
            tx.rename_node(from, old, to, new)
        })?)
    }

    fn list(&mut self, path: &str) -> Result<Vec<(String, Option<u64>)>> {
        Ok(self.0.tx(|tx| {
            let directory = find(tx, path)?;
            let mut children = Vec::<DirEntry>::new();
            tx.child_nodes(directory, &mut children)?;
            let mut list = Vec::new();
            for child in children {
                let node = tx.read_tree(child.node_ptr())?;
                let size = (!node.data().is_dir()).then(|| node.data().size());
                list.push((child.name().unwrap_or_default().to_owned(), size));
            }
            Ok(list)
        })?)
    }

    fn exists(&mut self, path: &str) -> Result<bool> {
        match self.0.tx(|tx| find(tx, path)) {
            Ok(_) => Ok(true),
            Err(error) if error.errno == ENOENT => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&mut self) -> Result<()> {
        // Each call is committed already, and flushed.
        Ok(())
    }
}
