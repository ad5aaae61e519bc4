//! Sources with signs like `*`: many files at once.

use std::path::{Path, PathBuf};

use globset::{Error, GlobBuilder, GlobMatcher};

/// The signs that make a path a pattern.
const SIGNS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A source: what has no signs, and from the first name that has some, a pattern for paths below it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file or folder, from the package's folder.
    pub(crate) base: PathBuf,
    /// Which files below it, by their paths from there; all of them if `None`.
    pub(crate) pattern: Option<GlobMatcher>,
}

impl Source {
    /// A source that is no pattern, whatever signs it has.
    pub(crate) fn plain(source: &Path) -> Self {
        let base = source.to_owned();
        Self { base, pattern: None }
    }

    pub(crate) fn new(source: &Path) -> Result<Self, Error> {
        let has_signs = |name: &&std::ffi::OsStr| name.to_str().is_some_and(|name| name.contains(SIGNS));
        let names: Vec<_> = source.iter().collect();
        let Some(first) = names.iter().position(has_signs) else {
            return Ok(Self::plain(source));
        };
        let (base, rest) = names.split_at(first);
        let rest: PathBuf = rest.iter().collect();
        // `*` and `?` stay within a name, as in a shell.
        let glob = GlobBuilder::new(&rest.to_string_lossy())
            .literal_separator(true)
            .build()?;
        Ok(Self {
            base: base.iter().collect(),
            pattern: Some(glob.compile_matcher()),
        })
    }
}
