//! Runs the host's cargo with the guest's compiler: in a scrubbed environment, its output captured, its progress
//! told as events. It does not own what is built; the stages do.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::event::{Event, Stage, Unit};
use crate::process::{self, Invocation, ProcessError, Watch};
use crate::session::Session;
use crate::toolchain::GuestToolchain;

/// Why cargo built nothing.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// There is no cargo.
    #[error("no `cargo` on this machine")]
    Missing,
    /// Something does not compile, or a crate cannot be fetched. What cargo and the compiler say follows unchanged.
    #[error("cannot {task}: `{command}` failed\n{output}")]
    Failed {
        /// What was to be done.
        task: String,
        /// The command: program and arguments.
        command: String,
        /// What cargo and the compiler wrote.
        output: String,
        /// Whether cargo was told to stay off the network.
        offline: bool,
    },
    /// It could not be run.
    #[error(transparent)]
    Process(ProcessError),
    /// It says things that we do not understand.
    #[error("cannot read what `{command}` says: {reason}")]
    Answer {
        /// The command: program and arguments.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CargoError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing => Some("install Rust: https://rustup.rs".to_owned()),
            Self::Failed {
                offline: true,
                output,
                ..
            } if output.contains("offline") => {
                Some("run the same command once with a network: it fetches the crates".to_owned())
            }
            Self::Failed { output, .. } if output.contains("failed to download") => {
                Some("is there a network? Crates are fetched once, and kept by cargo".to_owned())
            }
            _ => None,
        }
    }
}

/// The host's cargo, set up to build for guests.
pub(crate) struct GuestCargo<'a> {
    session: &'a Session<'a>,
    toolchain: &'a GuestToolchain,
    cargo: PathBuf,
}

impl<'a> GuestCargo<'a> {
    pub(crate) fn new(session: &'a Session<'a>, toolchain: &'a GuestToolchain) -> Result<Self, CargoError> {
        Ok(Self {
            session,
            toolchain,
            cargo: host_cargo(session)?,
        })
    }

    /// `cargo build` of something for `target`, optimised, with `rustflags`, into `target_folder`.
    pub(crate) fn build(&self, target: &str, target_folder: &Path, rustflags: &[String]) -> Invocation {
        let mut path = vec![self.toolchain.sysroot().join("bin")];
        path.extend(env::split_paths(&self.session.environment.path));
        let path = env::join_paths(path).unwrap_or_else(|_| self.session.environment.path.clone());
        let invocation = Invocation::new(&self.cargo)
            .args(["build", "--quiet", "--release", "--locked"])
            .args(["--message-format", "json-render-diagnostics", "--target", target])
            .arg("--target-dir")
            .arg(target_folder)
            // The kernel's build script calls plain `rustc`, hence both ways to find it.
            .env("PATH", path)
            .env("RUSTC", self.toolchain.rustc())
            .env("LD_LIBRARY_PATH", self.toolchain.library_path())
            // -Zbuild-std and the kernel's own unstable features, with a stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            // Build scripts that record the time of the build take this for it: same inputs, same bytes.
            .env("SOURCE_DATE_EPOCH", "0")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"));
        self.online(invocation)
    }

