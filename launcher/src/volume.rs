//! Volumes: disks that outlive the instances they are attached to.
//!
//! A volume reaches a guest as a further virtio disk, whose serial is the volume's label. Which file it is, and in which
//! format, is decided here. The user's volumes lie in a folder of their own:
//!
//! - [`store`]: makes, lists, renames and removes them; [`users`]: who has one, and who may change it;
//! - [`layers`]: the files that a volume with a past consists of; [`snapshot`]: snapshots, clones, the way back;
//! - [`convert`]: from and to other files, and other sizes; [`live`]: what a running machine does for all that.
//!
//! Start with [`find`], then with [`Volumes`].

mod convert;
mod error;
mod layers;
mod live;
mod name;
mod snapshot;
mod store;
mod users;

pub use convert::ForeignFormat;
pub use error::VolumeError;
pub use name::{MAX_NAME, Point, SnapshotName, VolumeName};
pub use snapshot::Snapshot;
pub use store::{Facts, Scratch, Volumes};
pub use users::{Guard, User};

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use self::name::{is_label, is_name};
use crate::units::{ParseError, serialized_as_text};

serialized_as_text!(Volume);

/// Longest label: what a virtio disk has room for in its serial (`VIRTIO_BLK_ID_BYTES`).
pub const MAX_LABEL: usize = 20;

/// The first bytes of each qcow2 file.
const QCOW2_MAGIC: &[u8; 4] = b"QFI\xfb";

/// A volume, as a user names it: `NAME|PATH[:LABEL][:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    place: String,
    /// What the guest finds it by; if `None`, by the name of its file.
    label: Option<String>,
    read_only: bool,
}

impl Volume {
    /// The same volume for who is in another folder: a relative path is made absolute.
    ///
    /// # Errors
    /// There is no current folder.
    pub fn absolute(self) -> io::Result<Self> {
        Ok(self.within(&std::path::absolute(".")?))
    }

    /// The same volume for who is elsewhere: a relative path starts from `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        if !self.is_path() {
            return self;
        }
        let path = folder.join(&self.place);
        Self {
            // A text was made absolute with the name of a folder; one that is no text is left to be not found.
            place: path.into_os_string().into_string().unwrap_or(self.place),
            ..self
        }
    }

    /// Whether the guest cannot write to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The name of a volume of the user's folder, if it is not a path.
    #[must_use]
    pub fn name(&self) -> Option<VolumeName> {
        if self.is_path() {
            return None;
        }
        self.place.parse().ok()
    }

    /// The volume `name`, attached as this one is.
    #[must_use]
    pub fn renamed(&self, name: &VolumeName) -> Self {
        Self {
            place: name.to_string(),
            label: self.label.clone().or_else(|| Some(self.place.clone())),
            read_only: self.read_only,
        }
    }

    fn is_path(&self) -> bool {
        self.place.contains('/') || Format::of(Path::new(&self.place)).is_some()
    }
}

impl FromStr for Volume {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a volume is the name of one, or the path of a `.qcow2` or `.raw` file; \
                                behind it `:LABEL`, if the guest looks for another name, or `:/data`, if it is to be mounted \
                                there, and `:ro`, if it is only to be read";
        let fault = |fault| ParseError::new(text, fault, EXPECTED);
        let (place, read_only) = match text.rsplit_once(':') {
            Some((place, "ro")) => (place, true),
            Some((place, "rw")) => (place, false),
            _ => (text, false),
        };
        // A colon may be part of a path, which ends in a format.
        let is_other = |text: &str| is_label(text) && Format::of(Path::new(text)).is_none();
        let (place, label) = match place.rsplit_once(':') {
            Some((place, label)) if is_other(label) => (place, Some(label.to_owned())),
            _ => (place, None),
        };
        let volume = Self {
            place: place.to_owned(),
            label,
            read_only,
        };
        if place.contains('\0') || place.is_empty() {
            return Err(fault("is not a volume"));
        }
        if !volume.is_path() && !is_name(place) {
            return Err(fault("is not a volume"));
        }
        Ok(volume)
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if let Some(label) = &self.label {
            write!(f, ":{label}")?;
        }
        f.write_str(if self.read_only { ":ro" } else { "" })
    }
}

/// Format of a disk's file. The name says it, never the content: a guest writes the content of a raw disk, and could
/// write the header of a qcow2 file that names any file of the host as its backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// qcow2.
    Qcow2,
    /// The disk's bytes.
    Raw,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "qcow2" => Some(Self::Qcow2),
            "raw" | "img" => Some(Self::Raw),
            _ => None,
        }
    }

    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What the guest finds it by: the file's name without its extension, if no other was given.
    pub label: String,
    /// The file, as an absolute path.
    pub file: PathBuf,
    /// Its format.
    pub format: Format,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// Most volumes of a guest. A `microvm` has the fewest slots, 8 before QEMU 9: disk, card, entropy source, five volumes.
pub const MAX_VOLUMES: usize = 5;

/// Finds the files of volumes. `root` is the folder of the user's instances and volumes.
///
/// # Errors
/// One is not there, is no disk, or has another's label.
pub fn find(volumes: &[Volume], root: Option<&Path>) -> Result<Vec<Disk>, VolumeError> {
    if volumes.len() > MAX_VOLUMES {
        return Err(VolumeError::TooMany(volumes.len()));
    }
    let mut disks: Vec<Disk> = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let disk = find_one(volume, root)?;
        if let Some(other) = disks.iter().find(|other| other.label == disk.label) {
            return Err(VolumeError::SameLabel {
                label: disk.label,
                first: other.file.clone(),
                second: disk.file,
            });
        }
        disks.push(disk);
    }
    Ok(disks)
}

