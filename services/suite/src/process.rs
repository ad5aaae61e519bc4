//! A service that was started as a process of the host. It ends with the test, also by a failure.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// A running service.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    name: &'static str,
}

/// The command of a service, with no variable that a service reads but these. Cargo builds the binaries of other
/// packages only when it is asked to.
#[must_use]
pub fn command(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        // Those of all packages, since the tests were compiled so: with the services alone, libraries that they share with
        // others would have fewer features, and be compiled once more.
        build.args(["build", "--workspace", "--bins"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let output = build.output().expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let test = std::env::current_exe().expect("a test has a path");
        test.ancestors().nth(2).expect("tests lie in `deps`").to_owned()
    });
    let mut command = Command::new(folder.join(name));
    for (variable, _) in std::env::vars() {
        if variable.starts_with("MICRO_") || variable == "PORT" {
            command.env_remove(variable);
        }
    }
    command.args(arguments).envs(environment.iter().copied());
    command
}

/// Runs a service that is to end by itself.
#[must_use]
pub fn run(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(name, arguments, environment)
        .output()
        .expect("the service starts")
}

impl Process {
    /// Starts a service.
    #[must_use]
    pub fn start(name: &'static str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(name, arguments, environment)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("stdout is piped");
        thread::spawn({
            let lines = lines.clone();
            move || collect(stdout, &lines)
        });
        Self { child, lines, name }
    }

    /// What it printed so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no test panics with it").clone()
    }

    /// Waits for a line that begins so, and gives the rest of it.
    #[must_use]
    pub fn line(&self, begin: &str) -> String {
        self.line_from(0, begin)
    }

    /// Waits for such a line among those from the `first` on.
    #[must_use]
    pub fn line_from(&self, first: usize, begin: &str) -> String {
        wait_for(&format!("`{begin}` of {}", self.name), || {
            let lines = self.lines();
            let found = lines.iter().skip(first).find_map(|line| line.strip_prefix(begin));
            found.map(str::to_owned)
        })
    }

    /// Kills it, as a machine that loses its power.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, as the launcher's `stop` asks a guest.
    ///
    /// # Panics
    /// It has ended, and somebody has waited for it.
    pub fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    /// Waits for its end; its exit code, if it has one.
    pub fn wait(&mut self) -> Option<i32> {
        wait_for(&format!("the end of {}", self.name), || {
            self.child.try_wait().expect("it is ours")
        })
        .code()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// The most memory that it had, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("Linux tells the peak of a process's memory") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let mut lines = self.lines();
            lines.dedup();
            eprintln!("{}:\n  {}", self.name, lines.join("\n  "));
        }
    }
}

fn collect(stdout: impl Read, lines: &Mutex<Vec<String>>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        lines.lock().expect("no test panics with it").push(line);
    }
}
