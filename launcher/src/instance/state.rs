//! `state.json`: what an instance does. Its supervisor writes it; [`State::now`] is the truth even after that was killed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;
use crate::error::Error;
use crate::exit::{End, GuestExit};
use crate::forward::Forward;
use crate::process::ProcessId;
use crate::spec::MachineSpec;
use crate::supervisor::News;
use crate::time::Timestamp;

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It was never started.
    Created,
    /// Its guest runs.
    Running,
    /// Its guest stands still, because the host's disk is full; it goes on by itself when there is room.
    Paused,
    /// Its guest ended, and will be started again after a pause.
    Restarting,
    /// Its guest ended.
    Exited,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }

    /// Whether somebody has to be there, who supervises it.
    #[must_use]
    pub const fn is_supervised(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// The state of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// The process that supervises it, or was the last to.
    pub supervisor: Option<ProcessId>,
    /// QEMU's process, while there is one.
    pub qemu: Option<ProcessId>,
    /// When its guest was started the last time.
    pub started: Option<Timestamp>,
    /// When its guest ended the last time, if anybody was there to see it.
    pub ended: Option<Timestamp>,
    /// How its guest ended the last time.
    pub end: Option<End>,
    /// How often it was started again by its restart policy, since it was started by a user.
    pub restarts: u32,
    /// Its port forwards, with the ports that were chosen.
    pub forwards: Vec<Forward>,
    /// The port of 127.0.0.1 on which its QEMU waits for a debugger.
    pub gdb_port: Option<u16>,
    /// The address of its network card, as far as the guest told it.
    pub address: Option<String>,
    /// Whether its guest ends by itself when it is asked to.
    pub hears_stop: bool,
}

impl State {
    /// The state of an instance that was never started, and that this process creates.
    pub(super) fn created() -> Self {
        Self {
            phase: Phase::Created,
            supervisor: ProcessId::own().ok(),
            qemu: None,
            started: None,
            ended: None,
            end: None,
            restarts: 0,
            forwards: Vec::new(),
            gdb_port: None,
            address: None,
            hears_stop: false,
        }
    }

    /// A guest was started.
    pub(crate) fn start(&mut self, qemu: Option<ProcessId>, machine: &MachineSpec) {
        self.phase = Phase::Running;
        self.qemu = qemu;
        self.started = Some(Timestamp::now());
        self.ended = None;
        self.end = None;
        self.forwards.clone_from(&machine.forwards);
        self.gdb_port = machine.gdb_port;
        self.address = None;
        self.hears_stop = false;
    }

    /// The guest ended.
    pub(crate) fn finish(&mut self, phase: Phase, exit: &GuestExit) {
        self.phase = phase;
        self.qemu = None;
        self.ended = Some(Timestamp::now());
        self.end = Some(exit.into());
        self.address = None;
        self.hears_stop = false;
    }

    /// What is new of a guest that runs.
    pub(crate) fn update(&mut self, news: &News) {
        self.phase = if news.disk_full {
            Phase::Paused
        } else {
            Phase::Running
        };
        self.address = news.address.map(|address| address.to_string());
        self.hears_stop = news.hears_stop;
    }

    /// The state of the instance in `folder`, as it is now.
    ///
    /// # Errors
    /// There is none; its file is damaged.
    pub fn now(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(files::STATE);
        let state: Self = files::read_json(&path)?;
        if !state.is_abandoned() {
            return Ok(state);
        }
        // Its supervisor may have written its last word between our two looks.
        Ok(files::read_json::<Self>(&path)?.judged())
    }

    /// Whether the state says that somebody supervises the instance, and nobody does.
    fn is_abandoned(&self) -> bool {
        let lives = self.supervisor.as_ref().is_some_and(ProcessId::lives);
        self.phase.is_supervised() && !lives
    }

    /// The state without what is true no more: QEMU ended with its supervisor, and nobody saw how.
    pub(crate) fn judged(mut self) -> Self {
        if self.is_abandoned() {
            let exit = GuestExit::Lost("its supervisor was killed, or the machine was rebooted".to_owned());
            self.finish(Phase::Exited, &exit);
            self.ended = None;
        }
        self
    }
}
