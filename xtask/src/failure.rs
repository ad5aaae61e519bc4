//! What can go wrong on the command line, and the exit code of each.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | success; for `run`, the guest's own status |
//! | 1 | a check, test, composition or `image` command failed |
//! | 2 | wrong usage (clap's own code) |
//! | 125 | the launcher could not start or watch the guest |
//! | 126 | the image could not be started |
//! | 127 | the image has no such role |
//! | 130, 143 | `run` was stopped by Ctrl-C, by SIGTERM |
//!
//! A guest that was ended by a panic, an abort and the like has the codes of `hermitage_boot::Reason::code`.

use std::path::PathBuf;
use std::process::ExitCode;

/// An error at the edge: what is printed, and the code that the process exits with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Wrong usage that clap cannot see by itself.
    #[error("{0}")]
    Usage(String),
    /// Something that was asked for did not hold: a test, a check.
    #[error("{0}")]
    Failed(String),
    /// An image that was not composed.
    #[error("there is no image `{name}`")]
    NoImage {
        /// Its name.
        name: String,
        /// The names of those that were.
        composed: Vec<String>,
    },
    /// A package that is not there.
    #[error("there is no package `{name}`")]
    NoPackage {
        /// Its name, or the path to it.
        name: String,
        /// The names of those that are.
        known: Vec<String>,
    },
    /// An image that cannot be updated, since instances run on it.
    #[error("`{}` cannot be updated: the instance `{}` uses it", image.display(), instances.join("`, `"))]
    InUse {
        /// The image.
        image: PathBuf,
        /// The instances' names.
        instances: Vec<String>,
    },
    /// A guest could not be planned, started or watched.
    #[error(transparent)]
    Launcher(#[from] launcher::Error),
    /// A tool of the host is missing, and could not be installed.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
    /// There is no guest toolchain, and none could be provided.
    #[error(transparent)]
    Toolchain(#[from] builder::toolchain::ToolchainError),
    /// An image was not composed.
    #[error(transparent)]
    Package(#[from] builder::package::PackageError),
    /// An image cannot be looked at.
    #[error(transparent)]
    Inspect(#[from] builder::inspect::InspectError),
}

impl Failure {
    /// The documented exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_)
            | Self::Host(_)
            | Self::Toolchain(_)
            | Self::Package(_)
            | Self::InUse { .. }
            | Self::Inspect(_)
            | Self::NoPackage { .. } => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::NoImage { .. } => ExitCode::from(126),
            Self::Launcher(error) => ExitCode::from(launcher_code(error)),
        }
    }

    /// What the user can do about it, printed behind `hint:`.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(_) | Self::Failed(_) => None,
            Self::NoImage { name, composed } if composed.is_empty() => {
                Some(format!("compose it with `cargo xtask compose {name}`"))
            }
            Self::NoImage { name, composed } => {
                let composed = composed.join("`, `");
                Some(format!(
                    "compose it with `cargo xtask compose {name}`, or run one of `{composed}`"
                ))
            }
            Self::InUse { .. } => {
                Some("stop it, or compose without `--update`, which leaves the old image to it".to_owned())
            }
            Self::Launcher(launcher::Error::NoBootSet { name, known, .. }) if !known.is_empty() => {
                builder::suggest::did_you_mean(name, known)
            }
            Self::Launcher(error) => error.hint(),
            Self::Host(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Package(error) => error.hint(),
            Self::Inspect(error) => error.hint(),
            Self::NoPackage { name, known } => builder::suggest::suggest(name, known),
        }
    }
}

fn launcher_code(error: &launcher::Error) -> u8 {
    use launcher::Error;
    match error {
        Error::NoCommand { .. }
        | Error::NoBootSet { .. }
        | Error::EmptyCommand
        | Error::Command { .. }
        | Error::BootConfig(_)
        | Error::ForwardsClash { .. } => 2,
        Error::NoImage(_) | Error::Disk(_) => 126,
        Error::PortInUse { .. }
        | Error::Port { .. }
        | Error::NoKvm(_)
        | Error::NoQemu { .. }
        | Error::UnknownQemu { .. }
        | Error::OldQemu { .. }
        | Error::Running { .. }
        | Error::Io { .. }
        | Error::Process { .. }
        | Error::EndedBefore { .. }
        | Error::NotReached { .. } => 125,
    }
}
