//! The kernel's source: the release that `guest/kernel` pins, from crates.io, with our patches applied, at
//! `target/guest/hermit-kernel`, where `guest/libhermit` expects it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{CacheError, Lock, Staged, failed};
use crate::cargo::{CargoError, GuestCargo};
use crate::digest::{Inputs, files};
use crate::event::{Outcome, Stage};
use crate::patch::{self, PatchError};
use crate::session::Session;
use crate::toolchain::GuestToolchain;

/// The crate that is the kernel.
const KERNEL: &str = "hermit-kernel";

/// The file in the prepared source that holds the digest of what it was made from.
const STAMP: &str = ".hermitage";

/// Why there is no kernel source.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It could not be fetched.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// The manifest does not depend on it.
    #[error("`{}` does not depend on `{KERNEL}`", .0.display())]
    NotPinned(PathBuf),
    /// A patch does not fit.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A file could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl KernelError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cargo(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::Patch(_) => {
                Some("is `guest/kernel/Cargo.lock` the one that the patch was made for?".to_owned())
            }
            Self::NotPinned(_) => None,
        }
    }
}

/// The patched source.
#[derive(Clone, Debug)]
pub(crate) struct KernelSource {
    /// What it was made from: release and patches.
    pub(crate) digest: String,
}

/// Provides the patched source.
pub(crate) fn prepare(
    session: &Session<'_>,
    toolchain: &GuestToolchain,
) -> Result<KernelSource, KernelError> {
    session.stage(Stage::KernelSource, "", || {
        let pin = session.workspace.join("guest/kernel");
        let patches = files(&pin.join("patches"))?;
        let mut inputs = Inputs::new("kernel source 1");
        // The lock file holds the release's checksum.
        inputs.path(&pin.join("Cargo.lock"))?.path(&pin.join("patches"))?;
        let digest = inputs.finish();

        let target = session.guest_target().join(KERNEL);
        let is_current = || fs::read_to_string(target.join(STAMP)).is_ok_and(|stamp| stamp == digest);
        if is_current() {
            return Ok((KernelSource { digest }, Outcome::Cached));
        }
        let _lock = Lock::take(&target, "the kernel's source", session.observer)?;
        if !is_current() {
            let release = fetch(session, toolchain, &pin.join("Cargo.toml"))?;
            let staged = Staged::new(&target)?;
            patch::copy(&release, staged.path())?;
            for patch in &patches {
                patch::apply(patch, staged.path())?;
            }
            let stamp = staged.path().join(STAMP);
            fs::write(&stamp, &digest).map_err(failed("write", &stamp))?;
            staged.publish()?;
        }
        Ok((KernelSource { digest }, Outcome::Done))
    })
}

/// The folder in cargo's registry that holds the release.
fn fetch(session: &Session<'_>, toolchain: &GuestToolchain, manifest: &Path) -> Result<PathBuf, KernelError> {
    let packages = GuestCargo::new(session, toolchain)?.dependencies(manifest)?;
    packages
        .iter()
        .find(|package| package.name == KERNEL)
        .map(|package| package.folder().to_owned())
        .ok_or_else(|| KernelError::NotPinned(manifest.to_owned()))
}
