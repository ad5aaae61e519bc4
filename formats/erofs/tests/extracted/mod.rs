//! The tree of a file system as `fsck.erofs`, which knows nothing of us, gives it back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What lies at each path: type and permissions, mtime, content or target.
pub(crate) struct Extracted(pub(crate) BTreeMap<PathBuf, (u32, i64, Vec<u8>)>);

/// Has `fsck.erofs` judge and extract an image.
pub(crate) fn extract(image: &Path) -> Extracted {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("out");
    let output = Command::new("fsck.erofs")
        .arg(format!("--extract={}", folder.display()))
        .arg("--preserve")
        .arg(image)
        .output()
        .expect("fsck.erofs (package erofs-utils) is needed");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Its exit status is 0 even when the superblock's checksum is wrong.
    assert!(output.status.success() && !text.contains("<E>"), "{text}");

    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let full = folder.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let content = if meta.is_dir() {
            let entries = fs::read_dir(&full).unwrap();
            left.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
            vec![]
        } else if meta.is_symlink() {
            fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            fs::read(&full).unwrap()
        };
        found.insert(path, (meta.permissions().mode(), meta.mtime(), content));
    }
    Extracted(found)
}

impl Extracted {
    /// Compares it, and names what differs.
    pub(crate) fn is(&self, expected: &Self) {
        for (path, expected) in &expected.0 {
            let shown = path.display();
            let found = self.0.get(path).unwrap_or_else(|| panic!("`{shown}` is missing"));
            let attributes = |node: &(u32, i64, Vec<u8>)| (node.0, node.1);
            assert_eq!(attributes(found), attributes(expected), "{shown}: mode, mtime");
            assert!(found.2 == expected.2, "{shown}: other content");
        }
        assert_eq!(self.0.len(), expected.0.len());
    }
}
