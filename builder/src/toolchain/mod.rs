//! The guest toolchain: Rust 1.85.0 with its library source, LLVM tools and lld, found or provided on first use.
//!
//! Looked at in this order:
//! 1. the sysroot that `HERMITAGE_GUEST_TOOLCHAIN` names, and then nothing else;
//! 2. what an earlier run put into the cache;
//! 3. `rustup`: an installed 1.85.0 with the components; else rustup installs it, where the user lets it;
//! 4. `debian`: packages of Debian or Ubuntu, unpacked into the cache without root.
//!
//! Whatever the origin, `check` decides whether a folder is a guest toolchain. An install is made in a temporary
//! folder under a lock and appears by a rename, when it passed that check.
//!
//! It does not own how the toolchain is used; that is [`crate::cargo`].

mod apt;
mod check;
mod debian;
mod probe;
mod rustup;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt, io};

use crate::cache::{Cache, CacheError};
use crate::event::{Outcome, Stage};
use crate::process::ProcessError;
use crate::session::Session;

pub use check::Defect;
pub use probe::{Status, probe};

/// The version of Rust that guests are compiled with: the one that hermit-kernel 0.10.0 compiles with.
pub const VERSION: &str = "1.85.0";

/// What to type where nothing else helps.
const RUSTUP_COMMAND: &str =
    "rustup toolchain install 1.85.0 --profile minimal --component rust-src,llvm-tools";

/// What to do when the packages (150 MB) or what they hold (430 MB) do not fit.
const NO_SPACE: &str =
    "free 1 GB on the file system of the cache, or set `HERMITAGE_CACHE` to a folder elsewhere";

/// Where a guest toolchain came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `HERMITAGE_GUEST_TOOLCHAIN` names it.
    Named,
    /// rustup has it.
    Rustup,
    /// Packages of the distribution, unpacked into the cache.
    Packages,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "named by HERMITAGE_GUEST_TOOLCHAIN",
            Self::Rustup => "from rustup",
            Self::Packages => "from the distribution's packages",
        })
    }
}

/// A toolchain that passed the check.
#[derive(Clone, Debug)]
pub struct GuestToolchain {
    sysroot: PathBuf,
    origin: Origin,
    verbose_version: String,
    host: String,
}

impl GuestToolchain {
    /// Finds a guest toolchain, or provides one.
    ///
    /// # Errors
    /// There is none, and none could be provided.
    pub fn provide(session: &Session<'_>) -> Result<Self, ToolchainError> {
        session.stage(Stage::Toolchain, VERSION, || match Self::find(session)? {
            Some(toolchain) => Ok((toolchain, Outcome::Cached)),
            None => Ok((Self::install(session)?, Outcome::Done)),
        })
    }

    /// Finds one that is on this machine; changes nothing.
    fn find(session: &Session<'_>) -> Result<Option<Self>, ToolchainError> {
        if let Some(sysroot) = &session.environment.guest_toolchain {
            return Self::at(session, sysroot, Origin::Named)
                .map(Some)
                .map_err(|defect| ToolchainError::Named {
                    sysroot: sysroot.clone(),
                    defect,
                });
        }
        if let Ok(cache) = Cache::new(&session.environment) {
            if let Ok(toolchain) = debian::cached(session, &cache) {
                return Ok(Some(toolchain));
            }
        }
        Ok(rustup::find(session))
    }

    fn install(session: &Session<'_>) -> Result<Self, ToolchainError> {
        if session.environment.offline {
            return Err(ToolchainError::Offline);
        }
        let rustup = match rustup::install(session) {
            Ok(toolchain) => return Ok(toolchain),
            Err(reason) => reason,
        };
        session.note(format!("no guest toolchain from rustup: {rustup}"));
        match debian::install(session) {
            Err(ToolchainError::NoPackages(packages)) => Err(ToolchainError::NoSource { rustup, packages }),
            result => result,
        }
    }

    /// The toolchain at `sysroot`, if it is one.
    fn at(session: &Session<'_>, sysroot: &Path, origin: Origin) -> Result<Self, Defect> {
        let (verbose_version, host) = check::check(session, sysroot)?;
        Ok(Self {
            sysroot: sysroot.to_owned(),
            origin,
            verbose_version,
            host,
        })
    }

    /// The folder that holds `bin/rustc` and `lib/rustlib`.
    #[must_use]
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What `rustc -vV` says: part of every build's digest.
    #[must_use]
    pub fn verbose_version(&self) -> &str {
        &self.verbose_version
    }

