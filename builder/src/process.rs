//! Other programs: a command is a value first (`Invocation`), can be shown as a user would type it, and is then
//! run in a scrubbed environment with its output captured. It knows nothing of what the programs do.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::event::{Event, Observer};

/// How often [`Watch::Tick`] comes while a program is silent: often enough for a smooth progress bar.
const TICK: Duration = Duration::from_millis(100);

/// Why a program gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start `{program}`")]
    Start {
        /// The program's name or path.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Its output could not be read, or it could not be waited for.
    #[error("lost contact with `{program}`")]
    Lost {
        /// The program's name or path.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended without success. What it wrote to stderr follows the message unchanged.
    #[error("`{command}` failed: {status}\n{stderr}")]
    Failed {
        /// The command: program and arguments. The whole of it was told to the observer.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
}

impl ProcessError {
    /// Whether the program is not on this machine at all.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What a successful program wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// What it wrote to stdout; bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// What happens while a program runs.
pub(crate) enum Watch<'a> {
    /// It wrote a line to stdout.
    Line(&'a [u8]),
    /// It wrote nothing for a while.
    Tick,
}

/// A command: program, arguments, folder, and how its environment differs from ours.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: BTreeMap<OsString, OsString>,
}

impl Invocation {
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            directory: None,
            environment: BTreeMap::new(),
        }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    pub(crate) fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs the program to its end, and says that to the observer first.
    pub(crate) fn run(&self, observer: &dyn Observer) -> Result<Output, ProcessError> {
        self.watch(observer, |_| {})
    }

    /// As [`Self::run`]; `watch` is called for each line of stdout, and from time to time.
    pub(crate) fn watch(
        &self,
        observer: &dyn Observer,
        mut watch: impl FnMut(Watch<'_>),
    ) -> Result<Output, ProcessError> {
        observer.event(&Event::Command(self.to_string()));
        let mut child = self.spawn()?;
        let lost = |source| ProcessError::Lost {
            program: self.program.clone(),
            source,
        };
        let output = collect(&mut child, &mut watch).map_err(lost)?;
        let status = child.wait().map_err(lost)?;
        self.judge(status, &output.stderr)?;
        Ok(output)
    }

    /// Runs the program while `read` takes its stdout. If `read` fails, the program is ended, and that error is
    /// the inner result.
    pub(crate) fn pipe<T>(
        &self,
        observer: &dyn Observer,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> Result<io::Result<T>, ProcessError> {
        observer.event(&Event::Command(self.to_string()));
        let mut child = self.spawn()?;
        let lost = |source| ProcessError::Lost {
            program: self.program.clone(),
            source,
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            let errors = scope.spawn(move || {
                let mut errors = Vec::new();
                stderr.map_or(Ok(0), |mut stderr| stderr.read_to_end(&mut errors))?;
                Ok(errors)
            });
            let result = stdout.map_or(Err(io::ErrorKind::BrokenPipe.into()), |mut stdout| {
                let result = read(&mut stdout)?;
                // What follows the part that was of interest, so that the program can end in order.
                io::copy(&mut stdout, &mut io::sink())?;
                Ok(result)
            });
            if result.is_err() {
                // It may have ended by itself already.
                let _ = child.kill();
            }
            let status = child.wait().map_err(lost)?;
            let errors = errors.join().unwrap_or_else(|_| Ok(Vec::new())).map_err(lost)?;
            if result.is_ok() {
                self.judge(status, &errors)?;
            }
            Ok(result)
        })
    }

    /// Program and arguments alone: in an error, what was done counts, not how its environment was set up.
    pub(crate) fn brief(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        let arguments = self.arguments.iter().map(OsString::as_os_str);
        let words: Vec<_> = iter::once(program).chain(arguments).map(quoted).collect();
        words.join(" ")
    }

    fn judge(&self, status: ExitStatus, stderr: &[u8]) -> Result<(), ProcessError> {
        if status.success() {
            return Ok(());
        }
        Err(ProcessError::Failed {
            command: self.brief(),
            status,
            stderr: String::from_utf8_lossy(stderr).trim_end().to_owned(),
        })
    }

    fn spawn(&self) -> Result<Child, ProcessError> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.spawn().map_err(|source| ProcessError::Start {
            program: self.program.clone(),
            source,
        })
    }
}

/// The command as a user would type it.
impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(directory) = &self.directory {
            write!(f, "cd {} && ", quoted(directory.as_os_str()))?;
        }
        for (name, value) in &self.environment {
            write!(f, "{}={} ", name.to_string_lossy(), quoted(value))?;
        }
        f.write_str(&quoted(self.program.as_os_str()))?;
        for argument in &self.arguments {
            write!(f, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

fn quoted(text: &OsStr) -> String {
    shell_words::quote(&text.to_string_lossy()).into_owned()
}

/// Whether a variable of our environment reaches the programs that we run. We are often started by cargo, which
/// sets dozens of variables about the *host's* build, some of which would change the guest's: those stay out.
/// What says where cargo and rustup keep their data, and how they reach the network, stays in.
fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let ours_to_set = name.starts_with("CARGO") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH";
    let users_own = matches!(&*name, "CARGO_HOME" | "RUSTUP_HOME" | "RUSTUP_AUTO_INSTALL")
        || [
            "CARGO_NET_",
            "CARGO_HTTP_",
            "CARGO_REGISTRIES_",
            "CARGO_SOURCE_",
            "RUSTUP_DIST_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    users_own || !ours_to_set
}

enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Reads both outputs until they end, in a thread each, so that neither can fill up and stall the program.
fn collect(child: &mut Child, watch: &mut impl FnMut(Watch<'_>)) -> io::Result<Output> {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let errors = sender.clone();
        scope.spawn(move || forward(stdout, Piece::Stdout, &sender));
        scope.spawn(move || forward(stderr, Piece::Stderr, &errors));
        let mut output = Output::default();
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Ok(Piece::Stdout(line))) => {
                    watch(Watch::Line(&line));
                    output.stdout.extend_from_slice(&line);
                }
                Ok(Ok(Piece::Stderr(line))) => output.stderr.extend_from_slice(&line),
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => watch(Watch::Tick),
                Err(RecvTimeoutError::Disconnected) => return Ok(output),
            }
        }
    })
}

