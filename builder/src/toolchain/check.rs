//! Whether a folder is a guest toolchain: everything is there, and the compiler runs and is the right one.

use std::path::{Path, PathBuf};

use super::{LIBRARY_SOURCE, TOOLS, VERSION, library_path, tools};
use crate::process::{Invocation, ProcessError};
use crate::session::Session;

/// What is wrong with a folder that should be a guest toolchain.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// A part is not there.
    #[error("`{}` is not there", .0.display())]
    Missing(PathBuf),
    /// Its compiler does not run.
    #[error("its compiler does not run")]
    Broken(#[source] ProcessError),
    /// Its compiler is another one.
    #[error("its compiler is Rust {0}, needed is {VERSION}")]
    Version(String),
}

/// Checks the folder; gives what `rustc -vV` says, and the host that it says it is for.
pub(super) fn check(session: &Session<'_>, sysroot: &Path) -> Result<(String, String), Defect> {
    let present = |path: PathBuf| {
        if path.exists() {
            Ok(path)
        } else {
            Err(Defect::Missing(path))
        }
    };
    let rustc = present(sysroot.join("bin/rustc"))?;
    let output = Invocation::new(rustc)
        .arg("-vV")
        .env("LD_LIBRARY_PATH", library_path(sysroot))
        .run(session.observer)
        .map_err(Defect::Broken)?;
    let text = output.text();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or("unknown")
            .to_owned()
    };
    let release = field("release");
    if release != VERSION {
        return Err(Defect::Version(release));
    }
    let host = field("host");
    for tool in TOOLS {
        present(tools(sysroot, &host).join(tool))?;
    }
    present(sysroot.join(LIBRARY_SOURCE).join("std/Cargo.toml"))?;
    Ok((text, host))
}
