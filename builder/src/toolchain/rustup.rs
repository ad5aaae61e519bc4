//! The guest toolchain from rustup.

use std::path::{Path, PathBuf};

use super::{GuestToolchain, Origin, VERSION};
use crate::process::{self, Invocation, ProcessError};
use crate::session::Session;

/// The toolchain that rustup has already, with all that is needed.
pub(super) fn find(session: &Session<'_>) -> Option<GuestToolchain> {
    let rustup = process::find("rustup", &session.environment.path)?;
    let sysroot = sysroot(session, &rustup).ok()?;
    GuestToolchain::at(session, &sysroot, Origin::Rustup).ok()
}

/// Lets rustup install the toolchain. An error says why it did not, as a fragment of a sentence.
pub(super) fn install(session: &Session<'_>) -> Result<GuestToolchain, String> {
    let rustup = process::find("rustup", &session.environment.path).ok_or("it is not on this machine")?;
    if !session.environment.rustup_may_install {
        return Err("it may not install, by `RUSTUP_AUTO_INSTALL=0`".to_owned());
    }
    Invocation::new(&rustup)
        .args(["toolchain", "install", VERSION, "--profile", "minimal"])
        .args(["--component", "rust-src,llvm-tools", "--no-self-update"])
        .run(session.observer)
        .map_err(|error| error.to_string())?;
    let sysroot = sysroot(session, &rustup).map_err(|error| error.to_string())?;
    GuestToolchain::at(session, &sysroot, Origin::Rustup).map_err(|defect| defect.to_string())
}

/// Where rustup keeps the toolchain; asking must never install it.
fn sysroot(session: &Session<'_>, rustup: &Path) -> Result<PathBuf, ProcessError> {
    let output = Invocation::new(rustup)
        .args(["which", "--toolchain", VERSION, "rustc"])
        .env("RUSTUP_AUTO_INSTALL", "0")
        .run(session.observer)?;
    // <sysroot>/bin/rustc
    let rustc = PathBuf::from(output.text().trim());
    Ok(rustc.ancestors().nth(2).unwrap_or(Path::new("")).to_owned())
}
