//! From a tree to a disk: partition table, boot code, loader, boot configuration, file system.
//!
//! It writes to any block device, in one pass, with bounded memory; it knows no file names of images.
//! Everything that it writes depends on the arguments alone.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use hermitage_boot::config::EncodeError;
use hermitage_boot::sets;
use hermitage_disk::BlockDevice;
use hermitage_disk::boot_code;
use hermitage_disk::device::Slice;
use hermitage_disk::layout::{BOOT_CONFIG, LOADER, Partition, ROOT, SECTOR};
use hermitage_disk::table::{self, BACKUP_SECTORS, BOOT_CODE};
use hermitage_erofs::format::Superblock;
use hermitage_erofs::writer::{self, Content, Item, ItemKind, Placed, Plan, WriteAt};

use crate::event::{Event, Observer, Stage, Unit};
use crate::resolve::Resolution;
use crate::tree::{ImagePath, MTIME, Node, NodeKind, Tree};

/// The file system's name.
pub(crate) const VOLUME: &str = "hermitage";

/// The smallest disk, if a manifest does not say otherwise.
const MIN_DISK: u64 = 64 << 20;

/// How much larger than its content a disk is, if a manifest does not say otherwise: room for updates, which
/// costs nothing in a sparse file.
const DISK_FACTOR: u64 = 4;

/// What the loader is built into.
#[derive(Clone)]
pub struct LoaderArtifacts {
    /// The loader: an ELF file that is also its own flat memory image.
    pub elf: Vec<u8>,
    /// The code that the BIOS starts.
    pub boot_code: [u8; BOOT_CODE],
}

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The loader is larger than its partition.
    #[error("the loader has {size} bytes, its partition {max}")]
    LoaderSize {
        /// Bytes of the loader.
        size: u64,
        /// Bytes of the partition.
        max: u64,
    },
    /// The files are larger than the disk.
    #[error("the image needs a disk of {needed} bytes; the manifest's `size` is {size}")]
    DiskSize {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that the manifest allows.
        size: u64,
    },
    /// The default boot configuration breaks a limit.
    #[error("the boot configuration cannot be stored")]
    BootConfig(#[from] EncodeError),
    /// The tree cannot be written as a file system.
    #[error(transparent)]
    FileSystem(#[from] writer::Error),
    /// The disk cannot be written.
    #[error("cannot write the image")]
    Write(#[from] io::Error),
}

/// What is on a disk besides the files.
pub struct Boot<'a> {
    loader: &'a LoaderArtifacts,
    resolution: &'a Resolution,
    boot_code: [u8; BOOT_CODE],
    boot_config: Vec<u8>,
}

impl<'a> Boot<'a> {
    /// Checks that each part has room in its place.
    ///
    /// # Errors
    /// A part that is larger than its place.
    pub fn new(loader: &'a LoaderArtifacts, resolution: &'a Resolution) -> Result<Self, ImageError> {
        let boot_code =
            boot_code::complete(&loader.boot_code, &loader.elf).ok_or(ImageError::LoaderSize {
                size: loader.elf.len() as u64,
                max: LOADER.sectors.unwrap_or(0) * SECTOR,
            })?;
        Ok(Self {
            loader,
            resolution,
            boot_code,
            boot_config: sets::encode(resolution.default(), resolution.sets())?,
        })
    }

    /// Whether an image has the same.
    pub(crate) fn is_in(&self, image: &hermitage_disk::Image) -> Result<bool, hermitage_disk::Error> {
        let mut boot_code = [0; BOOT_CODE];
        let read = image.device().read_at(0, &mut boot_code).is_ok();
        let loader = image.loader()?;
        let (elf, padding) = loader.split_at(loader.len().min(self.loader.elf.len()));
        Ok(read
            && boot_code == self.boot_code
            && elf == self.loader.elf
            && padding.iter().all(|byte| *byte == 0)
            && image.boot_config()?.as_ref() == self.resolution.default()
            && image.boot_sets()? == *self.resolution.sets())
    }

    /// A digest of all that a disk of `size` bytes with these files holds.
    pub(crate) fn digest(&self, files: &blake3::Hash, size: u64) -> blake3::Hash {
        let mut digest = blake3::Hasher::new();
        digest.update(files.as_bytes());
        for part in [
            &self.loader.elf[..],
            &self.boot_code,
            &self.boot_config,
            &size.to_le_bytes(),
        ] {
            digest.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        digest.finalize()
    }
}

/// A disk that is ready to be written.
pub struct DiskPlan<'a> {
    tree: &'a Tree,
    files: Plan<'a>,
    boot: &'a Boot<'a>,
    size: u64,
}

impl<'a> DiskPlan<'a> {
    /// Plans a disk of `size` bytes, or of a size that leaves room.
    ///
    /// # Errors
    /// A disk that is too small, or a tree that no file system can hold.
    pub fn new(tree: &'a Tree, boot: &'a Boot<'a>, size: Option<u64>) -> Result<Self, ImageError> {
        let files = Plan::new(items(tree))?;
        let needed = (ROOT.first + BACKUP_SECTORS) * SECTOR + files.size();
        let roomy = needed
            .saturating_mul(DISK_FACTOR)
            .checked_next_power_of_two()
            .unwrap_or(needed);
        let size = size.unwrap_or(roomy.max(MIN_DISK)) / SECTOR * SECTOR;
        if size < needed {
            return Err(ImageError::DiskSize { needed, size });
        }
        Ok(Self {
            tree,
            files,
            boot,
            size,
        })
    }

    /// Bytes of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes everything to a device of [`DiskPlan::size`] bytes that reads as zeros, and makes it durable, and tells
    /// `placed` where each node lies; the digest of all that the disk holds, and the superblock.
    ///
    /// # Errors
    /// A file cannot be read or changes meanwhile, or the device fails.
    pub fn write(
        &self,
        device: &dyn BlockDevice,
        observer: &dyn Observer,
        placed: &mut dyn FnMut(&Placed<'_>),
    ) -> Result<(blake3::Hash, Superblock), ImageError> {
        let slice = |partition: &Partition| {
            let extent = table::place(partition, device.size())?;
            Slice::new(device, extent.start, extent.size)
        };
        slice(&LOADER)?.write_at(0, &self.boot.loader.elf)?;
        slice(&BOOT_CONFIG)?.write_at(0, &self.boot.boot_config)?;
        let root = Root(slice(&ROOT)?);
        let sources = Sources::new(self.tree, observer);
        let files = writer::write(&self.files, VOLUME, &root, &sources, placed)?;

        let digest = self.boot.digest(&files.digest, self.size);
        let mut identity = [0; 16];
        identity.copy_from_slice(&digest.as_bytes()[..16]);
        table::write(device, &self.boot.boot_code, identity)?;
        device.flush()?;
        Ok((digest, files.superblock))
    }
}

/// The tree's nodes for the file system's writer, in their order.
pub(crate) fn items(tree: &Tree) -> impl Iterator<Item = Item<'_>> {
    tree.iter().map(|(path, node)| item(path, node))
}

fn item<'a>(path: &'a ImagePath, node: &'a Node) -> Item<'a> {
    Item {
        path: path.as_bytes(),
        kind: match &node.kind {
            NodeKind::Directory => ItemKind::Directory,
            NodeKind::File { size, .. } => ItemKind::File(*size),
            NodeKind::Symlink(target) => ItemKind::Symlink(target),
        },
        permissions: node.mode,
        uid: 0,
        gid: 0,
        mtime: MTIME,
        mtime_nsec: 0,
    }
}

/// The root partition, for the file system's writer.
struct Root<'a>(Slice<'a>);

