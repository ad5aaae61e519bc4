//! The source of Rust's own libraries with our patches (`guest/std/patches`), at `target/guest/library`: what `std` is
//! built from for guests. The toolchain's own is left as it is; it may be rustup's.

use std::fs;
use std::path::PathBuf;

use crate::cache::{Lock, Staged, failed};
use crate::digest::{Inputs, files};
use crate::patch::{self, PatchError};
use crate::session::Session;
use crate::toolchain::GuestToolchain;

/// The file in the patched source that holds the digest of what it was made from.
const STAMP: &str = ".hermitage";

/// The environment variable that tells cargo where the libraries' source is, if not in the compiler's sysroot. It is
/// there for cargo's own tests, and the one way that leaves the sysroot alone: a sysroot of our own would be a copy of
/// 430 MB, or a stand-in for `rustc` that is started for each crate.
pub(crate) const VARIABLE: &str = "__CARGO_TESTS_ONLY_SRC_ROOT";

/// Provides the patched source.
pub(crate) fn prepare(session: &Session<'_>, toolchain: &GuestToolchain) -> Result<PathBuf, PatchError> {
    let source = toolchain.library_source();
    let patches = session.workspace.join("guest/std/patches");
    let mut inputs = Inputs::new("library 1");
    inputs
        .bytes("compiler", toolchain.verbose_version().as_bytes())
        .bytes("source", source.as_os_str().as_encoded_bytes())
        .path(&patches)?;
    let digest = inputs.finish();

    let target = session.guest_target().join("library");
    let is_current = || fs::read_to_string(target.join(STAMP)).is_ok_and(|stamp| stamp == digest);
    if is_current() {
        return Ok(target);
    }
    let _lock = Lock::take(&target, "the source of Rust's libraries", session.observer)?;
    if !is_current() {
        let staged = Staged::new(&target)?;
        patch::copy(&source, staged.path())?;
        for patch in files(&patches)? {
            patch::apply(&patch, staged.path())?;
        }
        let stamp = staged.path().join(STAMP);
        fs::write(&stamp, &digest).map_err(failed("write", &stamp))?;
        staged.publish()?;
    }
    Ok(target)
}
