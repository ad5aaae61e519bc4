//! Looks for everything that can be wrong with an image, and goes on behind each problem.
//!
//! What has a checksum is checked by it: the partition table, the boot configuration, the superblock, the loader, the
//! programs. All files together have one as well: the superblock's uuid is the start of the digest of their tree. Which
//! file it is that changed can be said if the index beside the image is there.

use std::io;
use std::path::Path;

use hermitage_boot::config::DecodeError;
use hermitage_boot::{BootConfig, seal};
use hermitage_disk::BlockDevice;
use hermitage_disk::boot_code;
use hermitage_disk::device::Slice;
use hermitage_disk::layout::{BOOT_CONFIG, LOADER, Partition, ROOT};
use hermitage_disk::qcow2::{Access, Qcow2};
use hermitage_disk::table::{self, BOOT_CODE, Table};
use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::FileSystem;
use hermitage_erofs::writer::{Item, ItemKind, TreeDigest, compare_paths};

use super::info::is_program;
use super::walk::Walk;
use super::{Files, Found, Stop, read_all, shown};
use crate::index::Index;

/// Most bytes of a program whose seal is checked, since that takes all of it in memory: far more than any program
/// has, and less than what a damaged inode may claim.
const MAX_PROGRAM: u64 = 1 << 30;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Regular files that were read to their ends.
    pub files: usize,
    /// Programs whose seals hold.
    pub programs: usize,
    /// What is wrong, each a line that names the part.
    pub problems: Vec<String>,
}

/// Verifies an image. That it cannot be opened at all is a problem like others.
#[must_use]
pub fn verify(path: &Path) -> Verified {
    let mut verified = Verified::default();
    match Qcow2::open(path, Access::Read) {
        Ok(device) => verified.disk(&device, path),
        Err(error) => verified.problem("container", &with_causes(&error)),
    }
    verified
}

/// An error with its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A partition's bytes, for one of a fixed size.
fn read(device: &dyn BlockDevice, partition: &Partition) -> io::Result<Vec<u8>> {
    // Where it must lie: what the table says is checked apart, and may be damaged.
    let extent = table::place(partition, device.size())?;
    let mut bytes = vec![0; usize::try_from(extent.size).unwrap_or(0)];
    device.read_at(extent.start, &mut bytes)?;
    Ok(bytes)
}

impl Verified {
    fn problem(&mut self, part: &str, what: &str) {
        self.problems.push(format!("{part}: {what}"));
    }

    fn disk(&mut self, device: &dyn BlockDevice, path: &Path) {
        self.table(device);
        if let Err(error) = self.loader(device) {
            self.problem(LOADER.name, &error.to_string());
        }
        match read(device, &BOOT_CONFIG).map(|bytes| BootConfig::decode(&bytes)) {
            Ok(Ok(_) | Err(DecodeError::Absent)) => {}
            Ok(Err(error)) => self.problem(BOOT_CONFIG.name, &error.to_string()),
            Err(error) => self.problem(BOOT_CONFIG.name, &error.to_string()),
        }
        let root = table::place(&ROOT, device.size())
            .and_then(|extent| Slice::new(device, extent.start, extent.size));
        let size = root.as_ref().map_or(0, BlockDevice::size);
        match root.map(FileSystem::open) {
            Ok(Ok(files)) => {
                if files.size() > size {
                    self.problem(ROOT.name, "the file system is larger than its partition");
                }
                let index = Index::load(path, files.superblock());
                self.files(&files, index.as_ref());
            }
            Ok(Err(error)) => self.problem(ROOT.name, &error.to_string()),
            Err(error) => self.problem(ROOT.name, &error.to_string()),
        }
    }

    fn table(&mut self, device: &dyn BlockDevice) {
        let table = match Table::read(device) {
            Ok(table) => table,
            Err(error) => return self.problem("partition table", &with_causes(&error)),
        };
        for partition in [LOADER, BOOT_CONFIG, ROOT] {
            let place = table::place(&partition, device.size()).ok();
            if table
                .extent(&partition)
                .is_none_or(|extent| Some(extent) != place.as_ref())
            {
                let name = partition.name;
                self.problem(
                    "partition table",
                    &format!("partition `{name}` is missing, or has a wrong place or size"),
                );
            }
        }
    }

