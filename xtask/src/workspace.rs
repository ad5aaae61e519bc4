//! Where this workspace lies.

use std::path::{Path, PathBuf};

/// The root of the workspace that this program was built in: it is run by `cargo xtask` from the sources alone.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
