//! What is wrong with a manifest, and where: shown with the line and a caret under the place.

use std::fmt;
use std::io;
use std::path::PathBuf;

use marked_yaml::{LoadError, Marker, Span};

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

/// A place in a manifest, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters are wrong.
    pub width: usize,
    /// The line's text.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            message,
            path,
            line,
            column,
            text,
            ..
        } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs before the place are kept, so that the caret stands under it.
        let indent: String = text
            .chars()
            .take(column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{message}")?;
        writeln!(f, "{margin}--> {}:{line}:{column}", path.display())?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        write!(f, "{margin} | {indent}{}", "^".repeat(self.width.max(1)))
    }
}

/// A manifest's text, to show places in it.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// What is wrong with the `width` characters at a place.
    fn at(&self, place: Option<&Marker>, width: usize, message: String) -> ManifestError {
        let (line, column) = place.map_or((1, 1), |marker| (marker.line().max(1), marker.column().max(1)));
        let text = self.text.lines().nth(line - 1).unwrap_or_default().to_owned();
        let width = width.min((text.chars().count() + 1).saturating_sub(column));
        ManifestError::Wrong(Box::new(Diagnostic {
            message,
            path: self.path.clone(),
            line,
            column,
            width,
            text,
            hint: None,
        }))
    }

    /// What is wrong with a node.
    pub(super) fn wrong(&self, span: &Span, message: impl Into<String>) -> ManifestError {
        let width = match (span.start(), span.end()) {
            (Some(start), Some(end)) if start.line() == end.line() => {
                end.column().saturating_sub(start.column())
            }
            _ => 1,
        };
        self.at(span.start(), width, message.into())
    }

    /// What is wrong with a word of the manifest.
    pub(super) fn wrong_word(&self, word: &super::raw::Text, message: impl Into<String>) -> ManifestError {
        self.at(word.span.start(), word.value.chars().count(), message.into())
    }

    /// What the YAML parser says.
    pub(super) fn syntax(&self, error: &LoadError) -> ManifestError {
        match error {
            LoadError::TopLevelMustBeMapping(place) | LoadError::TopLevelMustBeSequence(place) => {
                self.at(Some(place), 1, "a manifest is a mapping: `name: ...`".into())
            }
            LoadError::UnexpectedAnchor(place) => {
                self.at(Some(place), 1, "anchors and aliases are not taken".into())
            }
            LoadError::MappingKeyMustBeScalar(place) => {
                self.at(Some(place), 1, "a key must be a word".into())
            }
            LoadError::UnexpectedTag(place) => self.at(Some(place), 1, "tags are not taken".into()),
            LoadError::ScanError(place, error) => {
                self.at(Some(place), 1, format!("no YAML: {}", error.info()))
            }
            LoadError::DuplicateKey(keys) => {
                let first = keys.prev_key.span().start().map_or(1, Marker::line);
                let key = keys.key.as_str();
                let message = format!("`{key}` is there twice, first on line {first}");
                self.at(keys.key.span().start(), key.chars().count(), message)
            }
        }
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
