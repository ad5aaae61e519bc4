//! The environment variables that the builder reads, all of them. Everything else in the environment is either
//! passed on to the tools that we run or scrubbed, see [`process`](crate::process).

use std::env;
use std::path::PathBuf;

/// `HERMITAGE_GUEST_TOOLCHAIN`: the sysroot (the folder above `bin/rustc` and `lib/rustlib`) of the guest
/// toolchain to use; nothing else is looked at then.
pub const GUEST_TOOLCHAIN: &str = "HERMITAGE_GUEST_TOOLCHAIN";

/// `HERMITAGE_OFFLINE`: `1` or `true` forbids every use of the network, as `--offline` does.
pub const OFFLINE: &str = "HERMITAGE_OFFLINE";

/// `HERMITAGE_CACHE`: the folder that holds what is provided and built once per user; otherwise
/// `$XDG_CACHE_HOME/hermitage`, otherwise `~/.cache/hermitage`.
pub const CACHE: &str = "HERMITAGE_CACHE";

/// `XDG_CACHE_HOME`: the user's folder of caches, by the XDG base directory specification.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";

/// `RUSTUP_AUTO_INSTALL`: rustup's own switch; with `0` we do not let it install a toolchain either.
pub const RUSTUP_AUTO_INSTALL: &str = "RUSTUP_AUTO_INSTALL";

/// `CARGO`: the cargo that started us, as cargo says itself; otherwise `cargo` in `PATH`.
pub const CARGO: &str = "CARGO";

/// `CARGO_HOME`: where cargo keeps the sources of crates; otherwise `~/.cargo`.
pub const CARGO_HOME: &str = "CARGO_HOME";

/// `HERMITAGE_PACKAGES`: the folder or the `http://` address that packages are pulled from if no other is given.
pub const PACKAGES: &str = "HERMITAGE_PACKAGES";

/// `HOME`: the user's home folder.
pub const HOME: &str = "HOME";

/// The values of the variables above, read once at the edge and passed down, so that tests need not change the
/// environment of their process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// [`GUEST_TOOLCHAIN`].
    pub guest_toolchain: Option<PathBuf>,
    /// [`OFFLINE`].
    pub offline: bool,
    /// The cache folder, chosen from [`CACHE`], [`XDG_CACHE_HOME`] and [`HOME`]; `None` if all are unset.
    pub cache: Option<PathBuf>,
    /// Whether rustup may install, by [`RUSTUP_AUTO_INSTALL`].
    pub rustup_may_install: bool,
    /// [`PACKAGES`].
    pub packages: Option<String>,
    /// [`CARGO`], or `cargo`.
    pub cargo: PathBuf,
    /// [`CARGO_HOME`], or the folder that cargo takes without it.
    pub cargo_home: PathBuf,
    /// `PATH`, in which the tools are looked up.
    pub path: std::ffi::OsString,
}

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn read() -> Self {
        let folder = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = folder(CACHE)
            // The specification: a relative path is invalid and to be ignored.
            .or_else(|| {
                folder(XDG_CACHE_HOME)
                    .filter(|path| path.is_absolute())
                    .map(|path| path.join("hermitage"))
            })
            .or_else(|| folder(HOME).map(|path| path.join(".cache/hermitage")));
        Self {
            guest_toolchain: folder(GUEST_TOOLCHAIN),
            offline: env::var(OFFLINE).is_ok_and(|value| matches!(value.as_str(), "1" | "true")),
            cache,
            rustup_may_install: env::var(RUSTUP_AUTO_INSTALL).map_or(true, |value| value != "0"),
            packages: env::var(PACKAGES).ok().filter(|value| !value.is_empty()),
            cargo: folder(CARGO).unwrap_or_else(|| PathBuf::from("cargo")),
            cargo_home: folder(CARGO_HOME)
                .or_else(|| folder(HOME).map(|home| home.join(".cargo")))
                .unwrap_or_default(),
            path: env::var_os("PATH").unwrap_or_default(),
        }
    }
}
