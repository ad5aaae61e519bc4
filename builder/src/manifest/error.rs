//! What is wrong with a manifest, and where: shown with the line and a caret under the place.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use marked_yaml::{LoadError, Marker, Span};

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

/// A place in a manifest: some characters of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters it is about, as far as they are on that line.
    pub width: usize,
    /// All of the file's text: a place is made for every name in it, and shown rarely.
    text: Arc<str>,
}

impl Place {
    /// A whole line of a file.
    pub(crate) fn of_line(path: &Path, text: &str, line: usize) -> Self {
        Self {
            path: path.to_owned(),
            line,
            column: 1,
            width: usize::MAX,
            text: text.into(),
        }
    }

    /// The line's text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text
            .lines()
            .nth(self.line.saturating_sub(1))
            .unwrap_or_default()
    }

    /// What is wrong there.
    #[must_use]
    pub fn diagnostic(&self, message: impl Into<String>, hint: Option<String>) -> Diagnostic {
        Diagnostic {
            message: message.into(),
            place: self.clone(),
            hint,
        }
    }
}

/// The line, and a caret under the place.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, line, column, text) = (self.path.display(), self.line, self.column, self.text());
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs before the place are kept, so that the caret stands under it.
        let indent: String = text
            .chars()
            .take(column.saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        // A quoted word starts with its quote.
        let quotes = match text.chars().nth(column.saturating_sub(1)) {
            Some('\'' | '"') => 2,
            _ => 0,
        };
        let width = self
            .width
            .saturating_add(quotes)
            .min((text.chars().count() + 1).saturating_sub(column))
            .max(1);
        writeln!(f, "{margin}--> {path}:{line}:{column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        write!(f, "{margin} | {indent}{}", "^".repeat(width))
    }
}

/// What is wrong in a manifest, or may be, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.message, self.place)
    }
}

/// Most warnings about one manifest: a file of unknown keys alone is no manifest.
const MAX_WARNINGS: usize = 32;

/// A manifest's text, to show places in it, and what was found that may be wrong.
pub(super) struct Source {
    path: PathBuf,
    text: Arc<str>,
    warnings: RefCell<Vec<Diagnostic>>,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn into_warnings(self) -> Vec<Diagnostic> {
        self.warnings.into_inner()
    }

    fn place(&self, start: Option<&Marker>, width: usize) -> Place {
        let (line, column) = start.map_or((1, 1), |marker| (marker.line().max(1), marker.column().max(1)));
        Place {
            path: self.path.clone(),
            line,
            column,
            width,
            text: self.text.clone(),
        }
    }

    /// What is wrong with the characters at the start of a line.
    pub(super) fn wrong_line(&self, line: usize, message: impl Into<String>) -> ManifestError {
        let place = Place {
            line,
            ..self.place(None, 1)
        };
        place.diagnostic(message, None).into()
    }

    /// The place of a word.
    pub(super) fn place_of(&self, word: &Text) -> Place {
        self.place(word.span.start(), word.value.chars().count())
    }

    /// What is wrong with a node.
    pub(super) fn wrong(&self, span: &Span, message: impl Into<String>) -> ManifestError {
        let width = match (span.start(), span.end()) {
            (Some(start), Some(end)) if start.line() == end.line() => {
                end.column().saturating_sub(start.column())
            }
            _ => 1,
        };
        self.place(span.start(), width).diagnostic(message, None).into()
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
        let at = |place, message: String| self.place(Some(place), 1).diagnostic(message, None).into();
        match error {
            LoadError::TopLevelMustBeMapping(place) | LoadError::TopLevelMustBeSequence(place) => {
                at(place, "a manifest is a mapping: `name: ...`".into())
            }
            LoadError::UnexpectedAnchor(place) => at(place, "anchors and aliases are not taken".into()),
            LoadError::MappingKeyMustBeScalar(place) => at(place, "a key must be a word".into()),
            LoadError::UnexpectedTag(place) => at(place, "tags are not taken".into()),
            LoadError::ScanError(place, error) => at(place, format!("no YAML: {}", error.info())),
            LoadError::DuplicateKey(keys) => {
                let first = keys.prev_key.span().start().map_or(1, Marker::line);
                let word = Text::of(&keys.key);
                let message = format!("`{}` is there twice, first on line {first}", word.value);
                self.wrong_word(&word, message)
            }
        }
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