    /// Runs a build to its end; gives what it made.
    pub(crate) fn run(
        &self,
        build: &Invocation,
        stage: Stage,
        what: &str,
    ) -> Result<Vec<Artifact>, CargoError> {
        let observer = self.session.observer;
        let mut artifacts = Vec::new();
        let mut unreadable = None;
        let result = build.watch(observer, |watch| {
            let Watch::Line(line) = watch else { return };
            match serde_json::from_slice(line) {
                Ok(Message::CompilerArtifact(artifact)) => {
                    artifacts.push(artifact);
                    observer.event(&Event::Progress {
                        stage,
                        unit: Unit::Crates,
                        done: artifacts.len() as u64,
                        total: None,
                        current: artifacts[artifacts.len() - 1].target.name.clone(),
                    });
                }
                Ok(Message::Other) => {}
                Err(error) => unreadable = Some(error.to_string()),
            }
        });
        let output = self.explained(result, format!("build {what}"))?;
        if !output.stderr.is_empty() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            observer.event(&Event::Diagnostics(text));
        }
        match unreadable {
            None => Ok(artifacts),
            Some(reason) => Err(CargoError::Answer {
                command: build.brief(),
                reason,
            }),
        }
    }

    /// The packages of the workspace itself; needs no network.
    pub(crate) fn members(&self, manifest: &Path) -> Result<Vec<Package>, CargoError> {
        self.packages(manifest, |invocation| invocation.arg("--no-deps"))
    }

    /// All packages that a manifest depends on, fetched.
    pub(crate) fn dependencies(&self, manifest: &Path) -> Result<Vec<Package>, CargoError> {
        self.packages(manifest, |invocation| {
            self.online(invocation.args(["--locked", "--filter-platform", "x86_64-unknown-none"]))
        })
    }

    fn packages(
        &self,
        manifest: &Path,
        options: impl FnOnce(Invocation) -> Invocation,
    ) -> Result<Vec<Package>, CargoError> {
        let invocation = Invocation::new(&self.cargo)
            .args(["metadata", "--quiet", "--format-version", "1", "--manifest-path"])
            .arg(manifest);
        let invocation = options(invocation);
        let task = format!("fetch what `{}` needs", manifest.display());
        let output = self.explained(invocation.run(self.session.observer), task)?;
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| CargoError::Answer {
                command: invocation.brief(),
                reason: error.to_string(),
            })?;
        Ok(metadata.packages)
    }

    fn online(&self, invocation: Invocation) -> Invocation {
        if self.session.environment.offline {
            invocation.arg("--offline")
        } else {
            invocation
        }
    }

    fn explained<T>(&self, result: Result<T, ProcessError>, task: String) -> Result<T, CargoError> {
        result.map_err(|error| match error {
            ProcessError::Failed { command, stderr, .. } => CargoError::Failed {
                task,
                command,
                output: stderr,
                offline: self.session.environment.offline,
            },
            error if error.is_missing() => CargoError::Missing,
            error => CargoError::Process(error),
        })
    }
}

/// The part of cargo's messages that we look at; their form is a stable interface of cargo.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    #[serde(other)]
    Other,
}

/// Something that cargo made, or found made.
#[derive(Deserialize)]
pub(crate) struct Artifact {
    pub(crate) target: Target,
    pub(crate) filenames: Vec<PathBuf>,
    pub(crate) executable: Option<PathBuf>,
}

/// A library, a program, a build script, ... of a package.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    kind: Vec<String>,
}

impl Target {
    /// Whether it is a program.
    pub(crate) fn is_bin(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package, as `cargo metadata` describes it.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    pub(crate) targets: Vec<Target>,
}

impl Package {
    /// The folder that holds its `Cargo.toml`.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new(""))
    }
}

/// Flags that keep this machine's paths out of what is built: same inputs, same bytes, wherever they lie.
pub(crate) fn remapped_paths(session: &Session<'_>, toolchain: &GuestToolchain) -> Vec<String> {
    let crates = session.environment.cargo_home.join("registry/src");
    [
        (session.workspace.clone(), "/hermitage"),
        (crates, "/crates"),
        (toolchain.sysroot().join("lib/rustlib/src/rust"), "/rust"),
    ]
    .into_iter()
    .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
    .collect()
}

/// The cargo itself: rustup's stand-in would put its own `rustc` in front of the guest's in `PATH`.
fn host_cargo(session: &Session<'_>) -> Result<PathBuf, CargoError> {
    let environment = &session.environment;
    if environment.cargo.is_absolute() {
        return Ok(environment.cargo.clone());
    }
    let cargo = process::find("cargo", &environment.path).ok_or(CargoError::Missing)?;
    let is_rustup = cargo
        .canonicalize()
        .is_ok_and(|file| file.file_name() == Some(&OsString::from("rustup")));
    if !is_rustup {
        return Ok(cargo);
    }
    let output = Invocation::new(cargo.with_file_name("rustup"))
        .args(["which", "cargo"])
        .directory(&session.workspace)
        .run(session.observer)
        .map_err(CargoError::Process)?;
    Ok(PathBuf::from(output.text().trim()))
}
