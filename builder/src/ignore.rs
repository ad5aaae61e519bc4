//! Ignore files: `.hermitageignore` and `.capstanignore` say what in a package's folders is no part of it, by the rules
//! of `.gitignore`.
//!
//! Only these two names count, and only in the package's folder and below: what a user has configured for git, or what
//! lies above the package, changes no image.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ignore::Match;
use ::ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::manifest::{Diagnostic, Place};

/// The files' names. Of one folder, what the later says counts.
pub const NAMES: [&str; 2] = [".capstanignore", ".hermitageignore"];

/// Most bytes of such a file: a real one has some lines.
const MAX_SIZE: u64 = 64 << 10;

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no pattern.
    #[error("{0}")]
    Wrong(Box<Diagnostic>),
}

/// What holds in a folder: its own rules, then those of the folders around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Option<Arc<Level>>);

#[derive(Debug)]
struct Level {
    own: Gitignore,
    outer: Rules,
}

impl Rules {
    /// What holds in a folder that lies in this one, or is the first.
    pub(crate) fn enter(&self, folder: &Path) -> Result<Self, IgnoreError> {
        let mut rules = GitignoreBuilder::new(folder);
        let mut any = false;
        for path in NAMES.map(|name| folder.join(name)) {
            let Some(text) = read(&path)? else {
                continue;
            };
            any = true;
            for (at, line) in text.lines().enumerate() {
                if let Err(error) = rules.add_line(None, line) {
                    return Err(wrong(&path, &text, at + 1, &error));
                }
            }
        }
        if !any {
            return Ok(self.clone());
        }
        let own = rules
            .build()
            .map_err(|error| wrong(&folder.join(NAMES[1]), "", 1, &error))?;
        let outer = self.clone();
        Ok(Self(Some(Arc::new(Level { own, outer }))))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether something in the folder is left out.
    pub(crate) fn leave_out(&self, path: &Path, is_folder: bool) -> bool {
        let mut rules = self;
        while let Self(Some(level)) = rules {
            match level.own.matched(path, is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => rules = &level.outer,
            }
        }
        false
    }
}

/// The text of an ignore file, if it is there.
fn read(path: &Path) -> Result<Option<String>, IgnoreError> {
    let unreadable = |source| IgnoreError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let mut text = String::new();
    file.take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_SIZE {
        let error = format!("it has more than {MAX_SIZE} bytes");
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, error)));
    }
    Ok(Some(text))
}

fn wrong(path: &Path, text: &str, line: usize, error: &::ignore::Error) -> IgnoreError {
    let message = match error {
        ::ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    };
    let place = Place::of_line(path, text, line);
    IgnoreError::Wrong(Box::new(place.diagnostic(format!("no pattern: {message}"), None)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_innermost_rule_counts_and_only_our_files_do() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join(".capstanignore"), "*.log\n/only-here\nbuild/\n").unwrap();
        fs::write(root.join(".hermitageignore"), "# ours\n!keep.log\n").unwrap();
        fs::write(root.join("a/.hermitageignore"), "!x.log\n").unwrap();
        fs::write(root.join("a/.gitignore"), "*\n").unwrap();
        fs::write(root.join("a/.ignore"), "*\n").unwrap();
        let rules = Rules::default().enter(root).unwrap();
        let out = |path: &str| rules.leave_out(&root.join(path), false);
        assert!(out("x.log") && out("a/x.log") && out("only-here"));
        assert!(!out("keep.log") && !out("a/only-here") && !out("build"));
        assert!(rules.leave_out(&root.join("a/build"), true));
        let inner = rules.enter(&root.join("a")).unwrap();
        let out = |path: &str| inner.leave_out(&root.join(path), false);
        assert!(!out("a/x.log") && out("a/y.log") && !out("a/other"));
        assert!(
            inner
                .enter(&root.join("a/b"))
                .unwrap()
                .leave_out(&root.join("a/b/y.log"), false)
        );
    }

    #[test]
    fn a_line_that_is_no_pattern_is_shown_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".hermitageignore");
        fs::write(&path, "a\nb[z-a]\n").unwrap();
        let error = Rules::default().enter(folder.path()).unwrap_err();
        let shown = error
            .to_string()
            .replace(&folder.path().display().to_string(), "p");
        assert_eq!(
            shown,
            "no pattern: invalid range; 'z' > 'a'\n --> p/.hermitageignore:2:1\n  |\n2 | b[z-a]\n  | ^^^^^^"
        );
        fs::write(&path, vec![b'#'; 65_537]).unwrap();
        let error = Rules::default().enter(folder.path()).unwrap_err();
        assert!(matches!(error, IgnoreError::Read { .. }));
    }
}
