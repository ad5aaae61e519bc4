//! Why packages do not go together: with the chain that leads to the fault, and its place in a manifest.

use std::collections::BTreeMap;
use std::fmt;

use crate::manifest::{Manifest, ManifestError, PackageName, Place};
use crate::suggest::suggest;

/// Why there is no resolution.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No source has a package of that name.
    #[error("there is no package `{name}`: `{chain}`\n{place}")]
    Missing {
        /// The name.
        name: PackageName,
        /// From the package itself to the one that is missing.
        chain: String,
        /// Where it is required.
        place: Box<Place>,
        /// Names of the packages that there are.
        known: Vec<PackageName>,
    },
    /// No version of a package satisfies all who require it.
    #[error("no version of `{name}` satisfies all who require it; there is {}\n  {}\n{place}", versions.join(", "), chains.join("\n  "))]
    Conflict {
        /// The package.
        name: PackageName,
        /// Its versions.
        versions: Vec<String>,
        /// From the package itself to each requirement.
        chains: Vec<String>,
        /// The requirement with which it fails.
        place: Box<Place>,
    },
    /// Packages require each other.
    #[error("packages require each other: `{chain}`\n{place}")]
    Cycle {
        /// From the package itself, once around.
        chain: String,
        /// The requirement that closes the circle.
        place: Box<Place>,
    },
    /// More combinations of versions were tried than is sensible.
    #[error("{0} combinations of versions were tried, and none fits")]
    TooHard(usize),
    /// An image of too many packages.
    #[error("an image of more than {0} packages")]
    TooMany(usize),
    /// A source cannot read or bring a package.
    #[error("cannot use the package `{name}`")]
    Source {
        /// The package.
        name: PackageName,
        /// Why.
        source: SourceError,
    },
    /// Two packages bring one role.
    #[error("the role `{role}` is brought by both package `{first}` and package `{second}`")]
    RoleOfTwo {
        /// The role.
        role: String,
        /// The package that comes first.
        first: PackageName,
        /// The other.
        second: PackageName,
    },
    /// A boot set starts from one that is not there.
    #[error("there is no boot set `{package}:{set}`\n{place}")]
    NoBase {
        /// The base's package.
        package: PackageName,
        /// The base's name.
        set: String,
        /// Where it is named.
        place: Box<Place>,
        /// Those that there are, by `package:set`.
        known: Vec<String>,
    },
    /// Boot sets start from each other.
    #[error("boot sets start from each other: `{chain}`\n{place}")]
    BaseCycle {
        /// Once around.
        chain: String,
        /// Where the circle closes.
        place: Box<Place>,
    },
    /// More boot sets than an image has.
    #[error("{count} boot sets; an image has at most {max}")]
    TooManySets {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

impl ResolveError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { name, known, .. } => suggest(name.as_str(), known),
            Self::Conflict { .. } => {
                Some("change one of these ranges, or add a version that fits".to_owned())
            }
            Self::Cycle { .. } => Some("remove one of these requirements".to_owned()),
            Self::TooHard(_) => Some("ask for exact versions, like `name@=1.2.3`".to_owned()),
            Self::RoleOfTwo { .. } => Some("give one of the two services another `role`".to_owned()),
            Self::NoBase {
                package, set, known, ..
            } => suggest(&format!("{package}:{set}"), known),
            Self::BaseCycle { .. } => Some("give one of them a `bootcmd` instead of its `base`".to_owned()),
            Self::Source { source, .. } => source.hint.clone(),
            Self::TooMany(_) | Self::TooManySets { .. } => None,
        }
    }
}

/// Why a source cannot read or bring a package.
#[derive(Debug)]
pub struct SourceError {
    error: Box<dyn std::error::Error + Send + Sync>,
    hint: Option<String>,
}

impl SourceError {
    /// An error of a source's own, and advice.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, hint: Option<String>) -> Self {
        let error = error.into();
        Self { error, hint }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<ManifestError> for SourceError {
    fn from(error: ManifestError) -> Self {
        let hint = error.hint();
        Self::new(error, hint)
    }
}

/// Finds a role that two packages bring, before anything is compiled for them.
pub(super) fn refuse_roles_of_two(packages: &[Manifest]) -> Result<(), ResolveError> {
    let mut roles = BTreeMap::new();
    for package in packages {
        for service in &package.services {
            if let Some(first) = roles.insert(&service.role, &package.name) {
                return Err(ResolveError::RoleOfTwo {
                    role: service.role.clone(),
                    first: first.clone(),
                    second: package.name.clone(),
                });
            }
        }
    }
    Ok(())
}
