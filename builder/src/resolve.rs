//! Resolution: a package and all that it requires, each once, in the order in which they are put into the image.
//!
//! Packages come from [`PackageSource`]s, the first of which that has a version that fits is preferred; of one source,
//! the newest version. All ranges hold: where the newest versions do not go together, older ones are tried (`search`).
//! Boot sets, which may start from those of other packages, are settled here too (`boot`).
//!
//! It reads nothing and changes nothing by itself: the sources do. Start at [`resolve`].

mod boot;
mod error;
mod search;
mod siblings;

use hermitage_boot::{BootConfig, BootSets};

use crate::manifest::{Manifest, PackageName};

pub use error::{ResolveError, SourceError};
pub use siblings::Siblings;

/// Where packages come from: a folder of manifests, a local repository.
pub trait PackageSource {
    /// The names of all packages that it has, for "did you mean".
    fn names(&self) -> Vec<PackageName>;

    /// The versions of a package that it has, in any order; none if it has no such package. A package whose
    /// programs are compiled already has no `services`: they are among its `files`.
    ///
    /// # Errors
    /// A package is there and cannot be read.
    fn candidates(&self, name: &PackageName) -> Result<Vec<Manifest>, SourceError>;

    /// Sees to it that the files of a package lie in its [`Manifest::folder`]. It is asked for packages alone that an
    /// image is made of.
    ///
    /// # Errors
    /// They cannot be brought there.
    fn provide(&self, package: &Manifest) -> Result<(), SourceError> {
        let _ = package;
        Ok(())
    }
}

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Dependencies first; the package itself is the last.
    packages: Vec<Manifest>,
    /// The source of each, by its index; the package itself has none.
    origins: Vec<Option<usize>>,
    default: Option<BootConfig>,
    sets: BootSets,
}

impl Resolution {
    /// A package that stands alone, or whose dependencies are of no interest.
    ///
    /// # Errors
    /// Its boot sets start from one that is not there, or from each other.
    pub fn alone(package: Manifest) -> Result<Self, ResolveError> {
        Self::new(vec![(package, None)])
    }

    fn new(packages: Vec<(Manifest, Option<usize>)>) -> Result<Self, ResolveError> {
        let (packages, origins): (Vec<_>, Vec<_>) = packages.into_iter().unzip();
        error::refuse_roles_of_two(&packages)?;
        let (default, sets) = boot::settle(&packages)?;
        Ok(Self {
            packages,
            origins,
            default,
            sets,
        })
    }

    /// The packages: dependencies first, each after its own, the package itself last.
    #[must_use]
    pub fn packages(&self) -> &[Manifest] {
        &self.packages
    }

    /// The package itself.
    #[must_use]
    pub fn package(&self) -> &Manifest {
        &self.packages[self.packages.len() - 1]
    }

    /// What the image starts if nothing else is asked for.
    #[must_use]
    pub fn default(&self) -> Option<&BootConfig> {
        self.default.as_ref()
    }

    /// The commands that the image has by name: the package's own by theirs, those of others by `package:set`.
    #[must_use]
    pub fn sets(&self) -> &BootSets {
        &self.sets
    }

    /// Has the sources bring the packages' files, those that it was resolved with.
    ///
    /// # Errors
    /// A source cannot.
    pub fn provide(&self, sources: &[&dyn PackageSource]) -> Result<(), ResolveError> {
        for (package, origin) in self.packages.iter().zip(&self.origins) {
            if let Some(source) = origin.and_then(|origin| sources.get(origin)) {
                source.provide(package).map_err(|source| ResolveError::Source {
                    name: package.name.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

/// Finds all that a package requires.
///
/// # Errors
/// A package is missing, versions exclude each other, packages require each other in a circle, two bring one role, or
/// boot sets do not fit together.
pub fn resolve(package: Manifest, sources: &[&dyn PackageSource]) -> Result<Resolution, ResolveError> {
    Resolution::new(search::search(package, sources)?)
}
