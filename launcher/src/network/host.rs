//! What this host has for networks that are not QEMU's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use rustix::thread::{CapabilitySet, capabilities};

use super::{DEFAULT_BRIDGES, Network};
use crate::spec::RunRequest;
use crate::units::InterfaceName;

/// Where distributions keep QEMU's helper: Debian, Fedora, Arch.
const HELPERS: [&str; 3] = [
    "/usr/lib/qemu/qemu-bridge-helper",
    "/usr/libexec/qemu-bridge-helper",
    "/usr/lib/qemu-bridge-helper",
];

/// Mode bit of a program that runs with its owner's rights.
const SET_USER_ID: u32 = 0o4000;

/// What this host offers to connect guests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNetwork {
    /// Whether we may make and change network devices.
    pub may_administer: bool,
    /// Those of the interfaces in question that exist.
    pub interfaces: Vec<InterfaceName>,
    /// QEMU's helper, if it may do what we may not.
    pub helper: Option<PathBuf>,
    /// Whether the host's kernel moves frames for us.
    pub vhost: Result<(), NoVhost>,
}

/// Why the host's kernel does not move frames for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVhost {
    /// No such device.
    #[error("`/dev/vhost-net` does not exist")]
    NoDevice,
    /// It cannot be opened.
    #[error("`/dev/vhost-net` does not open: {0}")]
    NotOpened(String),
}

impl HostNetwork {
    /// Looks at what a request needs of this host; a user network needs nothing.
    #[must_use]
    pub fn detect(request: &RunRequest) -> Self {
        if request.network == Network::User {
            return Self::nothing();
        }
        let named = match &request.network {
            Network::Bridge(bridge) => bridge.iter(),
            _ => None.iter(),
        };
        let defaults = DEFAULT_BRIDGES.iter().filter_map(|name| name.parse().ok());
        let asked = named.chain(&request.bridge).cloned().chain(defaults);
        Self {
            may_administer: may_administer(),
            interfaces: asked.filter(exists).collect(),
            helper: HELPERS
                .map(PathBuf::from)
                .into_iter()
                .find(|path| is_helper(path)),
            vhost: judge_vhost(
                fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/vhost-net"),
            ),
        }
    }

    /// A host that offers nothing, which is enough for the user network.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            may_administer: false,
            interfaces: Vec::new(),
            helper: None,
            vhost: Err(NoVhost::NoDevice),
        }
    }

    /// The bridge that is taken where none is named.
    pub(super) fn default_bridge(&self) -> Option<InterfaceName> {
        let mut bridges = DEFAULT_BRIDGES.iter().filter_map(|name| name.parse().ok());
        bridges.find(|bridge| self.has(bridge))
    }

    /// Whether an interface exists.
    pub(super) fn has(&self, name: &InterfaceName) -> bool {
        self.interfaces.contains(name)
    }
}

fn may_administer() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// By the socket's view, which is the network namespace that we are in; `/sys` may be another's.
fn exists(name: &InterfaceName) -> bool {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|socket| netdevice::name_to_index(socket, name.as_str()).is_ok())
}

/// Whether QEMU's helper is there and can do more than we: without its owner's rights it fails as we would.
fn is_helper(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & SET_USER_ID != 0)
}

fn judge_vhost<T>(opened: io::Result<T>) -> Result<(), NoVhost> {
    match opened {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NoVhost::NoDevice),
        Err(error) => Err(NoVhost::NotOpened(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_interfaces_that_exist() {
        assert!(exists(&"lo".parse().unwrap()));
        assert!(!exists(&"no-such-dev".parse().unwrap()));
    }

    #[test]
    fn says_why_there_is_no_vhost() {
        assert_eq!(judge_vhost(Ok(())), Ok(()));
        let failed = |kind: io::ErrorKind| judge_vhost::<()>(Err(kind.into())).unwrap_err();
        assert_eq!(failed(io::ErrorKind::NotFound), NoVhost::NoDevice);
        let denied = failed(io::ErrorKind::PermissionDenied).to_string();
        assert!(denied.contains("permission denied"), "{denied}");
    }
}
