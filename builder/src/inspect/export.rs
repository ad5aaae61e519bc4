//! An image's disk in another format, through `qemu-img`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::{InspectError, Opened, host};
use crate::event::Observer;
use crate::process::Invocation;

/// What an image can be exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU.
    Qcow2,
    /// VMware.
    Vmdk,
    /// VirtualBox.
    Vdi,
}

impl Format {
    /// Its name, as `qemu-img` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
        }
    }
}

/// Removes the file when it is dropped, whatever became of it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After success it is not there any more.
        let _ = fs::remove_file(&self.0);
    }
}

/// Exports an image; the bytes that the result takes on disk. The file appears when it is complete; one that is there
/// already is replaced if `force` says so.
///
/// # Errors
/// The image cannot be read, `qemu-img` fails, or the output is there already or cannot be written.
pub fn export(
    image: &Path,
    format: Format,
    output: &Path,
    force: bool,
    observer: &dyn Observer,
) -> Result<u64, InspectError> {
    // Refuses images that refer to other files, which `qemu-img` would read. Said before the work, not after it.
    Opened::open(image)?;
    if !force && output.symlink_metadata().is_ok() {
        return Err(InspectError::OutputExists(output.to_owned()));
    }
    let absolute = |path: &Path| std::path::absolute(path).map_err(host("find", path));
    // Absolute: qemu-img takes what is before a colon for a protocol.
    let (source, target) = (absolute(image)?, absolute(output)?);
    let mut name = OsString::from(&target);
    name.push(format!(".{}.partial", std::process::id()));
    let partial = Temporary(PathBuf::from(name));
    Invocation::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", format.name()])
        .arg(&source)
        .arg(&partial.0)
        .run(observer)?;
    let write = || {
        fs::File::open(&partial.0)?.sync_all()?;
        let flags = if force {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        rustix::fs::renameat_with(CWD, &partial.0, CWD, &target, flags)?;
        fs::metadata(&target)
    };
    match write() {
        Ok(metadata) => Ok(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(InspectError::OutputExists(output.to_owned()))
        }
        Err(error) => Err(host("write", output)(error)),
    }
}