fn find_one(volume: &Volume, root: Option<&Path>) -> Result<Disk, VolumeError> {
    let file = if volume.is_path() {
        PathBuf::from(&volume.place)
    } else {
        let name = volume.place.clone();
        let folder = root
            .ok_or(VolumeError::NoFolder(name.clone()))?
            .join(store::FOLDER);
        let mut files = ["qcow2", "raw"]
            .map(|extension| folder.join(format!("{name}.{extension}")))
            .into_iter();
        files
            .find(|file| file.exists())
            .ok_or(VolumeError::NoName { name, folder })?
    };
    // Absolute, because QEMU runs in another folder.
    let file = std::path::absolute(&file).map_err(|source| VolumeError::Open { file, source })?;
    let format = Format::of(&file).ok_or_else(|| VolumeError::Format(file.clone()))?;
    let stem = || {
        file.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let label = volume.label.clone().unwrap_or_else(stem);
    if !is_label(&label) {
        return Err(VolumeError::Label { label });
    }
    check(&file, format)?;
    Ok(Disk {
        label,
        file,
        format,
        read_only: volume.read_only,
    })
}

/// Refuses what QEMU would refuse in other words.
fn check(file: &Path, format: Format) -> Result<(), VolumeError> {
    let unopened = |source| VolumeError::Open {
        file: file.to_owned(),
        source,
    };
    let mut opened = File::open(file).map_err(unopened)?;
    let metadata = opened.metadata().map_err(unopened)?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(VolumeError::NotAFile(file.to_owned()));
    }
    let mut magic = [0; QCOW2_MAGIC.len()];
    let is_qcow2 = opened.read_exact(&mut magic).is_ok() && magic == *QCOW2_MAGIC;
    match format {
        Format::Qcow2 if !is_qcow2 => Err(VolumeError::NotQcow2(file.to_owned())),
        Format::Qcow2 | Format::Raw => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn volume(text: impl AsRef<str>) -> Volume {
        text.as_ref().parse().unwrap()
    }

    #[test]
    fn reads_names_and_paths() {
        for (text, place, read_only, is_path) in [
            ("data", "data", false, false),
            ("data:ro", "data", true, false),
            ("data:rw", "data", false, false),
            ("./data.qcow2:ro", "./data.qcow2", true, true),
            ("data.raw", "data.raw", false, true),
            ("/a:b/c,d.qcow2", "/a:b/c,d.qcow2", false, true),
        ] {
            let volume = volume(text);
            assert_eq!((volume.place.as_str(), volume.read_only), (place, read_only));
            assert_eq!(volume.label, None);
            assert_eq!(volume.is_path(), is_path, "{text}");
            assert_eq!(volume.to_string().parse::<Volume>().unwrap(), volume);
        }
        for (text, label) in [("data:db:ro", "db"), ("/a:b/c.raw:db", "db"), ("data:rx", "rx")] {
            let volume = volume(text);
            assert_eq!(volume.label.as_deref(), Some(label), "{text}");
            assert_eq!(volume.to_string(), text);
        }
        for text in [
            "",
            ":ro",
            "..",
            "a b",
            "data:",
            "data:a b",
            ":db",
            &"x".repeat(65),
        ] {
            assert!(text.parse::<Volume>().is_err(), "{text}");
        }
    }

    #[test]
    fn finds_volumes_by_name_and_by_path() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("volumes");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("data.qcow2"), QCOW2_MAGIC).unwrap();
        // What a guest may have written: the name counts.
        let raw = root.path().join("a,b/scratch.raw");
        fs::create_dir(raw.parent().unwrap()).unwrap();
        fs::write(&raw, QCOW2_MAGIC).unwrap();

        let volumes = [volume("data:ro"), volume(raw.to_str().unwrap())];
        let disks = find(&volumes, Some(root.path())).unwrap();
        let found: Vec<_> = disks
            .iter()
            .map(|disk| (disk.label.as_str(), disk.format, disk.read_only))
            .collect();
        assert_eq!(
            found,
            [("data", Format::Qcow2, true), ("scratch", Format::Raw, false)]
        );
        assert_eq!(disks[1].file, raw);
    }

    #[test]
    fn says_what_is_wrong_with_a_volume() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name).display().to_string();
        fs::write(at("text.qcow2"), "not a disk").unwrap();
        fs::write(at("empty.raw"), "").unwrap();
        fs::write(at("disk.vmdk"), "x").unwrap();
        fs::write(at("a-name-that-is-too-long.raw"), "x").unwrap();
        fs::write(at("twice.raw"), "x").unwrap();
        let twice = at("twice.raw");
        for (texts, message) in [
            (&["nothing".to_owned()][..], "there is no volume `nothing` in `"),
            (&[at("missing.raw")], "cannot be opened"),
            (&[at("text.qcow2")], "is not a qcow2 file"),
            (&[at("empty.raw")], "is not a file with a disk"),
            (&[at("")], "is neither"),
            (&[at("disk.vmdk")], "is neither `.qcow2` nor `.raw`"),
            (&[at("a-name-that-is-too-long.raw")], "cannot be a volume's label"),
            (&[twice.clone(), twice], "have the same label `twice`"),
        ] {
            let volumes: Vec<_> = texts.iter().map(volume).collect();
            let error = find(&volumes, Some(root.path())).unwrap_err().to_string();
            assert!(error.contains(message), "{texts:?}: {error}");
        }
        let many = vec![volume("x"); MAX_VOLUMES + 1];
        assert!(matches!(find(&many, None), Err(VolumeError::TooMany(6))));
        assert!(matches!(find(&many[..1], None), Err(VolumeError::NoFolder(_))));
    }
}
