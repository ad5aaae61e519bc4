//! A repository of packages in a folder of its own, and archives for it.

use std::fs;
use std::path::{Path, PathBuf};

use builder::archive::{Compression, write};
use builder::cache::Cache;
use builder::environment::Environment;
use builder::event::Silent;
use builder::gather::gather;
use builder::manifest::Manifest;
use builder::repository::{Repository, RepositoryError};

/// A folder with a repository, its cache, and whatever a test puts there.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) repository: Repository,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment {
            cache: Some(folder.path().join("cache")),
            ..Environment::default()
        };
        let cache = Cache::new(&environment).unwrap();
        let repository = Repository::new(&folder.path().join("root"), cache);
        Self { folder, repository }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An archive `<folder>/<name>.mpm` with a file, and its manifest and digest beside it.
    pub(crate) fn archive(&self, folder: &str, manifest: &str, content: &str) -> PathBuf {
        let source = self.path("source");
        let _ = fs::remove_dir_all(&source);
        fs::create_dir_all(source.join("files")).unwrap();
        fs::create_dir_all(self.path(folder)).unwrap();
        fs::write(source.join("files/motd"), content).unwrap();
        let text = format!("{manifest}files:\n  - source: files\n    destination: /etc\n");
        fs::write(source.join("package.yaml"), &text).unwrap();
        let package = Manifest::read(&source.join("package.yaml")).unwrap();
        let path = self.path(folder).join(format!("{}.mpm", package.name));
        let tree = gather(&[package], &Default::default()).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, Compression::Gzip, &tree, &text, None).unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::write(path.with_extension("yaml"), text).unwrap();
        let digest = format!("blake3:{}\n", blake3::hash(&bytes));
        fs::write(path.with_extension("digest"), digest).unwrap();
        path
    }

    pub(crate) fn import(&self, path: &Path) -> Result<bool, RepositoryError> {
        Ok(self.repository.import(path, false, &Silent)?.unchanged)
    }

    pub(crate) fn listed(&self) -> Vec<String> {
        let listed = self.repository.list().unwrap();
        let line = |listed: &builder::repository::Listed| {
            let state = if listed.entry.is_ok() { "" } else { " broken" };
            format!("{}@{}{state}", listed.name, listed.version)
        };
        listed.iter().map(line).collect()
    }
}

/// The start of a manifest.
pub(crate) fn manifest(name: &str, version: &str) -> String {
    format!("name: {name}\ntitle: The {name}\nauthor: us\nversion: {version}\n")
}
