//! What can go wrong between a request and a running guest.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hermitage_boot::config::{EncodeError, UnterminatedQuote};

use crate::accelerator::NoKvm;
use crate::cpu::CpuModel;
use crate::exit::GuestExit;
use crate::forward::Forward;
use crate::network::NetworkError;
use crate::process::ProcessId;
use crate::qemu::Version;
use crate::units::InstanceName;
use crate::volume::VolumeError;

/// Why a guest could not be planned, started or watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's file does not exist.
    #[error("image `{}` does not exist", .0.display())]
    NoImage(PathBuf),
    /// The image, or an instance's overlay, cannot be used.
    #[error(transparent)]
    Disk(#[from] hermitage_disk::Error),
    /// Neither request nor image name a command.
    #[error("image `{}` has no default command", image.display())]
    NoCommand {
        /// The image's file.
        image: PathBuf,
    },
    /// The image has no such boot set.
    #[error("image `{}` has no boot set `{name}`; it has {}", image.display(), named(known))]
    NoBootSet {
        /// The image's file.
        image: PathBuf,
        /// The name.
        name: String,
        /// Names of those that it has.
        known: Vec<String>,
    },
    /// A command of no words.
    #[error("the command is empty")]
    EmptyCommand,
    /// A command line that cannot be split.
    #[error("command `{}`", line.escape_debug())]
    Command {
        /// The command line.
        line: String,
        /// What is wrong with it.
        source: UnterminatedQuote,
    },
    /// A command, an environment or name servers that no guest can take.
    #[error("the guest cannot take what it is to be told")]
    BootConfig(#[from] EncodeError),
    /// Two forwards of one port of the host.
    #[error("`{first}` and `{second}` forward the same port of this host")]
    ForwardsClash {
        /// The one.
        first: Forward,
        /// The other.
        second: Forward,
    },
    /// A forward's port is taken.
    #[error("port {} of {} is in use by another process; `{forward}` needs it", forward.host.port(), forward.host.ip())]
    PortInUse {
        /// The forward.
        forward: Forward,
    },
    /// A forward's port cannot be had for another reason.
    #[error("port {} of {} cannot be used; `{forward}` needs it", forward.host.port(), forward.host.ip())]
    Port {
        /// The forward.
        forward: Forward,
        /// Why.
        source: io::Error,
    },
    /// KVM was asked for and does not work.
    #[error("kvm does not work here")]
    NoKvm(#[source] NoKvm),
    /// A guest cannot be connected as asked.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A volume cannot be attached.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A microvm was to boot from its disk.
    #[error("the machine `microvm` has no BIOS that boots disks")]
    NoDiskBoot,
    /// QEMU has no such CPU model.
    #[error("QEMU has no CPU model `{0}`")]
    NoCpuModel(CpuModel),
    /// The debugger's port cannot be had.
    #[error("port {port} of 127.0.0.1 cannot be used; `--gdb` needs it")]
    GdbPort {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// QEMU is not on the PATH.
    #[error("`{program}` is not on the PATH")]
    NoQemu {
        /// The program.
        program: &'static str,
    },
    /// QEMU does not say which version it is.
    #[error("`{}` does not say its version", program.display())]
    UnknownQemu {
        /// The program.
        program: PathBuf,
        /// What it said, or why it said nothing.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// QEMU is older than what we can use.
    #[error("`{}` is version {found}; the oldest that works is {}", program.display(), Version::MIN)]
    OldQemu {
        /// The program.
        program: PathBuf,
        /// Its version.
        found: Version,
    },
    /// Another process owns the instance.
    #[error("instance `{name}` is running{}", in_process(holder.as_ref()))]
    Running {
        /// The instance.
        name: InstanceName,
        /// The process, as far as it is known.
        holder: Option<ProcessId>,
    },
    /// There is an instance of this name.
    #[error("there is an instance `{name}` already")]
    Exists {
        /// The instance.
        name: InstanceName,
    },
    /// There is no instance of this name.
    #[error("there is no instance `{name}`")]
    NoInstance {
        /// The name.
        name: InstanceName,
    },
    /// The instance does not run, and what was asked needs one that does.
    #[error("instance `{name}` does not run")]
    NotRunning {
        /// The instance.
        name: InstanceName,
    },
    /// A file of an instance is not what we wrote.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file of an instance was written by another version.
    #[error("`{}` has format {format}; this version knows {}", path.display(), crate::instance::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The image holds something else than when the instance was made.
    #[error("image `{}` has changed since instance `{name}` was made, whose disk holds only what differs from it", image.display())]
    ImageChanged {
        /// The instance.
        name: InstanceName,
        /// The image's file.
        image: PathBuf,
    },
    /// An instance's image is gone.
    #[error("image `{}` of instance `{name}` is gone, and the instance's disk holds only what differs from it", image.display())]
    ImageGone {
        /// The instance.
        name: InstanceName,
        /// The image's file.
        image: PathBuf,
    },
    /// QEMU ended before the guest could run.
    #[error("{0}")]
    NotStarted(GuestExit),
    /// A step on the instance's files failed.
    #[error("cannot {step} `{}`", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The process could not be started or watched.
    #[error("cannot {step}")]
    Process {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The guest ended before it reached a point that was waited for.
    #[error("the guest ended before it reached `{mark}`: {exit}")]
    EndedBefore {
        /// The point.
        mark: String,
        /// How the guest ended.
        exit: GuestExit,
    },
    /// The guest did not reach a point in time.
    #[error("the guest did not reach `{mark}` within {time:?}")]
    NotReached {
        /// The point.
        mark: String,
        /// The time that it had.
        time: Duration,
    },
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Disk(error) => return error.hint(),
            Self::Network(error) => return error.hint(),
            Self::Volume(error) => return error.hint(),
            Self::NoDiskBoot => "let QEMU load it directly, `--entry direct`, or choose `--machine pc`",
            Self::NoCpuModel(_) => "`qemu-system-x86_64 -cpu help` lists them",
            Self::GdbPort { .. } => "choose another port, `--gdb PORT`, or 0 for any free one",
            Self::NoImage(_) => "compose it with `cargo xtask compose`",
            Self::NoCommand { .. } => "give a command: `-e 'ROLE ARGUMENTS...'`",
            Self::NoBootSet { known, .. } if known.is_empty() => "give a command: `-e 'ROLE ARGUMENTS...'`",
            Self::EmptyCommand => "the first word of a command is the role, a program of the image",
            Self::Command { .. } => "close the quote, or escape it with a backslash",
            Self::PortInUse { .. } => "choose another port, or 0 for any free one",
            Self::NoKvm(why) => why.hint(),
            Self::NoQemu { .. } | Self::OldQemu { .. } => "`cargo xtask doctor --fix` says how to get it",
            Self::Running { name, .. } => {
                return Some(format!(
                    "`cargo xtask stop {name}` stops it; a new instance may have another name, `--name`"
                ));
            }
            Self::Exists { name } => {
                return Some(format!(
                    "`start {name}` starts it again, `rm {name}` removes it, `run --replace` does so and makes a new one"
                ));
            }
            Self::NoInstance { .. } => "`cargo xtask ps -a` lists those that there are",
            Self::NotRunning { name } => return Some(format!("`cargo xtask start {name}` starts it")),
            Self::Damaged { .. } | Self::Format { .. } => "`cargo xtask rm` removes such an instance",
            Self::ImageChanged { name, .. } => {
                return Some(format!(
                    "`cargo xtask rm {name}`, then run the image anew; or put the old image back"
                ));
            }
            Self::ImageGone { name, .. } => {
                return Some(format!("put the image back, or `cargo xtask rm {name}`"));
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}

/// The names of boot sets, for a message.
fn named(sets: &[String]) -> String {
    match sets {
        [] => "none".to_owned(),
        sets => format!("`{}`", sets.join("`, `")),
    }
}

fn in_process(holder: Option<&ProcessId>) -> String {
    holder.map_or_else(String::new, |holder| format!(", in process {}", holder.pid))
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<_> = causes.map(ToString::to_string).collect();
    words.join(": ")
}
