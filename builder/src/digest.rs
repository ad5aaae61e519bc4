//! Digests of a build's inputs: whoever has the same digest has the same result.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::{CacheError, failed};

/// Gathers the inputs of a build. Each has a name and a length in front, so that no two lists of inputs look alike.
#[derive(Debug)]
pub(crate) struct Inputs {
    hasher: blake3::Hasher,
}

impl Inputs {
    /// Starts with what is built, and the version of how: raise it when the recipe itself changes.
    pub(crate) fn new(recipe: &str) -> Self {
        let mut inputs = Self {
            hasher: blake3::Hasher::new(),
        };
        inputs.bytes("recipe", recipe.as_bytes());
        inputs
    }

    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), value] {
            self.hasher.update(&(part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
        self
    }

    /// A file's content, or those of all files in a folder with their relative names. The absolute path is no
    /// part of it; `target` folders are not looked at.
    pub(crate) fn path(&mut self, path: &Path) -> Result<&mut Self, CacheError> {
        for file in files(path)? {
            let name = file
                .strip_prefix(path)
                .unwrap_or(&file)
                .to_string_lossy()
                .into_owned();
            let content = fs::read(&file).map_err(failed("read", &file))?;
            self.bytes(&name, &content);
        }
        Ok(self)
    }

    /// The digest, as 32 hexadecimal digits: 128 bits are beyond any accident, and file names stay short.
    pub(crate) fn finish(&self) -> String {
        self.hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The files below a path, in the order of their names.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let mut files = Vec::new();
    walk(path, &mut files).map_err(failed("read", path))?;
    Ok(files)
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        if entry.file_name().is_some_and(|name| name != "target") {
            walk(&entry, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(path: &Path) -> String {
        Inputs::new("test 1").path(path).unwrap().finish()
    }

    #[test]
    fn depends_on_names_and_contents_but_not_on_where_the_folder_is() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&one, &two] {
            fs::create_dir(folder.path().join("src")).unwrap();
            fs::write(folder.path().join("src/a"), "1").unwrap();
            fs::write(folder.path().join("b"), "2").unwrap();
        }
        assert_eq!(digest(one.path()), digest(two.path()));
        fs::write(two.path().join("b"), "3").unwrap();
        assert_ne!(digest(one.path()), digest(two.path()));
        fs::write(two.path().join("b"), "2").unwrap();
        fs::rename(two.path().join("b"), two.path().join("c")).unwrap();
        assert_ne!(digest(one.path()), digest(two.path()));
    }

    #[test]
    fn keeps_neighbouring_inputs_apart() {
        let digest = |a: &[u8], b: &[u8]| Inputs::new("test 1").bytes("a", a).bytes("b", b).finish();
        assert_ne!(digest(b"12", b"3"), digest(b"1", b"23"));
    }
}
