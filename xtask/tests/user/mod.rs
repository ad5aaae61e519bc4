//! A user of the command line with an image and a place for instances, and what a command gives back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::stand_in::{self, Step};

/// Far more than anything here needs on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A guest that says a word and then does nothing.
pub(crate) const READY: [Step<'_>; 2] = [Step::Console("ready\n"), Step::Halt];

/// A user with an image and a place for instances. What runs when the test ends is killed.
pub(crate) struct User {
    folder: TempDir,
    pub(crate) image: PathBuf,
}

impl User {
    pub(crate) fn with_guest(steps: &[Step<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = stand_in::image(folder.path(), steps);
        Self { folder, image }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.folder().join("root/instances")
    }

    pub(crate) fn instance(&self, name: &str) -> PathBuf {
        self.instances().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .env("HERMITAGE_ROOT", self.folder().join("root"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn xtask(&self, arguments: &[&str]) -> Seen {
        // If a process in the background kept our pipes, this would wait for its end.
        Seen::of(self.command(arguments).output().unwrap())
    }

    /// `run --rm --accel tcg IMAGE` with more arguments.
    pub(crate) fn in_front(&self, more: &[&str]) -> Command {
        let mut command = self.command(&["run", "--rm", "--accel", "tcg"]);
        command.args(more).arg(&self.image);
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> Seen {
        Seen::of(self.in_front(more).output().unwrap())
    }

    /// `run -d --accel tcg IMAGE` with more arguments.
    pub(crate) fn detach(&self, more: &[&str]) -> Seen {
        let image = self.image.to_str().unwrap();
        self.xtask(&[&["run", "-d", "--accel", "tcg"], more, &[image]].concat())
    }

    /// What `ps` says of an instance.
    pub(crate) fn facts(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.xtask(&["ps", "-a", "--json"]).ok()).unwrap();
        let mut list = list.as_array().unwrap().iter();
        list.find(|facts| facts["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// Kills one of an instance's processes, as the machine's administrator might.
    pub(crate) fn kill(&self, name: &str, process: &str) {
        let pid = self.facts(name)[process].as_i64().unwrap();
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.instances()).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let _ = self.command(&["kill", &name]).output();
        }
    }
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Seen {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in {self:?}");
        }
        assert_eq!(self.stdout, "");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process that runs in this folder, as QEMU does in its instance's.
pub(crate) fn process_in(folder: &Path) -> Option<Pid> {
    let runs_inside = |process: &fs::DirEntry| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let process = fs::read_dir("/proc").unwrap().flatten().find(runs_inside)?;
    Pid::from_raw(process.file_name().to_str()?.parse().ok()?)
}

pub(crate) fn is_used(folder: &Path) -> bool {
    process_in(folder).is_some()
}
