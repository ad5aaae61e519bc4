//! The networks of a user: a folder for each, `<root>/networks/<name>`.
//!
//! The network `default` is always there, with the default settings, until it is made with others.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::control::{self, Client, ControlError};
use crate::file::FileError;
use crate::settings::Settings;

/// Most bytes of a name: it is a label of a DNS name (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;

/// A network's name: a DNS label, in small letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a network: small letters, digits and `-`, with a letter or digit at both ends, 63 at most"
)]
pub struct InvalidName(String);

impl NetworkName {
    /// The name of the network that is always there.
    pub const DEFAULT: &'static str = "default";

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NetworkName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for NetworkName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let end = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = text.as_bytes();
        let fits = bytes.len() <= MAX_NAME
            && end(bytes.first())
            && end(bytes.last())
            && bytes.iter().all(|b| end(Some(b)) || *b == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for NetworkName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why something cannot be done with a network.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such network.
    #[error("there is no network `{name}`")]
    Unknown {
        /// Its name.
        name: NetworkName,
        /// The networks that are there.
        known: Vec<String>,
    },
    /// There is one already.
    #[error("there is a network `{0}` already")]
    Exists(NetworkName),
    /// Guests use it.
    #[error("network `{name}` is in use by `{}`", guests.join("`, `"))]
    InUse {
        /// Its name.
        name: NetworkName,
        /// The guests' names.
        guests: Vec<String>,
    },
    /// Its folder or its settings cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its process.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// The networks below a root.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Those of the user whose files lie below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join("networks"),
        }
    }

    /// The folder of a network, whether it is there or not.
    #[must_use]
    pub fn folder(&self, name: &NetworkName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// A network's settings.
    ///
    /// # Errors
    /// There is no such network, or its settings are damaged.
    pub fn settings(&self, name: &NetworkName) -> Result<Settings, StoreError> {
        match Settings::read(&self.folder(name))? {
            Some(settings) => Ok(settings),
            None if name.as_str() == NetworkName::DEFAULT => Ok(Settings::default()),
            None => {
                let name = name.clone();
                let known = self.names()?.into_iter().map(String::from).collect();
                Err(StoreError::Unknown { name, known })
            }
        }
    }

    /// Makes a network.
    ///
    /// # Errors
    /// There is one of that name, or it cannot be written.
    pub fn create(&self, name: &NetworkName, settings: &Settings) -> Result<(), StoreError> {
        let folder = self.folder(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(FileError::io("create", &folder))?;
        let _lock = control::lock(&folder)?;
        if Settings::read(&folder)?.is_some() {
            return Err(StoreError::Exists(name.clone()));
        }
        Ok(settings.write(&folder)?)
    }

    /// Removes a network, with the addresses that it gave out. Its process ends.
    ///
    /// # Errors
    /// There is none, guests use it, or it cannot be removed.
    pub fn remove(&self, name: &NetworkName) -> Result<(), StoreError> {
        self.settings(name)?;
        let folder = self.folder(name);
        if !folder.try_exists().map_err(FileError::io("look for", &folder))? {
            return Ok(());
        }
        // Who wants to start its process meanwhile waits, and finds no network.
        let _lock = control::lock(&folder)?;
        if let Some(mut client) = Client::connect(&folder)? {
            let guests: Vec<_> = client.retire()?.into_iter().map(|member| member.name).collect();
            if !guests.is_empty() {
                let name = name.clone();
                return Err(StoreError::InUse { name, guests });
            }
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("remove", &folder)(error).into())
            }
            _ => Ok(()),
        }
    }

    /// The networks that are there, by name.
    ///
    /// # Errors
    /// Their folder cannot be read.
    pub fn names(&self) -> Result<Vec<NetworkName>, StoreError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let entries = entries.map_err(FileError::io("read", &self.folder))?;
        let name = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse::<NetworkName>().ok();
        let mut names: Vec<_> = entries.iter().filter_map(name).collect();
        // A folder without settings is what a removal left that was cut short.
        names.retain(|name| matches!(Settings::read(&self.folder(name)), Ok(Some(_)) | Err(_)));
        names.push(NetworkName::default());
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NetworkName {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_made_once_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let settings = Settings {
            subnet: "10.1.0.0/24".parse().unwrap(),
            host_access: true,
        };
        store.create(&name("app"), &settings).unwrap();
        assert!(matches!(
            store.create(&name("app"), &settings),
            Err(StoreError::Exists(_))
        ));
        assert_eq!(store.settings(&name("app")).unwrap(), settings);
        assert_eq!(store.names().unwrap(), [name("app"), name("default")]);
        store.remove(&name("app")).unwrap();
        assert!(matches!(
            store.remove(&name("app")),
            Err(StoreError::Unknown { .. })
        ));
        assert_eq!(store.names().unwrap(), [name("default")]);
    }

    #[test]
    fn the_default_network_is_always_there_and_can_have_other_settings() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let default = NetworkName::default();
        assert_eq!(store.settings(&default).unwrap(), Settings::default());
        store.remove(&default).unwrap();
        let settings = Settings {
            host_access: true,
            ..Settings::default()
        };
        store.create(&default, &settings).unwrap();
        assert_eq!(store.settings(&default).unwrap(), settings);
    }

    #[test]
    fn a_name_is_a_label_of_a_host_name() {
        for text in ["", "-a", "a-", "A", "a.b", "a/b", "..", "ä", &"a".repeat(64)] {
            assert!(text.parse::<NetworkName>().is_err(), "{text}");
        }
        for text in ["a", "node-micro", "0", &"a".repeat(63)] {
            assert!(text.parse::<NetworkName>().is_ok(), "{text}");
        }
    }
}
