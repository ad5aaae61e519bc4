//! Names of volumes and of their snapshots.

use std::fmt;
use std::str::FromStr;

use super::MAX_LABEL;
use crate::units::ParseError;

/// Longest name of a volume or a snapshot. With an extension it is a file's name.
pub const MAX_NAME: usize = 64;

const ALLOWED: &str =
    "a name has up to 64 letters, digits, `-`, `_` or `.`, and starts with a letter or a digit";

fn is_word(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    starts && text.bytes().all(valid)
}

/// The label of a volume whose folder a guest mounts there before its program begins.
const DATA: &str = "/data";

/// Whether it can be a disk's serial.
pub(super) fn is_label(text: &str) -> bool {
    text == DATA || is_word(text) && text.len() <= MAX_LABEL
}

/// Whether it can be a name in the folder of volumes.
pub(super) fn is_name(text: &str) -> bool {
    is_word(text) && text.len() <= MAX_NAME
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                if is_name(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(ParseError::new(text, $what, ALLOWED))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of a volume in the user's folder; its label in the guest, where no other is given.
    VolumeName, "is not a name of a volume"
}

name! {
    /// Name of a snapshot, among those of its volume.
    SnapshotName, "is not a name of a snapshot"
}

/// A volume as it is, or as it was: `NAME[@SNAPSHOT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The volume.
    pub volume: VolumeName,
    /// The snapshot; the volume as it is if `None`.
    pub snapshot: Option<SnapshotName>,
}

impl FromStr for Point {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (volume, snapshot) = match text.split_once('@') {
            Some((volume, snapshot)) => (volume, Some(snapshot.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            volume: volume.parse()?,
            snapshot,
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.fmt(f)?;
        match &self.snapshot {
            Some(snapshot) => write!(f, "@{snapshot}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        for text in ["", "..", "a/b", "a b", "a@b", &"x".repeat(65)] {
            assert!(text.parse::<VolumeName>().is_err(), "{text}");
        }
        assert!("x".repeat(64).parse::<VolumeName>().is_ok());
        assert!(!is_label(&"x".repeat(21)));
        assert!(is_label("/data") && !is_label("/") && !is_label("/srv"));
    }

    #[test]
    fn a_point_is_a_volume_or_a_snapshot_of_it() {
        for text in ["db", "db@before", "a.b-c@1"] {
            assert_eq!(text.parse::<Point>().unwrap().to_string(), text);
        }
        for text in ["", "@", "db@", "@before", "a@b@c"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }
}