fn forward(source: Option<impl Read>, kind: fn(Vec<u8>) -> Piece, sender: &Sender<io::Result<Piece>>) {
    let Some(source) = source else { return };
    let mut reader = BufReader::new(source);
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line);
        let last = !matches!(read, Ok(1..));
        if matches!(read, Ok(0)) || sender.send(read.map(|_| kind(line))).is_err() || last {
            return;
        }
    }
}

/// Where `name` is, by the folders of `path`, as a shell would find it.
pub(crate) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").arg("-c").arg(script)
    }

    #[test]
    fn captures_both_outputs_however_long_they_are() {
        let script = "i=0; while [ $i -lt 5000 ]; do echo out$i; echo err$i >&2; i=$((i+1)); done";
        let mut lines = 0;
        let output = shell(script)
            .watch(&Silent, |watch| {
                lines += u32::from(matches!(watch, Watch::Line(_)));
            })
            .unwrap();
        assert_eq!(lines, 5000);
        assert!(output.text().ends_with("out4999\n"));
        assert!(output.stderr.ends_with(b"err4999\n"));
    }

    #[test]
    fn shows_the_command_its_status_and_its_stderr_unchanged_when_it_fails() {
        let error = shell("echo 'no such thing: ü' >&2; exit 3")
            .env("A", "b c")
            .run(&Silent)
            .unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh -c "), "{text}");
        assert!(
            text.ends_with("failed: exit status: 3\nno such thing: ü"),
            "{text}"
        );
        assert!(!error.is_missing());
    }

    #[test]
    fn is_shown_as_a_user_would_type_it() {
        let command = shell("echo $A").env("A", "b c").directory("/tmp");
        assert_eq!(command.to_string(), "cd /tmp && A='b c' sh -c 'echo $A'");
    }

    #[test]
    fn tells_a_missing_program_from_a_failing_one() {
        assert!(
            Invocation::new("hermitage-no-such-program")
                .run(&Silent)
                .unwrap_err()
                .is_missing()
        );
    }

    #[test]
    fn keeps_the_outer_cargo_out_and_the_users_settings_in() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
        ] {
            assert!(!is_passed_on(OsStr::new(name)), "{name}");
        }
        for name in [
            "HOME",
            "PATH",
            "CI",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_NET_OFFLINE",
            "https_proxy",
        ] {
            assert!(is_passed_on(OsStr::new(name)), "{name}");
        }
    }
}
