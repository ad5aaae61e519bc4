//! What can go wrong with volumes.

use std::io;
use std::path::PathBuf;

use super::convert::IMAGE_TOOL;
use super::{MAX_LABEL, MAX_VOLUMES, SnapshotName, VolumeName};
use crate::supervisor::Refusal;
use crate::units::InstanceName;

/// Why a volume cannot be attached, or be done something with.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume of this name.
    #[error("there is no volume `{name}` in `{}`", folder.display())]
    NoName {
        /// The name.
        name: String,
        /// Where volumes are kept.
        folder: PathBuf,
    },
    /// A name, but nothing says where volumes are kept.
    #[error("volume `{0}` is a name, and neither HERMITAGE_ROOT nor HOME says where volumes are kept")]
    NoFolder(String),
    /// The file cannot be opened.
    #[error("volume `{}` cannot be opened", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file's name does not say its format.
    #[error("volume `{}` is neither `.qcow2` nor `.raw`", .0.display())]
    Format(PathBuf),
    /// The file is not what its name says.
    #[error("volume `{}` is not a qcow2 file", .0.display())]
    NotQcow2(PathBuf),
    /// Somebody wrote to it while it was to be changed.
    #[error("volume `{0}` was written to meanwhile; nothing was changed")]
    Changed(VolumeName),
    /// The file is no file.
    #[error("volume `{}` is not a file with a disk in it", .0.display())]
    NotAFile(PathBuf),
    /// A name that no disk's serial can be.
    #[error("`{label}` cannot be a volume's label")]
    Label {
        /// The file's name without its extension.
        label: String,
    },
    /// Two volumes of one label, or one volume twice.
    #[error("`{}` and `{}` have the same label `{label}`", first.display(), second.display())]
    SameLabel {
        /// The label.
        label: String,
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A running instance has it.
    #[error("volume `{name}` is attached to instance `{holder}`, which runs")]
    InUse {
        /// The volume.
        name: String,
        /// The instance.
        holder: InstanceName,
    },
    /// A running instance writes to it: a copy would be of no moment.
    #[error("volume `{name}` is written to by instance `{holder}`")]
    Written {
        /// The volume.
        name: VolumeName,
        /// The instance.
        holder: InstanceName,
    },
    /// The name is taken.
    #[error("there is a volume `{name}` already, `{}`", file.display())]
    Exists {
        /// The name.
        name: String,
        /// Its file.
        file: PathBuf,
    },
    /// No snapshot of this name.
    #[error("volume `{volume}` has no snapshot `{snapshot}`")]
    NoSnapshot {
        /// The volume.
        volume: VolumeName,
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// The snapshot's name is taken.
    #[error("volume `{volume}` has a snapshot `{snapshot}` already")]
    SnapshotExists {
        /// The volume.
        volume: VolumeName,
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// What was to be removed has snapshots.
    #[error("volume `{volume}` has snapshots: {}", listed(snapshots))]
    HasSnapshots {
        /// The volume.
        volume: VolumeName,
        /// Their names.
        snapshots: Vec<SnapshotName>,
    },
    /// Only qcow2 has layers.
    #[error("volume `{}` is raw, of which there are no snapshots and clones", .0.display())]
    Raw(PathBuf),
    /// It would lose what lies beyond its new end.
    #[error("volume `{volume}` has {from} bytes; {to} are fewer")]
    Shrink {
        /// The volume.
        volume: VolumeName,
        /// Its size in bytes.
        from: u64,
        /// What was asked for.
        to: u64,
    },
    /// Its layer below is larger than it was asked to be.
    #[error("volume `{volume}` cannot get smaller: it has snapshots or clones, or is one")]
    ShrinkLayered {
        /// The volume.
        volume: VolumeName,
    },
    /// Another command changes volumes.
    #[error("the volumes in `{}` are being changed by another command", .0.display())]
    Locked(PathBuf),
    /// A running instance could not do it.
    #[error("instance `{holder}`, which has volume `{volume}`, cannot {step}: {}", refusal.reason)]
    Live {
        /// The volume.
        volume: VolumeName,
        /// The instance.
        holder: InstanceName,
        /// What it was to do.
        step: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// The tool is not there.
    #[error("`{IMAGE_TOOL}` is not on the PATH")]
    NoTool,
    /// The tool failed.
    #[error("cannot {step} `{}`: {words}", file.display())]
    Tool {
        /// What was tried.
        step: &'static str,
        /// On what.
        file: PathBuf,
        /// What the tool said.
        words: String,
    },
    /// A folder where a disk's file is needed.
    #[error("`{}` is a folder; a volume is made from a disk's file", .0.display())]
    Folder(PathBuf),
    /// Its name does not say what the file is.
    #[error("`{}` is a disk in no format that its name would tell", .0.display())]
    ForeignFormat(PathBuf),
    /// A disk that names other files.
    #[error("`{}` refers to another file, `{other}`", file.display())]
    RefersToFile {
        /// The disk.
        file: PathBuf,
        /// What it names.
        other: String,
    },
    /// Nothing is overwritten.
    #[error("`{}` is there already", .0.display())]
    FileExists(PathBuf),
    /// A size that no disk has.
    #[error("a volume cannot have {0} bytes")]
    Size(u64),
    /// More than a machine has slots for.
    #[error("{0} volumes; a machine takes at most {MAX_VOLUMES}")]
    TooMany(usize),
}

impl VolumeError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoName { name, .. } => Some(format!(
                "make one with `cargo xtask volume create {name} -s 1G`, or give a path: `./{name}.qcow2`"
            )),
            Self::InUse { holder, .. } => Some(format!(
                "a volume has one writer at a time; `cargo xtask stop {holder}` stops that one"
            )),
            Self::Exists { name, .. } => Some(format!(
                "choose another name; `cargo xtask volume rm {name}` removes that one with all that is on it"
            )),
            Self::Size(_) => Some("a size is whole sectors of 512 bytes, such as `64M` or `1G`".to_owned()),
            Self::Format(_) => Some("rename it: its name says which format it has".to_owned()),
            Self::Label { .. } => Some(format!(
                "give it one, `:LABEL` behind the name: up to {MAX_LABEL} letters, digits, `-`, `_` or `.`; or `/data`"
            )),
            Self::Written { name, .. } => Some(format!(
                "export a snapshot: `cargo xtask volume snapshot {name} NOW`, then `{name}@NOW`"
            )),
            Self::NoSnapshot { volume, .. } => {
                Some(format!("`cargo xtask volume snapshots {volume}` lists them"))
            }
            Self::HasSnapshots { volume, .. } => Some(format!(
                "`cargo xtask volume rm --snapshots {volume}` removes them, too"
            )),
            Self::Raw(_) => {
                Some("make a qcow2 volume of it: `cargo xtask volume import NEW FILE`".to_owned())
            }
            Self::Shrink { volume, .. } => Some(format!(
                "`cargo xtask volume resize --shrink {volume} ...` cuts off what lies beyond; see to it that nothing does"
            )),
            Self::Locked(_) => Some("try again when that has ended".to_owned()),
            Self::NoTool => Some("`cargo xtask doctor --fix` installs it".to_owned()),
            Self::Folder(_) => Some("make an empty volume with `cargo xtask volume create`".to_owned()),
            Self::ForeignFormat(_) => Some(
                "say it: `--format raw|qcow2|vmdk|vdi|vhdx|vpc`; it is not guessed, since who wrote a raw disk can make \
                 it look like another"
                    .to_owned(),
            ),
            Self::RefersToFile { file, .. } => Some(format!(
                "if you know where it comes from, make it independent: `qemu-img convert -O qcow2 {} NEW.qcow2`",
                file.display()
            )),
            Self::FileExists(_) => Some("remove it, or choose another name".to_owned()),
            _ => None,
        }
    }
}

fn listed(names: &[SnapshotName]) -> String {
    let names: Vec<_> = names.iter().map(SnapshotName::as_str).collect();
    format!("`{}`", names.join("`, `"))
}
