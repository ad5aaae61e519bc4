//! What an image is: its command, its partitions, its files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hermitage_boot::{BootConfig, BootSets, sets};
use hermitage_disk::layout::{BOOT_CONFIG, LOADER, ROOT};
use hermitage_disk::table::Table;
use hermitage_erofs::format::{Kind, Superblock};

use super::{Files, InspectError, Opened, Stop, host, read_all};

/// An image among others.
#[derive(Debug)]
pub struct Summary {
    /// Its name, that of its package.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// When it was composed.
    pub composed: SystemTime,
    /// What is in it, or why that cannot be said.
    pub content: Result<Content, InspectError>,
}

/// What is in an image, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The names of its programs.
    pub roles: Vec<Vec<u8>>,
    /// Regular files in it.
    pub files: usize,
}

/// A partition of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its name.
    pub name: &'static str,
    /// Its first byte.
    pub start: u64,
    /// Bytes of it.
    pub size: u64,
}

/// All that is known of an image.
#[derive(Debug)]
pub struct Info {
    /// Bytes of the disk that the guest sees.
    pub disk_size: u64,
    /// Bytes that the file takes.
    pub bytes: u64,
    /// The command and environment that it is started with, unless another is asked for.
    pub default: Option<BootConfig>,
    /// The commands that it has by name.
    pub sets: BootSets,
    /// Where its parts lie.
    pub partitions: Vec<PartitionInfo>,
    /// The superblock of its file system.
    pub superblock: Superblock,
    /// Roles and files.
    pub content: Content,
    /// Digest of all that a guest can read in it, in hexadecimal. Where things lie on the disk is no part of it: an
    /// image that was updated has the digest of one that was composed anew.
    pub digest: String,
}

/// The images of a folder that has a folder for each, in the order of their names.
///
/// # Errors
/// The folder cannot be read. One that is not there has no images.
pub fn list(folder: &Path) -> Result<Vec<Summary>, InspectError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(host("read", folder))?,
    };
    let mut images = Vec::new();
    for entry in entries {
        let entry = entry.map_err(host("read", folder))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path().join(format!("{name}.qcow2"));
        // A folder of which the image was removed meanwhile, or never composed, is none.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let content = Opened::open(&path).and_then(|image| content(&image, &image.files()?));
        images.push(Summary {
            name,
            path,
            bytes: metadata.blocks() * 512,
            composed: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            content,
        });
    }
    images.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

/// Looks at all of an image.
///
/// # Errors
/// Something in it cannot be read.
pub fn info(image: &Opened) -> Result<Info, InspectError> {
    let disk = &image.image;
    let files = image.files()?;
    let table = Table::read(disk.device()).map_err(host("read", &image.path))?;
    let partitions = [LOADER, BOOT_CONFIG, ROOT].iter().filter_map(|partition| {
        table.extent(partition).map(|extent| PartitionInfo {
            name: partition.name,
            start: extent.start,
            size: extent.size,
        })
    });
    let metadata = fs::metadata(&image.path).map_err(host("read", &image.path))?;
    Ok(Info {
        disk_size: disk.device().size(),
        bytes: metadata.blocks() * 512,
        default: disk.boot_config()?,
        sets: disk.boot_sets()?,
        partitions: partitions.collect(),
        superblock: files.superblock().clone(),
        content: content(image, &files)?,
        digest: digest(image, &files)?,
    })
}

fn content(image: &Opened, files: &Files<'_>) -> Result<Content, InspectError> {
    let mut content = Content {
        roles: Vec::new(),
        files: 0,
    };
    for found in image.walk(files, b"/")? {
        let found = found.map_err(|broken| image.unreadable(&broken.path)(broken.error))?;
        if found.inode.kind() == Kind::File {
            content.files += 1;
            if is_program(&found.path) {
                content.roles.push(found.name().to_vec());
            }
        }
    }
    Ok(content)
}

/// Whether a file's place makes it the program of a role.
pub(super) fn is_program(path: &[u8]) -> bool {
    path.strip_prefix(b"/bin/")
        .is_some_and(|name| !name.contains(&b'/'))
}

/// Digest of the loader, the boot configuration and sets, and every path with what lies there.
fn digest(image: &Opened, files: &Files<'_>) -> Result<String, InspectError> {
    let mut digest = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(&image.image.loader()?);
    let (default, sets) = (image.image.boot_config()?, image.image.boot_sets()?);
    let boot = sets::encode(default.as_ref(), &sets).map_err(hermitage_disk::Error::from)?;
    part(&boot);
    for found in image.walk(files, b"/")? {
        let found = found.map_err(|broken| image.unreadable(&broken.path)(broken.error))?;
        let raw = found.inode.raw();
        part(&found.path);
        part(&raw.mode.to_le_bytes());
        part(&raw.uid.to_le_bytes());
        part(&raw.gid.to_le_bytes());
        part(&raw.mtime.to_le_bytes());
        part(&raw.mtime_nsec.to_le_bytes());
        let unreadable = image.unreadable(&found.path);
        match found.inode.kind() {
            Kind::Directory => {}
            Kind::Symlink => part(&files.read_link(&found.inode).map_err(unreadable)?),
            Kind::File => {
                let mut content = blake3::Hasher::new();
                let read = read_all(files, &found.inode, &mut |bytes| {
                    content.update(bytes);
                    Ok(())
                });
                match read {
                    Ok(_) => part(content.finalize().as_bytes()),
                    Err(Stop::Read(source)) => return Err(unreadable(source)),
                    Err(Stop::Sink(source)) => return Err(host("read", &image.path)(source)),
                }
            }
        }
    }
    Ok(digest.finalize().to_hex().to_string())
}