    /// Its compiler.
    #[must_use]
    pub fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// One of its tools: `llvm-objcopy`, `rust-lld`, ...
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        tools(&self.sysroot, &self.host).join(name)
    }

    /// The source of its libraries.
    #[must_use]
    pub fn library_source(&self) -> PathBuf {
        self.sysroot.join(LIBRARY_SOURCE)
    }

    /// The value of `LD_LIBRARY_PATH` with which its programs find their libraries. It is for them alone: QEMU and
    /// other programs of the host would take libraries of another LLVM from it.
    #[must_use]
    pub fn library_path(&self) -> OsString {
        library_path(&self.sysroot)
    }
}

const LIBRARY_SOURCE: &str = "lib/rustlib/src/rust/library";

/// The tools that the compile stages and the kernel's own build script need.
const TOOLS: [&str; 7] = [
    "llvm-ar",
    "llvm-as",
    "llvm-nm",
    "llvm-objcopy",
    "llvm-objdump",
    "llvm-strip",
    "rust-lld",
];

fn tools(sysroot: &Path, host: &str) -> PathBuf {
    sysroot.join("lib/rustlib").join(host).join("bin")
}

/// Folders of shared libraries: rustup's `lib`; a distribution's `lib/<architecture>-linux-gnu`, beside the sysroot
/// too where that is a folder of its own below `usr/lib` (Ubuntu).
fn library_path(sysroot: &Path) -> OsString {
    let multiarch = format!("{}-linux-gnu", env::consts::ARCH);
    let folders = [
        sysroot.join("lib"),
        sysroot.join("lib").join(&multiarch),
        sysroot.join("..").join(&multiarch),
        sysroot.join("../lib").join(&multiarch),
    ];
    let folders = folders.iter().filter(|folder| {
        folder.read_dir().is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains(".so")))
        })
    });
    env::join_paths(folders).unwrap_or_default()
}

/// Why there is no guest toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// The folder that the user named is none.
    #[error("`HERMITAGE_GUEST_TOOLCHAIN` names `{}`, which is no guest toolchain", sysroot.display())]
    Named {
        /// The folder.
        sysroot: PathBuf,
        /// What is wrong with it.
        #[source]
        defect: Defect,
    },
    /// There is none on this machine, and the network is not to be used.
    #[error(
        "the guest toolchain (Rust {VERSION}) is not on this machine, and may not be fetched when offline"
    )]
    Offline,
    /// Neither rustup nor packages can provide it.
    #[error("cannot provide the guest toolchain (Rust {VERSION}); rustup: {rustup}; packages: {packages}")]
    NoSource {
        /// Why rustup cannot.
        rustup: String,
        /// Why the distribution's packages cannot.
        packages: String,
    },
    /// The distribution has no such packages; becomes part of [`Self::NoSource`].
    #[error("no packages of the guest toolchain: {0}")]
    NoPackages(String),
    /// apt or dpkg failed.
    #[error("cannot {action} of the guest toolchain")]
    Packages {
        /// What was tried.
        action: &'static str,
        /// What the program said.
        source: ProcessError,
    },
    /// A package's content could not be written.
    #[error("cannot unpack `{package}`")]
    Unpack {
        /// Which package.
        package: String,
        /// The system's reason.
        source: io::Error,
    },
    /// What was installed is no guest toolchain.
    #[error("what was installed {origin} is no guest toolchain")]
    Unfit {
        /// Where it came from.
        origin: Origin,
        /// What is wrong with it.
        #[source]
        defect: Defect,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl ToolchainError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Named { .. } => Some(format!(
                "unset it, or name the sysroot of a Rust {VERSION} that has rust-src and llvm-tools"
            )),
            Self::Offline => Some("run the same command once with a network".to_owned()),
            Self::NoSource { .. } | Self::NoPackages(_) | Self::Unfit { .. } => {
                Some(format!("install rustup, then type `{RUSTUP_COMMAND}`"))
            }
            Self::Packages { source, .. } if source.to_string().contains("No space left on device") => {
                Some(NO_SPACE.to_owned())
            }
            Self::Packages { .. } => Some(format!(
                "is there a network, and does `apt-get update` work? Otherwise type `{RUSTUP_COMMAND}`"
            )),
            Self::Unpack { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some(NO_SPACE.to_owned())
            }
            Self::Unpack { .. } => None,
            Self::Cache(error) => error.hint(),
        }
    }
}
