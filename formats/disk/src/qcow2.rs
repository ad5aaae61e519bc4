//! The container: qcow2 version 3, through `imago`, of which no type leaves this module.
//!
//! A new image has all clusters mapped up front and stays a sparse file. Writing into it then changes no qcow2
//! metadata, which `imago` would write without a barrier between reference counts and tables: a power cut in the
//! middle of an update cannot damage the container. An overlay is short-lived and starts empty instead.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use imago::file::File;
use imago::format::PreallocateMode;
use imago::qcow2::Qcow2 as Format;
use imago::{FormatAccess, FormatCreateBuilder as _, StorageOpenOptions};

use crate::device::{BlockDevice, check_bounds};
use crate::error::Error;

/// Most bytes of a backing file's path in a qcow2 header, as the format says.
const MAX_BACKING_PATH: usize = 1023;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
}

/// An open qcow2 file.
pub struct Qcow2 {
    access: FormatAccess<File>,
}

impl std::fmt::Debug for Qcow2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qcow2")
            .field("size", &self.access.size())
            .finish_non_exhaustive()
    }
}

impl Qcow2 {
    /// Makes a new image of `size` bytes, all zero, with all clusters mapped. The file must not exist yet.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, size: u64) -> Result<Self, Error> {
        let create = || {
            let file = new_file(path)?;
            let header = file.try_clone()?;
            Format::<File>::create_builder(imago_file(file, path)?)
                .size(size)
                .preallocate(PreallocateMode::FormatAllocate)
                .create()?;
            drop_feature_names(&header)
        };
        create().map_err(|source| Error::Create {
            path: path.to_owned(),
            source,
        })?;
        Self::open(path, Access::Write)
    }

    /// Opens an image that stands alone.
    ///
    /// # Errors
    /// The file cannot be opened, is no qcow2 image, or refers to another file.
    pub fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let mut format = open_format(path, access)?;
        if format.implicit_backing_file().is_some() {
            return Err(Error::RefersToFile {
                path: path.to_owned(),
            });
        }
        format.set_backing(None);
        Ok(Self {
            access: FormatAccess::new(format),
        })
    }

    /// Opens an overlay, and for reading the image that backs it, which must stand alone.
    ///
    /// # Errors
    /// One of both cannot be opened, or is no qcow2 image; or this is no overlay.
    pub fn open_overlay(path: &Path, access: Access) -> Result<Self, Error> {
        let mut format = open_format(path, access)?;
        let Some(backing) = format.implicit_backing_file() else {
            return Err(Error::NotAnOverlay {
                path: path.to_owned(),
            });
        };
        let backing = path.parent().unwrap_or(Path::new("")).join(backing);
        format.set_backing(Some(Self::open(&backing, Access::Read)?.access));
        Ok(Self {
            access: FormatAccess::new(format),
        })
    }
}

/// Opens a qcow2 file without what it may refer to.
fn open_format(path: &Path, access: Access) -> Result<Format<File>, Error> {
    let write = access == Access::Write;
    let open = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .map_err(open)?;
    if file.metadata().map_err(open)?.is_dir() {
        return Err(open(io::ErrorKind::IsADirectory.into()));
    }
    let options = StorageOpenOptions::new().filename(path).write(write);
    let file = File::from_open_file(file, options).map_err(open)?;
    let mut format = Format::<File>::open_image(file, write).map_err(|source| Error::NotQcow2 {
        path: path.to_owned(),
        source,
    })?;
    if format.requires_external_data_file() {
        return Err(Error::RefersToFile {
            path: path.to_owned(),
        });
    }
    format.set_data_file(None);
    Ok(format)
}

/// Makes an overlay over `backing`: a small file that holds what differs. It must not exist yet.
///
/// # Errors
/// `backing` cannot be opened as an image that stands alone, or the overlay cannot be made.
pub fn create_overlay(backing: &Path, path: &Path) -> Result<(), Error> {
    let backing = std::path::absolute(backing).map_err(|source| Error::Open {
        path: backing.to_owned(),
        source,
    })?;
    let size = Qcow2::open(&backing, Access::Read)?.size();
    create_layer(&backing, size, path)
}

/// Makes an overlay of `size` bytes over `backing`, a qcow2 file that may be an overlay itself and is not opened. It must
/// not exist yet. A relative path starts from the overlay's folder.
///
/// # Errors
/// The overlay cannot be made.
pub fn create_layer(backing: &Path, size: u64, path: &Path) -> Result<(), Error> {
    let name = backing
        .to_str()
        .filter(|name| name.len() <= MAX_BACKING_PATH)
        .ok_or_else(|| Error::BackingPath {
            path: backing.to_owned(),
        })?;
    let create = || {
        Format::<File>::create_builder(imago_file(new_file(path)?, path)?)
            .size(size)
            .preallocate(PreallocateMode::None)
            .backing(name.to_owned(), "qcow2".to_owned())
            .create()
    };
    create().map_err(|source| Error::Create {
        path: path.to_owned(),
        source,
    })
}

/// What the header of a qcow2 file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the disk in it.
    pub size: u64,
    /// The path of the file that backs it, from where the file lies; `None` if it stands alone.
    pub backing: Option<PathBuf>,
}

impl Header {
    /// Reads it. The backing file is not opened.
    ///
    /// # Errors
    /// The file cannot be opened, or is no qcow2 image.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut format = open_format(path, Access::Read)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let backing = format.implicit_backing_file().map(|backing| folder.join(backing));
        format.set_backing(None);
        Ok(Self {
            size: FormatAccess::new(format).size(),
            backing,
        })
    }
}

/// The path of the file that backs an overlay: see [`Header::backing`].
///
/// # Errors
/// As [`Header::read`].
pub fn backing_file(path: &Path) -> Result<Option<PathBuf>, Error> {
    Ok(Header::read(path)?.backing)
}

/// A file that did not exist before, so that nothing is overwritten by mistake.
fn new_file(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

fn imago_file(file: fs::File, path: &Path) -> io::Result<File> {
    File::from_open_file(file, StorageOpenOptions::new().filename(path).write(true))
}

/// Takes the table of feature names out of a new header. The table only serves error messages of readers that do
/// not know a feature; `imago` writes it in an order that changes from run to run, and equal images must be equal.
fn drop_feature_names(file: &fs::File) -> io::Result<()> {
    const HEADER_LENGTH: u64 = 100;
    const FEATURE_NAMES: u32 = 0x6803_f857;
    let word = |offset| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset)?;
        Ok::<_, io::Error>(u32::from_be_bytes(bytes))
    };
    // Extensions follow the header: type, length, data; zeros end them. An image has no other one.
    let first = u64::from(word(HEADER_LENGTH)?);
    if word(first)? == FEATURE_NAMES {
        let length = word(first + 4)?.min(4096) as usize;
        file.write_all_at(&vec![0; 8 + length], first)?;
    }
    Ok(())
}

impl BlockDevice for Qcow2 {
    fn size(&self) -> u64 {
        self.access.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        // imago fills up with zeros at the end; here that is an error, as on any disk.
        check_bounds(self.size(), offset, buffer.len())?;
        self.access.read(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.access.write(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        // `flush` hands imago's caches to the host, `sync` makes the host write them: a barrier needs both.
        self.access.flush()?;
        self.access.sync()
    }
}
