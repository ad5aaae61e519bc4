//! A package, from its manifest to its image: every stage in order.
//!
//! It owns the order alone; each stage is a module of its own.

use std::collections::BTreeMap;
use std::path::Path;

use crate::compose::{ComposeError, ComposeReport, ComposeRequest, Mode, compose};
use crate::libhermit::{Libhermit, LibhermitError};
use crate::loader::{LoaderError, build_loader};
use crate::manifest::{Manifest, ManifestError};
use crate::service::{ServiceError, ServiceSpec, build_services};
use crate::session::Session;
use crate::toolchain::{GuestToolchain, ToolchainError};

/// Why a package's image was not made: the stage that failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no guest toolchain.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The kernel and our glue do not build.
    #[error(transparent)]
    Libhermit(#[from] LibhermitError),
    /// The loader does not build.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// A service does not build.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The image cannot be composed.
    #[error(transparent)]
    Compose(#[from] ComposeError),
}

impl PackageError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Libhermit(error) => error.hint(),
            Self::Loader(error) => error.hint(),
            Self::Service(error) => error.hint(),
            Self::Compose(error) => error.hint(),
        }
    }
}

/// Makes the image of the package whose manifest lies at `manifest`, below `out_dir`.
///
/// # Errors
/// A stage fails; the old image is intact then.
pub fn build(
    session: &Session<'_>,
    manifest: &Path,
    out_dir: &Path,
    mode: Mode,
) -> Result<ComposeReport, PackageError> {
    // Before anything that takes time.
    let manifest = &Manifest::read(manifest)?;
    let toolchain = GuestToolchain::provide(session)?;
    let loader = &build_loader(session, &toolchain)?;
    let mut binaries = BTreeMap::new();
    if !manifest.services.is_empty() {
        let libhermit = Libhermit::build(session, &toolchain)?;
        let spec = |service: &crate::manifest::Service| ServiceSpec {
            crate_dir: service.crate_dir.clone(),
            bin: service.bin.clone(),
            features: service.features.clone(),
        };
        let specs: Vec<_> = manifest.services.iter().map(spec).collect();
        let built = build_services(session, &toolchain, &libhermit, &specs)?;
        for (service, binary) in manifest.services.iter().zip(built) {
            binaries.insert(service.role.clone(), binary.path);
        }
    }
    let binaries = &binaries;
    Ok(compose(
        &ComposeRequest {
            manifest,
            out_dir,
            loader,
            binaries,
            mode,
        },
        session.observer,
    )?)
}