    fn loader(&mut self, device: &dyn BlockDevice) -> io::Result<()> {
        let mut code = [0; BOOT_CODE];
        device.read_at(0, &mut code)?;
        let partition = read(device, &LOADER)?;
        if boot_code::loader(&code, &partition).is_none() {
            self.problem(LOADER.name, "its sum is not the one that the boot code has");
        }
        Ok(())
    }

    fn files(&mut self, files: &Files<'_>, index: Option<&Index>) {
        let root = match files.root() {
            Ok(root) => root,
            Err(error) => return self.problem("/", &error.to_string()),
        };
        let before = self.problems.len();
        let mut digest = TreeDigest::default();
        let mut composed = index.into_iter().flat_map(|index| index.base.nodes()).peekable();
        for found in Walk::new(files, root, b"/") {
            let found = match found {
                Ok(found) => found,
                Err(broken) => {
                    self.problem(&shown(&broken.path), &broken.error.to_string());
                    continue;
                }
            };
            let Some((target, content)) = self.file(files, &found) else {
                continue;
            };
            let item = item(&found, &target);
            digest.add(&item, content);
            while composed
                .next_if(|placed| compare_paths(placed.item.path, item.path).is_lt())
                .is_some()
            {}
            let there = composed.next_if(|placed| placed.item.path == item.path);
            if there.is_some_and(|placed| placed.item != item || placed.digest != content) {
                self.problem(&shown(&found.path), "it is not as it was composed");
            }
        }
        // What could not be read is missing in the digest, and was told; so was what changed, if it could be named.
        if self.problems.len() == before && digest.finish().as_bytes()[..16] != files.superblock().uuid {
            self.problem(ROOT.name, "the files are not as they were composed");
        }
    }

    /// Reads what was found: a link's target, a file's digest; `None` if it cannot be read.
    fn file(&mut self, files: &Files<'_>, found: &Found) -> Option<(Vec<u8>, Option<blake3::Hash>)> {
        let path = shown(&found.path);
        match found.inode.kind() {
            Kind::Directory => Some((Vec::new(), None)),
            Kind::Symlink => match files.read_link(&found.inode) {
                Ok(target) => Some((target, None)),
                Err(error) => {
                    self.problem(&path, &error.to_string());
                    None
                }
            },
            Kind::File => {
                let program = is_program(&found.path);
                if program && found.inode.size() > MAX_PROGRAM {
                    self.problem(&path, "it is larger than a program can be");
                    return None;
                }
                let (mut content, mut hasher) = (Vec::new(), blake3::Hasher::new());
                let read = read_all(files, &found.inode, &mut |bytes| {
                    hasher.update(bytes);
                    if program {
                        content.extend_from_slice(bytes);
                    }
                    Ok(())
                });
                if let Err(Stop::Read(error)) = read {
                    self.problem(&path, &error.to_string());
                    return None;
                }
                self.files += 1;
                match (program, seal::check(&content)) {
                    (false, _) => {}
                    (true, Ok(())) => self.programs += 1,
                    (true, Err(error)) => {
                        self.problem(&path, &error.to_string());
                        return None;
                    }
                }
                Some((Vec::new(), Some(hasher.finalize())))
            }
        }
    }
}

/// What was found, as composition describes it.
fn item<'a>(found: &'a Found, target: &'a [u8]) -> Item<'a> {
    let raw = found.inode.raw();
    Item {
        path: found.path.strip_prefix(b"/").unwrap_or_default(),
        kind: match found.inode.kind() {
            Kind::File => ItemKind::File(found.inode.size()),
            Kind::Directory => ItemKind::Directory,
            Kind::Symlink => ItemKind::Symlink(target),
        },
        permissions: found.inode.permissions(),
        uid: raw.uid,
        gid: raw.gid,
        mtime: raw.mtime,
        mtime_nsec: raw.mtime_nsec,
    }
}
