//! From packages to a tree: what each brings, by the rules of its manifest.
//!
//! Sources are named and looked at here, and read by [`crate::image`]. Ignore files ([`crate::ignore`]) say what is left
//! out. Two packages, or two entries of one, that bring a path are an error, unless the later one may override. Start at
//! [`gather`], or for one package at [`add_package`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use crate::ignore::{self, IgnoreError, Rules};
use crate::manifest::{Diagnostic, FileRule, META, Manifest, Source};
use crate::suggest::did_you_mean;
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
    /// An entry of `files` brings nothing.
    #[error("{0}")]
    Rule(Box<Diagnostic>),
    /// An ignore file cannot be read, or is wrong.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
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
            Self::Rule(diagnostic) => diagnostic.hint.clone(),
            Self::Ignore(IgnoreError::Wrong(diagnostic)) => diagnostic.hint.clone(),
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
        let origin = format!("service `{role}` of `{name}`");
        let metadata = fs::symlink_metadata(binary).map_err(unreadable(binary, &origin))?;
        tree.add(
            ImagePath::new(format!("/bin/{role}").as_bytes())?,
            node(binary, &metadata, Some(MODE_EXECUTABLE), &origin)?,
        )?;
    }
    for rule in &package.files {
        let origin = match is_package(rule) {
            true => format!("package `{name}`"),
            false => format!("files entry `{}` of `{name}`", rule.source.display()),
        };
        Walk::new(tree, package, rule, origin)?.run()?;
    }
    Ok(())
}

/// Whether there is a program that a command with this role starts.
#[must_use]
pub fn has_role(tree: &Tree, role: &[u8]) -> bool {
    let path = ImagePath::new(&[b"/bin/", role].concat());
    path.is_ok_and(|path| {
        tree.get(&path)
            .is_some_and(|node| node.kind != NodeKind::Directory)
    })
}

/// What an entry of `files` brings: a file, a symbolic link, or what lies in a folder.
struct Walk<'a> {
    tree: &'a mut Tree,
    rule: &'a FileRule,
    origin: String,
    /// Where it starts.
    base: PathBuf,
    /// Which files below it, if not all.
    pattern: Option<GlobMatcher>,
    /// What is left to be looked at: where it lies, where it will lie, and what is ignored there.
    left: Vec<(PathBuf, Option<ImagePath>, Rules)>,
}

