//! Patches to the sources of others: copies a source, and applies our changes to the copy, without guessing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{self, CacheError, failed};
use crate::digest::files;

/// Why a source is not patched.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// A patch does not fit.
    #[error("`{}` does not apply: {reason}", patch.display())]
    Unfit {
        /// The patch.
        patch: PathBuf,
        /// What does not fit, and where.
        reason: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Copies all files of a folder.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), CacheError> {
    for file in files(from)? {
        let copy = to.join(file.strip_prefix(from).unwrap_or(&file));
        write(&copy, &fs::read(&file).map_err(failed("read", &file))?)?;
    }
    Ok(())
}

fn write(file: &Path, content: &[u8]) -> Result<(), CacheError> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    }
    fs::write(file, content).map_err(failed("write", file))
}

/// Applies one patch file, which may touch several files of the source.
pub(crate) fn apply(patch: &Path, source: &Path) -> Result<(), PatchError> {
    let refused = |reason: String| PatchError::Unfit {
        patch: patch.to_owned(),
        reason,
    };
    let text = fs::read_to_string(patch).map_err(failed("read", patch))?;
    let sections = sections(&text);
    if sections.is_empty() {
        return Err(refused("it changes no file".to_owned()));
    }
    for section in sections {
        let diff = diffy::Patch::from_str(section).map_err(|error| refused(error.to_string()))?;
        let (old, new) = (path_of(diff.original()), path_of(diff.modified()));
        let before = match &old {
            Some(old) => {
                let file = source.join(old);
                fs::read_to_string(&file).map_err(|error| refused(format!("`{old}`: {error}")))?
            }
            None => String::new(),
        };
        let after = diffy::apply(&before, &diff).map_err(|error| {
            let name = old.as_deref().or(new.as_deref()).unwrap_or("?");
            refused(format!("`{name}`: {error}"))
        })?;
        match (&old, &new) {
            (_, Some(new)) => write(&source.join(new), after.as_bytes())?,
            (Some(old), None) => cache::remove(&source.join(old))?,
            (None, None) => return Err(refused("it names no file".to_owned())),
        }
    }
    Ok(())
}

/// The file that a side of a diff names, less the first part of its path (`a/`, `b/`).
fn path_of(side: Option<&str>) -> Option<String> {
    let side = side.filter(|side| *side != "/dev/null")?;
    Some(side.split_once('/').map_or(side, |(_, path)| path).to_owned())
}

/// Cuts a patch of several files into one piece for each: from its `---` line up to the next file's.
fn sections(text: &str) -> Vec<&str> {
    let mut starts = Vec::new();
    let mut at = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        // The second line tells a header from a removed line that starts with `--`.
        if line.starts_with("--- ") && lines.peek().is_some_and(|next| next.starts_with("+++ ")) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| &text[start..end])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "\
Why: a reason, --- and +++ in it.

--- a/src/one.rs
+++ b/src/one.rs
@@ -1,3 +1,3 @@
 a
--- old
+new
 c
--- /dev/null
+++ b/src/two.rs
@@ -0,0 +1 @@
+two
";

    fn source() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/one.rs"), "a\n-- old\nc\n").unwrap();
        fs::write(folder.path().join("x.patch"), PATCH).unwrap();
        folder
    }

    #[test]
    fn one_patch_changes_and_adds_files() {
        let folder = source();
        apply(&folder.path().join("x.patch"), folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join("src").join(name)).unwrap();
        assert_eq!(read("one.rs"), "a\nnew\nc\n");
        assert_eq!(read("two.rs"), "two\n");
    }

    #[test]
    fn a_patch_that_does_not_fit_names_itself_and_the_file() {
        let folder = source();
        fs::write(folder.path().join("src/one.rs"), "something\nelse\n").unwrap();
        let error = apply(&folder.path().join("x.patch"), folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("x.patch` does not apply: `src/one.rs`"), "{error}");
    }
}
