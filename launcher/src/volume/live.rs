//! What a machine that runs does with its volumes while it runs.
//!
//! Commands ask the instance's supervisor ([`crate::service`]), which asks QEMU.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Disk, User, VolumeError, VolumeName};
use crate::command_line;
use crate::error::Error;
use crate::machine::Machine;
use crate::service::{self, Answer, Question};
use crate::supervisor::Refusal;

/// Puts `file`, an empty overlay of all that is on the volume, on top of it.
pub(super) fn overlay(volume: &VolumeName, user: &User, file: &Path) -> Result<(), Error> {
    let question = Question::Overlay {
        label: user.label.clone(),
        file: file.to_owned(),
    };
    ask(volume, user, "begin a new layer", &question)
}

/// Gives the volume another size, in bytes.
pub(super) fn resize(volume: &VolumeName, user: &User, size: u64) -> Result<(), Error> {
    let question = Question::Resize {
        label: user.label.clone(),
        size,
    };
    ask(volume, user, "give it another size", &question)
}

fn ask(volume: &VolumeName, user: &User, step: &'static str, question: &Question) -> Result<(), Error> {
    let refused = |refusal: Refusal| VolumeError::Live {
        volume: volume.clone(),
        holder: user.instance.clone(),
        step,
        refusal,
    };
    match service::ask(&user.seen, question) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(refused(refusal).into()),
        Err(Error::NotRunning { .. }) => Err(refused(Refusal::certain("it has ended just now")).into()),
        Ok(_) => Err(refused(Refusal::certain("its supervisor knows no such question")).into()),
        Err(error) => Err(error),
    }
}

impl Machine {
    /// Puts a qcow2 file on top of a volume: what the guest writes from now on goes there. All that it was told is written
    /// is below.
    pub(crate) fn overlay_volume(&self, label: &str, file: &Path) -> Result<(), Refusal> {
        let (drive, volume) = self.drive_of(label)?;
        // QEMU opens what it has once more, without the right to write, by the name that it knows.
        let mut names = self.volume_names();
        let known = names.get(label).unwrap_or(&volume.file);
        let _name = Name::give(&volume.file, known)?;
        if !self.has_open(known) {
            return Err(Refusal::certain(
                "it has another file open than the volume's; `restart` it",
            ));
        }
        let node = format!("{drive}-{}", self.shared().next_number());
        let add = json!({
            "driver": "qcow2",
            "node-name": node,
            "discard": "unmap",
            "file": { "driver": "file", "filename": file },
            // What it stands on is what the machine has open.
            "backing": null,
        });
        self.shared().ask_qemu("blockdev-add", &add)?;
        let switch = json!({ "node": drive, "overlay": node });
        let switched = self.shared().ask_qemu("blockdev-snapshot", &switch);
        if switched.is_err() {
            // It is nobody's; that it stays open is no harm.
            let _ = self
                .shared()
                .ask_qemu("blockdev-del", &json!({ "node-name": node }));
        }
        if !switched.as_ref().is_err_and(|refusal| refusal.is_certain) {
            names.insert(label.to_owned(), file.to_owned());
        }
        switched
    }

    /// Whether QEMU has a file open.
    fn has_open(&self, file: &Path) -> bool {
        let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let Some((process, wanted)) = self.process().zip(identity(file)) else {
            return false;
        };
        let open = fs::read_dir(format!("/proc/{}/fd", process.pid))
            .into_iter()
            .flatten();
        open.flatten().any(|open| identity(&open.path()) == Some(wanted))
    }

    /// Gives a volume another size, which the guest is told.
    pub(crate) fn resize_volume(&self, label: &str, size: u64) -> Result<(), Refusal> {
        let (drive, _) = self.drive_of(label)?;
        self.shared()
            .ask_qemu("block_resize", &json!({ "device": drive, "size": size }))
    }

    fn drive_of(&self, label: &str) -> Result<(String, &Disk), Refusal> {
        let mut volumes = self.spec().volumes.iter().enumerate();
        let found = volumes.find(|(_, disk)| disk.label == label);
        found
            .map(|(at, disk)| (command_line::volume_id(at), disk))
            .ok_or_else(|| Refusal::certain(format!("it has no volume `{label}`")))
    }
}

/// A name that a file has for a moment.
struct Name(Option<PathBuf>);

impl Name {
    /// Gives a file another name, if that is another.
    fn give(file: &Path, name: &Path) -> Result<Self, Refusal> {
        if name == file {
            return Ok(Self(None));
        }
        fs::hard_link(file, name)
            .map(|()| Self(Some(name.to_owned())))
            .map_err(|error| Refusal::certain(format!("cannot make `{}`: {error}", name.display())))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            // Whoever takes the lock next does it otherwise.
            let _ = fs::remove_file(name);
        }
    }
}
