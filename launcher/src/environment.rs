//! The environment variables that the launcher reads, all of them. None is handed to QEMU.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// `HERMITAGE_ROOT`: the folder of the user's instances; otherwise `.hermitage` in the home folder.
pub const ROOT: &str = "HERMITAGE_ROOT";

/// `HOME`: the user's home folder.
pub const HOME: &str = "HOME";

/// `PATH`, in which QEMU is looked up.
pub const PATH: &str = "PATH";

/// The folder of the user's instances; `None` if neither [`ROOT`] nor [`HOME`] is set.
#[must_use]
pub fn root() -> Option<PathBuf> {
    let folder = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder(ROOT).or_else(|| Some(folder(HOME)?.join(".hermitage")))
}

pub(crate) fn path() -> OsString {
    env::var_os(PATH).unwrap_or_default()
}
