//! Places in YAML files, and what is wrong there: shown with the line and a caret under the place.
//!
//! It owns how a fault is shown, and what YAML's own faults are called; not what a file means: that is its reader's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use marked_yaml::{LoadError, Marker, Span};

/// A place in a file: some characters of one line.
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
    #[must_use]
    pub fn of_line(path: &Path, text: &str, line: usize) -> Self {
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

/// What is wrong in a file, or may be, and where.
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

/// A file's text, to show places in it.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: Arc<str>,
    what: &'static str,
}

impl Source {
    /// The text of the file at `path`, which is `what`: `a manifest`.
    #[must_use]
    pub fn new(path: &Path, text: String, what: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
            what,
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// So many characters from a place on; from the first of the file if there is none.
    #[must_use]
    pub fn place(&self, start: Option<&Marker>, width: usize) -> Place {
        let (line, column) = start.map_or((1, 1), |marker| (marker.line().max(1), marker.column().max(1)));
        Place {
            path: self.path.clone(),
            line,
            column,
            width,
            text: self.text.clone(),
        }
    }

    /// The place of a word.
    #[must_use]
    pub fn place_of(&self, word: &str, span: &Span) -> Place {
        self.place(span.start(), word.chars().count())
    }

    /// What is wrong with the characters at the start of a line.
    #[must_use]
    pub fn wrong_line(&self, line: usize, message: impl Into<String>) -> Diagnostic {
        let place = Place {
            line,
            ..self.place(None, 1)
        };
        place.diagnostic(message, None)
    }

    /// What is wrong with a node.
    #[must_use]
    pub fn wrong(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        let width = match (span.start(), span.end()) {
            (Some(start), Some(end)) if start.line() == end.line() => {
                end.column().saturating_sub(start.column())
            }
            _ => 1,
        };
        self.place(span.start(), width).diagnostic(message, None)
    }

    /// What the YAML parser says.
    #[must_use]
    pub fn syntax(&self, error: &LoadError) -> Diagnostic {
        let at = |place, message: String| self.place(Some(place), 1).diagnostic(message, None);
        match error {
            LoadError::TopLevelMustBeMapping(place) | LoadError::TopLevelMustBeSequence(place) => {
                at(place, format!("{} is a mapping: `name: ...`", self.what))
            }
            LoadError::UnexpectedAnchor(place) => at(place, "anchors and aliases are not taken".into()),
            LoadError::MappingKeyMustBeScalar(place) => at(place, "a key must be a word".into()),
            LoadError::UnexpectedTag(place) => at(place, "tags are not taken".into()),
            LoadError::ScanError(place, error) => at(place, format!("no YAML: {}", error.info())),
            LoadError::DuplicateKey(keys) => {
                let first = keys.prev_key.span().start().map_or(1, Marker::line);
                let key = keys.key.as_str();
                let message = format!("`{key}` is there twice, first on line {first}");
                self.place_of(key, keys.key.span()).diagnostic(message, None)
            }
        }
    }
}
