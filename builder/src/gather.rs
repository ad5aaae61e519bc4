//! From packages to a tree: what each brings, by the rules of its manifest.
//!
//! Sources are named and looked at here, and read by [`crate::image`]. Ignore files ([`crate::ignore`]) say what is left
//! out. Two packages, or two entries of one, that bring a path are an error, unless the later one may override. Start at
//! [`gather`], or for one package at [`add_package`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::manifest::{FileRule, META, Manifest};
use crate::tree::{Collision, ImagePath, MODE_EXECUTABLE, MODE_FILE, Node, NodeKind, PathError, Stat, Tree};

/// Why the tree of an image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// Two things bring the same path.
    #[error(transparent)]
    Collision(#[from] Collision),
    /// A path that cannot be in an image.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No program was compiled for a role.
    #[error("no program for the role `{0}`")]
    NoBinary(String),
    /// A source cannot be looked at.
    #[error("cannot read `{}`, a source of {origin}", path.display())]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// What needs it.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// A source is no file, folder or symbolic link.
    #[error("`{}`, a source of {origin}, is a device, a pipe or a socket", path.display())]
    SpecialFile {
        /// The file.
        path: PathBuf,
        /// What needs it.
        origin: String,
    },
}

impl GatherError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Collision(_) => Some(
                "remove one of them, move it elsewhere, or write `override: true` at the entry of `files` that is to win"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Everything that an image of these packages holds, the packages in the order of their resolution. `binaries` are
/// the programs of their services, by role.
///
/// # Errors
/// A source is missing or no file, or two things bring the same path.
pub fn gather(packages: &[Manifest], binaries: &BTreeMap<String, PathBuf>) -> Result<Tree, GatherError> {
    let mut tree = Tree::default();
    for package in packages {
        add_package(&mut tree, package, binaries)?;
    }
    Ok(tree)
}

/// Adds what a package brings.
///
/// # Errors
/// As [`gather`].
pub fn add_package(
    tree: &mut Tree,
    package: &Manifest,
    binaries: &BTreeMap<String, PathBuf>,
) -> Result<(), GatherError> {
    let name = &package.name;
    for service in &package.services {
        let role = &service.role;
        let binary = binaries
            .get(role)
            .ok_or_else(|| GatherError::NoBinary(role.clone()))?;
        let rule = FileRule {
            destination: Some(ImagePath::new(format!("/bin/{role}").as_bytes())?),
            mode: Some(MODE_EXECUTABLE),
            ..FileRule::default()
        };
        let origin = format!("service `{role}` of `{name}`");
        add(tree, binary, &rule, &origin)?;
    }
    for rule in &package.files {
        let origin = match rule.source.as_os_str().is_empty() {
            true => format!("package `{name}`"),
            false => format!("files entry `{}` of `{name}`", rule.source.display()),
        };
        add(tree, &package.folder.join(&rule.source), rule, &origin)?;
    }
    Ok(())
}

/// Adds a file, a symbolic link, or a folder with all that lies in it.
fn add(tree: &mut Tree, source: &Path, rule: &FileRule, origin: &str) -> Result<(), GatherError> {
    let mut left = vec![(source.to_owned(), rule.destination.clone())];
    while let Some((path, destination)) = left.pop() {
        let unreadable = |source| GatherError::Source {
            path: path.clone(),
            origin: origin.to_owned(),
            source,
        };
        let metadata = fs::symlink_metadata(&path).map_err(unreadable)?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let (kind, mode) = if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(unreadable)? {
                let name = entry.map_err(unreadable)?.file_name();
                let inner = match &destination {
                    Some(folder) => folder.join(Path::new(&name))?,
                    None if name == META && rule.source.as_os_str().is_empty() => continue,
                    None => ImagePath::new(name.as_bytes())?,
                };
                left.push((path.join(&name), Some(inner)));
            }
            (NodeKind::Directory, MODE_EXECUTABLE)
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(unreadable)?;
            (
                NodeKind::Symlink(OsStr::as_bytes(target.as_os_str()).to_vec()),
                0o777,
            )
        } else if metadata.is_file() {
            let default = if executable { MODE_EXECUTABLE } else { MODE_FILE };
            (
                NodeKind::File {
                    source: path.clone(),
                    size: metadata.len(),
                    stat: Stat::new(&metadata),
                },
                rule.mode.unwrap_or(default),
            )
        } else {
            return Err(GatherError::SpecialFile {
                path,
                origin: origin.to_owned(),
            });
        };
        let Some(destination) = destination else {
            continue;
        };
        let node = Node {
            kind,
            mode,
            origin: origin.to_owned(),
        };
        match rule.overrides {
            true => tree.add_over(destination, node)?,
            false => tree.add(destination, node)?,
        }
    }
    Ok(())
}
