//! Cargo, run by a cargo command: in an environment like the user's own, not like the outer cargo's child.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host;

/// `cargo <arguments>` in `folder`, without input.
pub(crate) fn cargo(folder: &Path, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(arguments)
        .current_dir(folder)
        .env("PATH", host::search_path())
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if is_the_outer_cargos(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// What `cargo run` sets for its child. Passed on, it would look like a changed environment to build scripts, and
/// `LD_LIBRARY_PATH` would reach QEMU.
fn is_the_outer_cargos(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    let names = [
        "CARGO_MAKEFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "LD_LIBRARY_PATH",
        "RUST_RECURSION_COUNT",
    ];
    names.contains(&&*name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_outer_cargo_out_and_the_users_settings_in() {
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "LD_LIBRARY_PATH"] {
            assert!(is_the_outer_cargos(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "RUSTUP_TOOLCHAIN",
            "CI",
        ] {
            assert!(!is_the_outer_cargos(OsStr::new(name)), "{name}");
        }
    }
}
