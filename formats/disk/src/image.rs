//! An image that was opened: its partitions, and what the launcher reads and writes in them.
//!
//! An image that was composed stands alone and is opened for reading. An instance has an overlay over it, and its
//! own boot configuration there.

use std::io;
use std::path::{Path, PathBuf};

use hermitage_boot::config::DecodeError;
use hermitage_boot::{BootConfig, BootSets, sets};
use hermitage_erofs::reader::FileSystem;

use crate::boot_code;
use crate::device::{BlockDevice, Slice};
use crate::error::Error;
use crate::layout::{BOOT_CONFIG, LOADER, Partition, ROOT, SECTOR};
use crate::qcow2::{Access, Qcow2};
use crate::table::{BOOT_CODE, Table};

/// An open image or overlay.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    device: Qcow2,
    table: Table,
}

/// Opens an image for reading.
///
/// # Errors
/// The file cannot be opened, is no qcow2 image, refers to another file, or has no intact partition table.
pub fn open_image(path: &Path) -> Result<Image, Error> {
    Image::new(path, Qcow2::open(path, Access::Read)?)
}

/// Opens an instance's overlay.
///
/// # Errors
/// As [`open_image`], for the overlay and for the image that backs it.
pub fn open_overlay(path: &Path, access: Access) -> Result<Image, Error> {
    Image::new(path, Qcow2::open_overlay(path, access)?)
}

impl Image {
    fn new(path: &Path, device: Qcow2) -> Result<Self, Error> {
        let path = path.to_owned();
        match Table::read(&device) {
            Ok(table) => Ok(Self { path, device, table }),
            Err(source) => Err(Error::PartitionTable { path, source }),
        }
    }

    /// The whole disk.
    #[must_use]
    pub fn device(&self) -> &dyn BlockDevice {
        &self.device
    }

    /// What the disk holds, as one word: the GUID of its partition table, which composition derives from a digest of all
    /// that the image holds. Two images of one identity can stand for each other below an overlay.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn identity(&self) -> Result<String, Error> {
        // UEFI 2.10, 5.3.2: the header is the second sector, the disk's GUID its bytes 56 to 71.
        let mut guid = [0; 16];
        self.device
            .read_at(SECTOR + 56, &mut guid)
            .map_err(|source| Error::Io {
                action: "read",
                path: self.path.clone(),
                source,
            })?;
        Ok(guid.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A partition.
    ///
    /// # Errors
    /// It is missing, or lies outside the disk.
    pub fn partition(&self, partition: &Partition) -> Result<Slice<'_>, Error> {
        let (path, name) = (self.path.clone(), partition.name);
        let Some(extent) = self.table.extent(partition) else {
            return Err(Error::NoPartition { path, name });
        };
        // The fixed ones are read into memory as a whole: a damaged table must not make that gigabytes.
        if partition
            .sectors
            .is_some_and(|sectors| extent.size != sectors * SECTOR)
        {
            return Err(Error::PartitionBounds { path, name });
        }
        Slice::new(&self.device, extent.start, extent.size).map_err(|_| Error::PartitionBounds { path, name })
    }

    /// The loader, padded to whole sectors.
    ///
    /// # Errors
    /// The partition is missing, cannot be read, or holds another loader than the boot code tells of.
    pub fn loader(&self) -> Result<Vec<u8>, Error> {
        let mut boot_code = [0; BOOT_CODE];
        let read = self.device.read_at(0, &mut boot_code);
        read.map_err(|source| self.io("read", source))?;
        let partition = self.read_partition(&LOADER)?;
        match boot_code::loader(&boot_code, &partition) {
            Some(loader) => Ok(loader.to_vec()),
            None => Err(Error::Loader {
                path: self.path.clone(),
            }),
        }
    }

    /// The boot configuration: in an image its default, in an overlay the instance's own or else the default.
    /// `None` if there is none.
    ///
    /// # Errors
    /// The partition is missing, cannot be read, or holds a configuration that is damaged.
    pub fn boot_config(&self) -> Result<Option<BootConfig>, Error> {
        match BootConfig::decode(&self.read_partition(&BOOT_CONFIG)?) {
            Ok(config) => Ok(Some(config)),
            Err(DecodeError::Absent) => Ok(None),
            Err(source) => Err(Error::BootConfig {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// The commands that an image has by name. An overlay may have its instance's configuration over them: ask the
    /// image that it stands on.
    ///
    /// # Errors
    /// As [`Image::boot_config`].
    pub fn boot_sets(&self) -> Result<BootSets, Error> {
        sets::decode(&self.read_partition(&BOOT_CONFIG)?).map_err(|source| Error::BootConfig {
            path: self.path.clone(),
            source,
        })
    }

    /// Writes the boot configuration, into an overlay that was opened for writing.
    ///
    /// # Errors
    /// A guest cannot take it, or it cannot be written.
    pub fn set_boot_config(&self, config: &BootConfig) -> Result<(), Error> {
        let bytes = config.encode()?;
        let partition = self.partition(&BOOT_CONFIG)?;
        partition
            .write_at(0, &bytes)
            .map_err(|source| self.io("write", source))?;
        // An overlay lives as long as its instance: it need not survive a power cut, but QEMU must see it.
        partition.flush().map_err(|source| self.io("write", source))
    }

    /// The packages' files.
    ///
    /// # Errors
    /// The partition is missing, or holds no file system of ours.
    pub fn root(&self) -> Result<FileSystem<Slice<'_>>, Error> {
        FileSystem::open(self.partition(&ROOT)?).map_err(|error| {
            self.io(
                "read",
                io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
            )
        })
    }

    fn read_partition(&self, partition: &Partition) -> Result<Vec<u8>, Error> {
        let slice = self.partition(partition)?;
        // One of the small partitions, whose size `partition` has checked.
        let mut bytes = vec![0; slice.size() as usize];
        BlockDevice::read_at(&slice, 0, &mut bytes).map_err(|source| self.io("read", source))?;
        Ok(bytes)
    }

    fn io(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io {
            action,
            path: self.path.clone(),
            source,
        }
    }
}
