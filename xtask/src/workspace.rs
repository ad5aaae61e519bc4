//! Where this workspace lies, and how paths in it are shown.

use std::path::{Path, PathBuf};

/// The root of the workspace that this program was built in: it is run by `cargo xtask` from the sources alone.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A path as a user in the current folder would write it.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}
