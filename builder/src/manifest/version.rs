//! Names, versions, and what a package asks of another.

use std::cmp::Ordering;
use std::fmt;

use super::error::Place;

/// The name of a package: a folder's name and a host's name, so letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(String);

impl PackageName {
    /// Checks a name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let valid = (1..=64).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(fits);
        valid.then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for PackageName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version: as it was written, and as numbers. `0.1`, `0.1.0` and `00.1` are equal.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    number: semver::Version,
}

impl Version {
    /// Reads up to three numbers with dots between them, or a semantic version (`1.2.3-rc.1`).
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let number = semver::Version::parse(text).ok().or_else(|| loose(text))?;
        let text = text.to_owned();
        Some(Self { text, number })
    }

    /// The numbers, for ranges.
    #[must_use]
    pub fn number(&self) -> &semver::Version {
        &self.number
    }
}

/// Capstan's versions: one to three numbers.
fn loose(text: &str) -> Option<semver::Version> {
    let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => part.parse::<u64>().ok(),
        false => None,
    };
    let parts: Vec<_> = text.split('.').map(number).collect::<Option<_>>()?;
    let at = |index: usize| parts.get(index).copied().unwrap_or(0);
    (parts.len() <= 3).then(|| semver::Version::new(at(0), at(1), at(2)))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

/// What a package asks of another: `name`, or `name@range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The other's name.
    pub name: PackageName,
    /// The versions that do; any, or none at all, if `None`.
    pub range: Option<semver::VersionReq>,
    /// Where the manifest says so.
    pub place: Place,
}

impl Requirement {
    /// Whether a package of this version does.
    #[must_use]
    pub fn fits(&self, version: Option<&Version>) -> bool {
        match (&self.range, version) {
            (None, _) => true,
            (Some(range), Some(version)) => range.matches(version.number()),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.range {
            None => write!(f, "{}", self.name),
            Some(range) => write!(f, "{}@{range}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::new(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn loose_versions_are_compared_as_numbers() {
        assert_eq!(version("0.1"), version("0.1.0"));
        assert_eq!(version("1"), version("01.0"));
        let mut versions = ["0.10", "0.9", "1", "0.9.1", "1.0.0-rc.1", "0"].map(version);
        versions.sort();
        let sorted = versions.map(|version| version.to_string());
        assert_eq!(sorted, ["0", "0.9", "0.9.1", "0.10", "1.0.0-rc.1", "1"]);
        for wrong in [
            "",
            "1.",
            "1..2",
            "1.2.3.4",
            "v1",
            "1.x",
            "-1",
            "+1",
            "99999999999999999999",
        ] {
            assert!(Version::new(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_range_is_that_of_cargo_and_needs_a_version() {
        let requirement = |range: &str| Requirement {
            name: PackageName::new("a").unwrap(),
            range: Some(range.parse().unwrap()),
            place: Place::default(),
        };
        assert!(requirement("^1.2").fits(Some(&version("1.3"))));
        assert!(!requirement("^1.2").fits(Some(&version("2"))));
        assert!(requirement(">=1, <3").fits(Some(&version("2"))));
        assert!(!requirement("*").fits(None));
        assert_eq!(requirement("1.2").to_string(), "a@^1.2");
    }
}
