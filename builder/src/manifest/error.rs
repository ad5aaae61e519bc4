//! What is wrong with a manifest, and where.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

pub use hermitage_yaml::{Diagnostic, Place};
use marked_yaml::{LoadError, Span};

use super::fields::Text;

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the manifest `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any manifest.
    #[error("`{}` has {size} bytes; a manifest has at most {max}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Wrong(Box<Diagnostic>),
}

impl ManifestError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Wrong(diagnostic) => diagnostic.hint.clone(),
            Self::Read { path, source } if source.kind() == io::ErrorKind::NotFound => Some(format!(
                "a package is a folder with a `package.yaml`; none is at `{}`",
                path.display()
            )),
            _ => None,
        }
    }
}

/// Most warnings about one manifest: a file of unknown keys alone is no manifest.
const MAX_WARNINGS: usize = 32;

/// A manifest's text, to show places in it, and what was found that may be wrong.
pub(super) struct Source {
    source: hermitage_yaml::Source,
    warnings: RefCell<Vec<Diagnostic>>,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            source: hermitage_yaml::Source::new(path, text, "a manifest"),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn text(&self) -> &str {
        self.source.text()
    }

    pub(super) fn into_warnings(self) -> Vec<Diagnostic> {
        self.warnings.into_inner()
    }

    /// What is wrong with the characters at the start of a line.
    pub(super) fn wrong_line(&self, line: usize, message: impl Into<String>) -> ManifestError {
        self.source.wrong_line(line, message).into()
    }

    /// The place of a word.
    pub(super) fn place_of(&self, word: &Text) -> Place {
        self.source.place_of(&word.value, &word.span)
    }

    /// What is wrong with a node.
    pub(super) fn wrong(&self, span: &Span, message: impl Into<String>) -> ManifestError {
        self.source.wrong(span, message).into()
    }

    /// What is wrong with a word of the manifest.
    pub(super) fn wrong_word(&self, word: &Text, message: impl Into<String>) -> ManifestError {
        self.place_of(word).diagnostic(message, None).into()
    }

    /// Notes what may be wrong with a word.
    pub(super) fn warn(&self, word: &Text, message: impl Into<String>, hint: Option<String>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_WARNINGS {
            warnings.push(self.place_of(word).diagnostic(message, hint));
        }
    }

    /// What the YAML parser says.
    pub(super) fn syntax(&self, error: &LoadError) -> ManifestError {
        self.source.syntax(error).into()
    }
}

impl From<Diagnostic> for ManifestError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Wrong(Box::new(diagnostic))
    }
}

impl ManifestError {
    /// Adds advice.
    pub(super) fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        if let Self::Wrong(diagnostic) = &mut self {
            diagnostic.hint = hint.into();
        }
        self
    }
}
