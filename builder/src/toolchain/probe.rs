//! What `doctor` says about the guest toolchain.

use std::path::PathBuf;

use super::{GuestToolchain, Origin, ToolchainError, apt};
use crate::process;
use crate::session::Session;

/// The state of the guest toolchain on this machine.
#[derive(Debug)]
pub enum Status {
    /// It is there.
    Ready {
        /// Where it came from.
        origin: Origin,
        /// Where it is.
        sysroot: PathBuf,
    },
    /// It is not there, and the first use will provide it.
    WillBeProvided {
        /// From where.
        origin: Origin,
    },
    /// It is not there, and we cannot provide it.
    Unavailable(ToolchainError),
}

/// Looks, and changes nothing.
#[must_use]
pub fn probe(session: &Session<'_>) -> Status {
    match GuestToolchain::find(session) {
        Ok(Some(toolchain)) => Status::Ready {
            origin: toolchain.origin,
            sysroot: toolchain.sysroot,
        },
        Ok(None) => promise(session),
        Err(error) => Status::Unavailable(error),
    }
}

fn promise(session: &Session<'_>) -> Status {
    let environment = &session.environment;
    if environment.offline {
        return Status::Unavailable(ToolchainError::Offline);
    }
    let rustup = process::find("rustup", &environment.path).is_some();
    if rustup && environment.rustup_may_install {
        return Status::WillBeProvided {
            origin: Origin::Rustup,
        };
    }
    match apt::Apt::find(&environment.path) {
        Ok(_) => Status::WillBeProvided {
            origin: Origin::Packages,
        },
        Err(packages) => Status::Unavailable(ToolchainError::NoSource {
            rustup: if rustup {
                "it may not install, by `RUSTUP_AUTO_INSTALL=0`".to_owned()
            } else {
                "it is not on this machine".to_owned()
            },
            packages,
        }),
    }
}
