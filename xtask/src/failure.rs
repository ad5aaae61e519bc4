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
//! | 129, 130, 143 | `run` was stopped by a hang-up, or since nobody reads it any more; by Ctrl-C; by SIGTERM |
//!
//! A guest that was ended by a panic, an abort and the like has the codes of `hermitage_boot::Reason::code`.

use std::error::Error;
use std::iter;
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
    /// Another process of ours failed with this code, and has said why.
    #[error("not started")]
    Said(Option<i32>),
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
    /// An image that cannot be changed, since something runs on it.
    #[error("`{}` cannot be {change}: {}", image.display(), using(instances))]
    InUse {
        /// The image.
        image: PathBuf,
        /// What was to be done: `updated`, `removed`, `renamed`.
        change: &'static str,
        /// The names of the instances, as far as it is instances.
        instances: Vec<String>,
    },
    /// An image that cannot be removed or renamed, since the disks of stopped instances are overlays of it.
    #[error("`{}` cannot be {change}: it backs the disk of {}", image.display(), named(instances))]
    Needed {
        /// The image.
        image: PathBuf,
        /// What was to be done.
        change: &'static str,
        /// The instances' names.
        instances: Vec<String>,
    },
    /// An image cannot be removed or renamed.
    #[error(transparent)]
    Images(#[from] builder::images::ImagesError),
    /// A stack that is none, or not what was asked for.
    #[error(transparent)]
    Stack(#[from] stack::StackError),
    /// A stack could not be made to run.
    #[error(transparent)]
    Run(#[from] stack::RunError),
    /// A stack that has no instances.
    #[error("there is no such stack")]
    NoStack {
        /// Those that have.
        running: Vec<String>,
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
    /// The repository, or a package in it, cannot be used.
    #[error(transparent)]
    Repository(#[from] builder::repository::RepositoryError),
    /// A package's archive was not made.
    #[error(transparent)]
    Build(builder::repository::BuildError),
    /// A network cannot be used.
    #[error(transparent)]
    Network(#[from] hermitage_network::store::StoreError),
    /// A network's process cannot serve it.
    #[error(transparent)]
    Serve(#[from] hermitage_network::server::ServeError),
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
            | Self::Needed { .. }
            | Self::Images(_)
            | Self::Network(_)
            | Self::Serve(_)
            | Self::Inspect(_)
            | Self::Repository(_)
            | Self::Build(_)
            | Self::Stack(_)
            | Self::NoStack { .. }
            | Self::NoPackage { .. } => ExitCode::from(1),
            Self::Run(error) => ExitCode::from(run_code(error)),
            Self::Usage(_) => ExitCode::from(2),
            Self::Said(code) => {
                let code = code.and_then(|code| u8::try_from(code).ok());
                ExitCode::from(code.unwrap_or(125))
            }
            Self::NoImage { .. } => ExitCode::from(126),
            Self::Launcher(error) => ExitCode::from(launcher_code(error)),
        }
    }

    /// What the user can do about it, printed behind `hint:`.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(_) | Self::Failed(_) | Self::Said(_) => None,
            Self::NoImage { name, composed } if composed.is_empty() => {
                Some(format!("compose it with `cargo xtask compose {name}`"))
            }
            Self::NoImage { name, composed } => {
                let composed = composed.join("`, `");
                Some(format!(
                    "compose it with `cargo xtask compose {name}`, or run one of `{composed}`"
                ))
            }
            Self::InUse {
                change: "updated", ..
            } => Some("stop it, or compose without `--update`, which leaves the old image to it".to_owned()),
            Self::InUse { .. } => Some("stop it first".to_owned()),
            Self::Needed { .. } => {
                Some("`--force` does it all the same; what is on that disk is lost then".to_owned())
            }
            Self::Launcher(launcher::Error::NoBootSet { name, known, .. }) if !known.is_empty() => {
                builder::suggest::did_you_mean(name, known)
            }
            Self::Images(error) => error.hint(),
            Self::Launcher(error) => error.hint(),
            Self::Host(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Package(error) => error.hint(),
            Self::Inspect(error) => error.hint(),
            Self::Repository(error) => error.hint(),
            Self::Build(error) => error.hint(),
            Self::Network(error) => network_hint(error),
            Self::Serve(_) => None,
            Self::Stack(stack::StackError::NoService { service, known, .. }) => {
                builder::suggest::suggest(service, known)
            }
            Self::Stack(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::NoStack { running } if running.is_empty() => {
                Some("start one with `cargo xtask up PACKAGE`".to_owned())
            }
            Self::NoStack { running } => Some(format!("there are `{}`", running.join("`, `"))),
            Self::NoPackage { name, known } => builder::suggest::suggest(name, known),
        }
    }
}

/// What led to an error, from its cause to the first of all.
pub(crate) fn causes(error: &dyn Error) -> impl Iterator<Item = &dyn Error> {
    iter::successors(error.source(), |cause| (**cause).source())
}

/// `the instance `a` uses it`
fn using(instances: &[String]) -> String {
    match instances.len() {
        0 => "it is in use".to_owned(),
        1 => format!("{} uses it", named(instances)),
        _ => format!("{} use it", named(instances)),
    }
}

/// `the instances `a`, `b``
fn named(instances: &[String]) -> String {
    let plural = if instances.len() == 1 { "" } else { "s" };
    format!("the instance{plural} `{}`", instances.join("`, `"))
}

fn network_hint(error: &hermitage_network::store::StoreError) -> Option<String> {
    use hermitage_network::store::StoreError;
    match error {
        StoreError::Unknown { name, known } => builder::suggest::did_you_mean(name.as_str(), known)
            .or_else(|| Some("`cargo xtask network ls` lists those that there are".to_owned())),
        StoreError::InUse { .. } => Some("stop them first".to_owned()),
        _ => None,
    }
}

fn run_code(error: &stack::RunError) -> u8 {
    use stack::RunError;
    match error {
        RunError::Launcher(error) => launcher_code(error),
        RunError::NotStarted { code, .. } => code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125),
        RunError::Network(_) | RunError::Name(_) | RunError::Ended { .. } | RunError::NotReady { .. } => 1,
    }
}

fn launcher_code(error: &launcher::Error) -> u8 {
    use launcher::Error;
    use launcher::volume::VolumeError;
    match error {
        Error::Volume(
            VolumeError::InUse { .. }
            | VolumeError::Written { .. }
            | VolumeError::Locked(_)
            | VolumeError::Live { .. }
            | VolumeError::Exists { .. }
            | VolumeError::SnapshotExists { .. }
            | VolumeError::HasSnapshots { .. }
            | VolumeError::FileExists(_)
            | VolumeError::NoTool
            | VolumeError::Tool { .. },
        ) => 125,
        Error::NoCommand { .. }
        | Error::NoBootSet { .. }
        | Error::EmptyCommand
        | Error::Command { .. }
        | Error::BootConfig(_)
        | Error::ForwardsClash { .. }
        | Error::Volume(_)
        | Error::NoDiskBoot
        | Error::NoCpuModel(_) => 2,
        Error::Network(error) if error.is_usage() => 2,
        Error::NoInstance { .. } | Error::NotRunning { .. } => 1,
        // Such as an instance's disk where the host's is full; the image is in order.
        Error::Disk(hermitage_disk::Error::Create { .. }) => 125,
        Error::NoImage(_) | Error::ImageGone { .. } | Error::ImageChanged { .. } | Error::Disk(_) => 126,
        Error::PortInUse { .. }
        | Error::Port { .. }
        | Error::NoKvm(_)
        | Error::Network(_)
        | Error::GdbPort { .. }
        | Error::NoQemu { .. }
        | Error::UnknownQemu { .. }
        | Error::OldQemu { .. }
        | Error::NotStarted(_)
        | Error::Running { .. }
        | Error::Exists { .. }
        | Error::Damaged { .. }
        | Error::Format { .. }
        | Error::Io { .. }
        | Error::Process { .. }
        | Error::EndedBefore { .. }
        | Error::NotReached { .. } => 125,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instances_disk_that_cannot_be_made_is_no_fault_of_the_image() {
        let full = hermitage_disk::Error::Create {
            path: PathBuf::from("instances/kv/disk.qcow2"),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        assert_eq!(launcher_code(&launcher::Error::Disk(full)), 125);
    }
}
