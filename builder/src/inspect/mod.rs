//! Composed images, looked at from outside: nothing boots, nothing is changed.
//!
//! - [`info`]: what an image is, and the digest of its content; [`list`](info::list) does it for a folder of images;
//! - [`walk`](Opened::walk): its files; [`copy`]: out of it, into a folder;
//! - [`verify`]: everything that can be wrong with it, as a list;
//! - [`export`]: the disk in another format, through `qemu-img`.
//!
//! An image may come from anywhere. Whatever its bytes are, each call ends with a value or an error, in bounded
//! memory, and nothing outside of the given destination is written. Start reading at [`Opened::open`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hermitage_disk::Image;
use hermitage_disk::device::Slice;
use hermitage_erofs::reader::{self, FileSystem, Inode, ReadAt};

use crate::process::ProcessError;
use crate::suggest::suggest;

pub mod copy;
pub mod export;
pub mod info;
pub mod verify;
mod walk;

pub use walk::{Broken, Found, Walk};

/// Bytes that are read at once: few enough to stay in the processor's cache, enough that calls do not count.
const CHUNK: usize = 256 << 10;

/// Why an image, or something in it, cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no such image.
    #[error("there is no image `{name}`")]
    NoImage {
        /// Its name.
        name: String,
        /// The names of those that are.
        known: Vec<String>,
    },
    /// The image cannot be opened.
    #[error(transparent)]
    Disk(#[from] hermitage_disk::Error),
    /// Something in the image cannot be read.
    #[error("cannot read `{path}` in `{}`", image.display())]
    Read {
        /// The image.
        image: PathBuf,
        /// The path in it.
        path: String,
        /// Why.
        source: reader::Error<io::Error>,
    },
    /// Something lies where a copy would go.
    #[error("`{}` is there already", .0.display())]
    InTheWay(PathBuf),
    /// The output of an export is there already.
    #[error("`{}` is there already", .0.display())]
    OutputExists(PathBuf),
    /// A file or folder outside of the image cannot be used.
    #[error("cannot {action} `{}`", path.display())]
    Host {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// `qemu-img` failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl InspectError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoImage { name, known } => {
                suggest(name, known).or_else(|| Some(format!("compose it with `cargo xtask compose {name}`")))
            }
            Self::Disk(error) => error.hint(),
            Self::Read {
                source: reader::Error::NotFound,
                image,
                ..
            } => Some(format!(
                "`cargo xtask image tree {}` shows what is there",
                image.display()
            )),
            Self::Read {
                source: reader::Error::Damaged(_),
                image,
                ..
            } => Some(format!(
                "`cargo xtask image verify {}` lists all that is damaged",
                image.display()
            )),
            Self::InTheWay(_) => {
                Some("nothing is replaced: remove it, or give another destination".to_owned())
            }
            Self::OutputExists(_) => Some("`--force` replaces it".to_owned()),
            Self::Process(error) if error.is_missing() => {
                Some("install `qemu-utils`, which has `qemu-img`".to_owned())
            }
            Self::Read { .. } | Self::Host { .. } | Self::Process(_) => None,
        }
    }
}

/// Turns an [`io::Error`] into an [`InspectError`] that names what was tried, and on what.
fn host<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> InspectError + 'a {
    move |source| InspectError::Host {
        action,
        path: path.to_owned(),
        source,
    }
}

/// An image's file system.
pub type Files<'a> = FileSystem<Slice<'a>>;

/// An opened image, with the file that it came from.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    image: Image,
}

impl Opened {
    /// Opens an image for reading.
    ///
    /// # Errors
    /// It is not there, or is no image of ours.
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        Ok(Self {
            path: path.to_owned(),
            image: hermitage_disk::open_image(path)?,
        })
    }

    /// Its file system.
    ///
    /// # Errors
    /// There is none of ours.
    pub fn files(&self) -> Result<Files<'_>, InspectError> {
        Ok(self.image.root()?)
    }

    /// All that lies at and below a path, which may be a symbolic link; it is not followed.
    ///
    /// # Errors
    /// The path names nothing. Whatever cannot be read below it is an item of the walk.
    pub fn walk<'a, 'b>(
        &self,
        files: &'a Files<'b>,
        path: &[u8],
    ) -> Result<Walk<'a, Slice<'b>>, InspectError> {
        let start = files.resolve_link(path).map_err(self.unreadable(path))?;
        Ok(Walk::new(files, start, path))
    }

    /// Writes a file's content to `output`. Symbolic links are followed, within the image; how many bytes.
    ///
    /// # Errors
    /// The path names no regular file, or it cannot be read or written.
    pub fn cat(&self, path: &[u8], output: &mut dyn Write) -> Result<u64, InspectError> {
        let files = self.files()?;
        let file = files.resolve(path).map_err(self.unreadable(path))?;
        read_all(&files, &file, &mut |bytes| output.write_all(bytes)).map_err(|error| match error {
            Stop::Read(source) => self.unreadable(path)(source),
            Stop::Sink(source) => host("write", Path::new("the output"))(source),
        })
    }

    fn unreadable(&self, path: &[u8]) -> impl FnOnce(reader::Error<io::Error>) -> InspectError {
        let (image, path) = (self.path.clone(), shown(path));
        move |source| InspectError::Read { image, path, source }
    }
}

/// Why reading a file ended early.
enum Stop {
    /// It cannot be read.
    Read(reader::Error<io::Error>),
    /// What was read could not be taken.
    Sink(io::Error),
}

/// Hands a file's content to `sink`, piece by piece; how many bytes.
fn read_all<D: ReadAt<Error = io::Error>>(
    files: &FileSystem<D>,
    file: &Inode,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64, Stop> {
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let length = files.read(file, offset, &mut buffer).map_err(Stop::Read)?;
        if length == 0 {
            return Ok(offset);
        }
        sink(&buffer[..length]).map_err(Stop::Sink)?;
        offset += length as u64;
    }
}

/// A path or name of an image as text that is safe on a terminal: whoever made the image chose its bytes.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .map(|c| match c {
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}
