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
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use crate::folder::{self, Found};
use crate::ignore::{self, IgnoreError, Rules};
use crate::manifest::{self, Diagnostic, FileRule, META, Manifest};
use crate::suggest::did_you_mean;
use crate::tree::{
    Collision, ImagePath, MODE_EXECUTABLE, MODE_FILE, Node, NodeKind, Origin, PathError, Source, Tree,
};

/// Permissions of symbolic links, which nothing regards.
const MODE_LINK: u16 = 0o777;

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
        let found = folder::look(binary).map_err(unreadable(binary, &origin))?;
        let path = ImagePath::new(format!("/bin/{role}").as_bytes())?;
        let (source, origin) = (Source::file(binary), Origin::new(origin));
        let node = node(&path, source, found, Some(MODE_EXECUTABLE), &origin)?;
        tree.add(path, node)?;
    }
    for rule in &package.files {
        let origin = match is_package(rule) {
            true => format!("package `{name}`"),
            false => format!("files entry `{}` of `{name}`", rule.source.display()),
        };
        Walk::new(tree, package, rule, Origin::new(origin))?.run()?;
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
    origin: Origin,
    /// Where it starts: the host's path of everything on the way follows from its path in the image.
    source: Source,
    /// Which files below it, if not all.
    pattern: Option<GlobMatcher>,
    /// What is left, the next one last.
    left: Vec<Pending>,
}

/// Something on the way.
struct Pending {
    found: Found,
    /// Where it will lie.
    path: ImagePath,
    /// What is ignored there.
    rules: Rules,
}

impl<'a> Walk<'a> {
    fn new(
        tree: &'a mut Tree,
        package: &Manifest,
        rule: &'a FileRule,
        origin: Origin,
    ) -> Result<Self, GatherError> {
        let wrong = |what: &str, hint| {
            let message = format!("`{}` {what}", rule.source.display());
            GatherError::Rule(Box::new(rule.place.diagnostic(message, hint)))
        };
        let source = match rule.as_it_is {
            true => manifest::Source::plain(&rule.source),
            false => manifest::Source::new(&rule.source).map_err(|_| wrong("is no pattern", None))?,
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
        // The package's own folder may be a link to it.
        let found = match is_package(rule) && base.is_dir() {
            true => Found::Directory,
            false => folder::look(&base).map_err(unreadable(&base, &origin))?,
        };
        let mut walk = Self {
            tree,
            rule,
            origin,
            source: Source::below(&base, rule.destination.as_ref()),
            pattern: source.pattern,
            left: Vec::new(),
        };
        match (&rule.destination, found) {
            (Some(path), found) => walk.left.push(Pending {
                found,
                path: path.clone(),
                rules,
            }),
            (None, Found::Directory) => walk.folder(&base, None, rules)?,
            (None, _) => {
                let hint = Some(format!("write `destination: /{}`", rule.source.display()));
                return Err(wrong("is no folder, and so cannot be the whole image", hint));
            }
        }
        Ok(walk)
    }

    fn run(mut self) -> Result<(), GatherError> {
        let mut any = false;
        while let Some(Pending { found, path, rules }) = self.left.pop() {
            if found == Found::Directory {
                self.folder(&self.source.path(&path), Some(&path), rules)?;
                // Patterns are for files; folders come with them.
                if self.pattern.is_some() {
                    continue;
                }
            }
            if let Some(pattern) = &self.pattern {
                if !pattern.is_match(self.source.inner(&path)) {
                    continue;
                }
            }
            any = true;
            let node = node(&path, self.source.clone(), found, self.rule.mode, &self.origin)?;
            match self.rule.overrides {
                true => self.tree.add_over(path, node)?,
                false => self.tree.add(path, node)?,
            }
        }
        if !any && self.pattern.is_some() {
            let message = format!("`{}` fits no file", self.rule.source.display());
            return Err(GatherError::Rule(Box::new(
                self.rule.place.diagnostic(message, None),
            )));
        }
        Ok(())
    }

    /// Goes on in a folder of the host, which will lie at `path`, or be the image's root.
    fn folder(
        &mut self,
        folder: &Path,
        path: Option<&ImagePath>,
        mut rules: Rules,
    ) -> Result<(), GatherError> {
        let entries = folder::list(folder).map_err(unreadable(folder, &self.origin))?;
        let is_ours =
            |name: &[u8]| !self.rule.as_it_is && ignore::NAMES.iter().any(|ours| name == ours.as_bytes());
        if entries.iter().any(|(name, _)| is_ours(name)) {
            rules = rules.enter(folder)?;
        }
        // Of Capstan's folders, what is said of the package is no part of it.
        let is_whole = is_package(self.rule) && path == self.rule.destination.as_ref();
        // The first one is the next.
        for (name, found) in entries.into_iter().rev() {
            let leave_out = || {
                let inner = folder.join(OsStr::from_bytes(&name));
                rules.leave_out(&inner, found == Found::Directory)
            };
            if is_ours(&name) || is_whole && *name == *META.as_bytes() || !rules.is_empty() && leave_out() {
                continue;
            }
            let path = match path {
                Some(folder) => folder.child(&name)?,
                None => ImagePath::new(&name)?,
            };
            let rules = rules.clone();
            self.left.push(Pending { found, path, rules });
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

/// What was found on the host, as a node.
fn node(
    path: &ImagePath,
    source: Source,
    found: Found,
    mode: Option<u16>,
    origin: &Origin,
) -> Result<Node, GatherError> {
    let (kind, mode) = match found {
        Found::Directory => (NodeKind::Directory, MODE_EXECUTABLE),
        Found::Symlink(target) => (NodeKind::Symlink(target), MODE_LINK),
        Found::File {
            size,
            stat,
            executable,
        } => {
            let default = if executable { MODE_EXECUTABLE } else { MODE_FILE };
            (NodeKind::File { source, size, stat }, mode.unwrap_or(default))
        }
        Found::Special => {
            return Err(GatherError::SpecialFile {
                path: source.path(path),
                origin: origin.to_string(),
            });
        }
    };
    Ok(Node {
        kind,
        mode,
        origin: origin.clone(),
    })
}

fn unreadable<'a>(path: &'a Path, origin: &'a str) -> impl Fn(io::Error) -> GatherError + 'a {
    move |source| GatherError::Source {
        path: path.to_owned(),
        origin: origin.to_owned(),
        source,
    }
}