impl<'a> Walk<'a> {
    fn new(
        tree: &'a mut Tree,
        package: &Manifest,
        rule: &'a FileRule,
        origin: String,
    ) -> Result<Self, GatherError> {
        let wrong = |what: &str, hint| {
            let message = format!("`{}` {what}", rule.source.display());
            GatherError::Rule(Box::new(rule.place.diagnostic(message, hint)))
        };
        let source = match rule.as_it_is {
            true => Source::plain(&rule.source),
            false => Source::new(&rule.source).map_err(|_| wrong("is no pattern", None))?,
        };
        let mut base = match package.folder.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => package.folder.clone(),
        };
        let mut rules = Rules::default();
        let mut names = source.base.iter().peekable();
        while let Some(name) = names.next() {
            if !rule.as_it_is {
                rules = rules.enter(&base)?;
            }
            let path = base.join(name);
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let hint = did_you_mean(&name.to_string_lossy(), &names_in(&base));
                    return Err(wrong("is not in the package's folder", hint));
                }
                Ok(metadata) if rules.leave_out(&path, metadata.is_dir()) => {
                    return Err(wrong("is left out by an ignore file", None));
                }
                // It could lead to any file of the host.
                Ok(metadata)
                    if metadata.is_symlink() && (names.peek().is_some() || source.pattern.is_some()) =>
                {
                    return Err(wrong("lies behind a symbolic link", None));
                }
                // Whatever else is wrong with it is told when it is looked at.
                _ => base = path,
            }
        }
        let is_folder = fs::symlink_metadata(&base).is_ok_and(|metadata| metadata.is_dir());
        if rule.destination.is_none() && !is_package(rule) && !is_folder {
            let hint = Some(format!("write `destination: /{}`", rule.source.display()));
            return Err(wrong("is no folder, and so cannot be the whole image", hint));
        }
        let left = vec![(base.clone(), rule.destination.clone(), rules)];
        Ok(Self {
            tree,
            rule,
            origin,
            base,
            pattern: source.pattern,
            left,
        })
    }

    fn run(mut self) -> Result<(), GatherError> {
        let mut found = false;
        while let Some((path, destination, rules)) = self.left.pop() {
            // The package's own folder may be a link to it.
            let metadata = match destination.is_none() && is_package(self.rule) {
                true => fs::metadata(&path),
                false => fs::symlink_metadata(&path),
            };
            let metadata = metadata.map_err(unreadable(&path, &self.origin))?;
            if metadata.is_dir() {
                self.folder(&path, destination.as_ref(), rules)?;
                // Patterns are for files; folders come with them.
                if self.pattern.is_some() {
                    continue;
                }
            }
            if let Some(pattern) = &self.pattern {
                let inner = path.strip_prefix(&self.base).unwrap_or(&path);
                if !pattern.is_match(inner) {
                    continue;
                }
            }
            found = true;
            if let Some(destination) = destination {
                let node = node(&path, &metadata, self.rule.mode, &self.origin)?;
                match self.rule.overrides {
                    true => self.tree.add_over(destination, node)?,
                    false => self.tree.add(destination, node)?,
                }
            }
        }
        if !found && self.pattern.is_some() {
            let message = format!("`{}` fits no file", self.rule.source.display());
            return Err(GatherError::Rule(Box::new(
                self.rule.place.diagnostic(message, None),
            )));
        }
        Ok(())
    }

    /// Goes on in a folder.
    fn folder(
        &mut self,
        path: &Path,
        destination: Option<&ImagePath>,
        mut rules: Rules,
    ) -> Result<(), GatherError> {
        let entries = fs::read_dir(path).and_then(|entries| {
            let named = |entry: fs::DirEntry| Ok((entry.file_name(), entry.file_type()?.is_dir()));
            entries.map(|entry| named(entry?)).collect::<io::Result<Vec<_>>>()
        });
        let entries = entries.map_err(unreadable(path, &self.origin))?;
        let is_ours = |name: &OsString| !self.rule.as_it_is && ignore::NAMES.iter().any(|ours| name == ours);
        if entries.iter().any(|(name, _)| is_ours(name)) {
            rules = rules.enter(path)?;
        }
        // Of Capstan's folders, what is said of the package is no part of it.
        let is_whole = is_package(self.rule) && path == self.base;
        for (name, is_folder) in entries {
            let inner = path.join(&name);
            if is_ours(&name) || is_whole && name == META || rules.leave_out(&inner, is_folder) {
                continue;
            }
            let destination = match destination {
                Some(folder) => folder.join(Path::new(&name))?,
                None => ImagePath::new(name.as_bytes())?,
            };
            self.left.push((inner, Some(destination), rules.clone()));
        }
        Ok(())
    }
}

/// Whether an entry brings the package's folder itself.
fn is_package(rule: &FileRule) -> bool {
    rule.source.as_os_str().is_empty()
}

/// Names in a folder, for "did you mean".
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What lies at a path of the host.
fn node(path: &Path, metadata: &Metadata, mode: Option<u16>, origin: &str) -> Result<Node, GatherError> {
    let executable = metadata.permissions().mode() & 0o100 != 0;
    let (kind, mode) = if metadata.is_dir() {
        (NodeKind::Directory, MODE_EXECUTABLE)
    } else if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(unreadable(path, origin))?;
        (NodeKind::Symlink(target.into_os_string().into_vec()), 0o777)
    } else if metadata.is_file() {
        let default = if executable { MODE_EXECUTABLE } else { MODE_FILE };
        let file = NodeKind::File {
            source: path.to_owned(),
            size: metadata.len(),
            stat: Stat::new(metadata),
        };
        (file, mode.unwrap_or(default))
    } else {
        return Err(GatherError::SpecialFile {
            path: path.to_owned(),
            origin: origin.to_owned(),
        });
    };
    Ok(Node {
        kind,
        mode,
        origin: origin.to_owned(),
    })
}

fn unreadable<'a>(path: &'a Path, origin: &'a str) -> impl Fn(io::Error) -> GatherError + 'a {
    move |source| GatherError::Source {
        path: path.to_owned(),
        origin: origin.to_owned(),
        source,
    }
}
