//! What a machine that runs does with its volumes while it runs.
//!
//! Commands ask the instance's supervisor ([`crate::service`]), which asks QEMU.

use std::path::Path;

use serde_json::json;

use super::{User, VolumeError, VolumeName};
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
        let drive = self.drive_of(label)?;
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
        switched
    }

    /// Gives a volume another size, which the guest is told.
    pub(crate) fn resize_volume(&self, label: &str, size: u64) -> Result<(), Refusal> {
        let drive = self.drive_of(label)?;
        self.shared()
            .ask_qemu("block_resize", &json!({ "device": drive, "size": size }))
    }

    fn drive_of(&self, label: &str) -> Result<String, Refusal> {
        let mut volumes = self.spec().volumes.iter();
        let at = volumes.position(|disk| disk.label == label);
        at.map(command_line::volume_id)
            .ok_or_else(|| Refusal::certain(format!("it has no volume `{label}`")))
    }
}
