//! What a network is made with: `network.json` in its folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::file::{self, FileError};
use crate::subnet::Subnet;

/// Name of the file in a network's folder.
const FILE: &str = "network.json";

/// What a network is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its addresses.
    pub subnet: Subnet,
    /// Whether guests reach the host's 127.0.0.1 at the gateway's address.
    #[serde(default)]
    pub host_access: bool,
}

impl Settings {
    /// Those of the network in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, FileError> {
        file::read(&folder.join(FILE))
    }

    /// Writes them into `folder`, which is there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        file::write(&folder.join(FILE), self)
    }
}
