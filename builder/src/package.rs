//! A package, from its manifest to its image: every stage in order.
//!
//! It owns the order alone; each stage is a module of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::compose::{ComposeError, ComposeReport, ComposeRequest, Mode, compose};
use crate::event::Event;
use crate::gather::gather;
use crate::libhermit::{Libhermit, LibhermitError};
use crate::loader::{LoaderError, build_loader};
use crate::manifest::{Manifest, ManifestError, Service};
use crate::resolve::{PackageSource, Resolution, ResolveError, Siblings, resolve};
use crate::service::{ServiceError, ServiceSpec, build_services};
use crate::session::Session;
use crate::toolchain::{GuestToolchain, ToolchainError};

/// Why a package's image was not made: the stage that failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What it requires does not go together, or is not there.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
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
            Self::Resolve(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Libhermit(error) => error.hint(),
            Self::Loader(error) => error.hint(),
            Self::Service(error) => error.hint(),
            Self::Compose(error) => error.hint(),
        }
    }
}

/// Makes the image of a package, whose files are there, below `out_dir`. What it requires is looked for in the folders
/// beside it, then in `sources`.
///
/// # Errors
/// A stage fails; the old image is intact then.
pub fn build(
    session: &Session<'_>,
    package: Manifest,
    sources: &[&dyn PackageSource],
    out_dir: &Path,
    mode: Mode,
) -> Result<ComposeReport, PackageError> {
    // Before anything that takes time.
    let resolution = &resolved(session, package, sources)?;
    check_files(resolution.packages())?;
    let toolchain = GuestToolchain::provide(session)?;
    let loader = &build_loader(session, &toolchain)?;
    let binaries = &compile(session, &toolchain, resolution.packages())?;
    Ok(compose(
        &ComposeRequest {
            resolution,
            out_dir,
            loader,
            binaries,
            mode,
        },
        session.observer,
    )?)
}

/// Finds what a package requires, and tells what may be wrong with any of them.
fn resolved(
    session: &Session<'_>,
    package: Manifest,
    sources: &[&dyn PackageSource],
) -> Result<Resolution, PackageError> {
    let siblings = &Siblings::of(&package.folder);
    let sources: Vec<&dyn PackageSource> = [siblings as _]
        .into_iter()
        .chain(sources.iter().copied())
        .collect();
    let resolution = resolve(package, &sources)?;
    for warning in resolution.packages().iter().flat_map(|package| &package.warnings) {
        session.observer.event(&Event::Warning(warning.clone()));
    }
    resolution.provide(&sources)?;
    Ok(resolution)
}

/// Finds what is wrong with the packages' files, if something is to be compiled: that takes minutes.
fn check_files(packages: &[Manifest]) -> Result<(), ComposeError> {
    if packages.iter().all(|package| package.services.is_empty()) {
        return Ok(());
    }
    let without_services = |package: &Manifest| Manifest {
        services: Vec::new(),
        ..package.clone()
    };
    let packages: Vec<_> = packages.iter().map(without_services).collect();
    gather(&packages, &BTreeMap::new())?;
    Ok(())
}

/// Compiles the services of packages: their programs, by role.
///
/// # Errors
/// One does not compile.
pub fn compile(
    session: &Session<'_>,
    toolchain: &GuestToolchain,
    packages: &[Manifest],
) -> Result<BTreeMap<String, PathBuf>, PackageError> {
    let services: Vec<_> = packages
        .iter()
        .flat_map(|package| package.services.iter().map(move |service| (package, service)))
        .collect();
    if services.is_empty() {
        return Ok(BTreeMap::new());
    }
    let libhermit = Libhermit::build(session, toolchain)?;
    let spec = |(package, service): &(&Manifest, &Service)| ServiceSpec {
        crate_dir: service.crate_dir.clone(),
        bin: service.bin.clone(),
        features: service.features.clone(),
        mounts_data: package.mounts_data,
    };
    let specs: Vec<_> = services.iter().map(spec).collect();
    let built = build_services(session, toolchain, &libhermit, &specs)?;
    let roles = services.iter().map(|(_, service)| service.role.clone());
    Ok(roles.zip(built.into_iter().map(|binary| binary.path)).collect())
}