impl WriteAt for Root<'_> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
}

/// How many files are opened between two events: an event for each costs more than opening a file does.
const FILES_OF_AN_EVENT: u64 = 32;

/// Opens the tree's files, and says how far it is.
pub(crate) struct Sources<'a> {
    /// By the index of the item.
    nodes: Vec<(&'a ImagePath, &'a Node)>,
    observer: &'a dyn Observer,
    opened: AtomicU64,
    total: u64,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(tree: &'a Tree, observer: &'a dyn Observer) -> Self {
        Self {
            nodes: tree.iter().collect(),
            observer,
            opened: AtomicU64::new(0),
            total: tree.files() as u64,
        }
    }
}

impl Content for Sources<'_> {
    type Reader = File;

    fn open(&self, item: usize) -> io::Result<File> {
        let Some((path, node)) = self.nodes.get(item) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let NodeKind::File { source, .. } = &node.kind else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let file = File::open(source.path(path))?;
        let opened = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        if opened % FILES_OF_AN_EVENT == 1 || opened == self.total {
            self.observer.event(&Event::Progress {
                stage: Stage::Image,
                unit: Unit::Files,
                // A large file may be opened twice.
                done: opened.min(self.total),
                total: Some(self.total),
                current: path.to_string(),
            });
        }
        Ok(file)
    }
}
