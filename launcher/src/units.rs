//! The values that a machine is described by, each checked once, where it is parsed.
//!
//! A value of these types is always valid; what they cannot know (whether a port is free, how much memory a
//! guest needs) is checked where it is used.

use std::fmt;
use std::str::FromStr;

/// Why a text is not the value that it should be. Names the text, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {fault}; {expected}")]
pub struct ParseError {
    text: String,
    fault: &'static str,
    expected: String,
}

impl ParseError {
    pub(crate) fn new(text: &str, fault: &'static str, expected: impl Into<String>) -> Self {
        let text = text.escape_debug().to_string();
        let expected = expected.into();
        Self {
            text,
            fault,
            expected,
        }
    }
}

/// Serializes types as the text that a user writes for them, and reads them with the same checks.
macro_rules! serialized_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serialized_as_text;

/// The same for an optional value of a type that is not ours, for `#[serde(with)]`.
pub(crate) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

serialized_as_text!(
    Memory,
    Cpus,
    MacAddress,
    InstanceName,
    InterfaceName,
    Variable,
    Label
);

/// Memory of a guest, in whole MiB (QEMU's own unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    mib: u32,
}

impl Memory {
    /// What a guest gets when nothing is said: enough for each example, little enough for fifty at once.
    pub const DEFAULT: Self = Self { mib: 64 };

    /// Least memory that any guest starts with: from here on the image's loader runs, and says how much more its
    /// program needs. With 1 MiB the firmware itself hangs (tried with QEMU 7.2, SeaBIOS and qboot).
    pub const MIN: Self = Self { mib: 2 };

    /// Most memory: what a 40-bit physical address reaches, the least that x86-64 CPUs of servers have.
    pub const MAX: Self = Self { mib: 1 << 20 };

    /// Whole MiB.
    #[must_use]
    pub const fn mib(self) -> u32 {
        self.mib
    }
}

impl FromStr for Memory {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a size is a whole number with K, M or G, such as `200M` or `1G`";
        let fault = |fault| ParseError::new(text, fault, EXPECTED);
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.parse().map_err(|_| fault("is not a size"))?;
        let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" => 1 << 10,
            // A bare number is in MiB, as for QEMU's own `-m`.
            "" | "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(fault("has an unknown unit")),
        };
        let bytes = number.checked_mul(unit).ok_or_else(|| fault("is too large"))?;
        if bytes % (1 << 20) != 0 {
            return Err(fault("is not a whole number of MiB"));
        }
        let mib = u32::try_from(bytes >> 20).map_err(|_| fault("is too large"))?;
        let memory = Self { mib };
        if memory < Self::MIN {
            let expected = format!("no guest starts with less than `{}`", Self::MIN);
            return Err(ParseError::new(text, "is too small", expected));
        }
        if memory > Self::MAX {
            return Err(fault("is too large"));
        }
        Ok(memory)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mib)
    }
}

/// Number of virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(u8);

impl Cpus {
    /// One CPU.
    pub const ONE: Self = Self(1);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // 255 is what QEMU's pc machine takes, and what 8-bit local APIC ids name.
        match text.parse() {
            Ok(0) | Err(_) => Err(ParseError::new(
                text,
                "is not a number of CPUs",
                "a machine has 1 to 255",
            )),
            Ok(number) => Ok(Self(number)),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address of one network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

/// First octet, bit 0: the address names a group of cards.
const MAC_MULTICAST: u8 = 1 << 0;
/// First octet, bit 1: the address was not given out by IEEE.
const MAC_LOCAL: u8 = 1 << 1;

impl MacAddress {
    /// The address of an instance that was not given one: always the same for the same name, so that a guest
    /// keeps its lease. 40 bits of the name's digest: among 1,000 names two are alike once in two million.
    #[must_use]
    pub fn of_instance(name: &InstanceName) -> Self {
        let digest = blake3::hash(name.as_str().as_bytes());
        let [a, b, c, d, e, ..] = *digest.as_bytes();
        Self([MAC_LOCAL, a, b, c, d, e])
    }

    /// The six octets, in the order in which they are written.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fault = |fault| {
            const EXPECTED: &str =
                "an address is six pairs of hexadecimal digits, such as `A2:13:15:00:80:02`";
            ParseError::new(text, fault, EXPECTED)
        };
        let mut octets = [0; 6];
        let mut pairs = text.split([':', '-']);
        for octet in &mut octets {
            let pair = pairs.next().ok_or_else(|| fault("is too short"))?;
            let valid = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            *octet = u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| valid)
                .ok_or_else(|| fault("is not a MAC address"))?;
        }
        if pairs.next().is_some() {
            return Err(fault("is too long"));
        }
        if octets[0] & MAC_MULTICAST != 0 {
            return Err(ParseError::new(
                text,
                "is a multicast address",
                "the first pair of a card's own address is even",
            ));
        }
        if octets == [0; 6] {
            return Err(fault("is no card's address"));
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Name of an instance; also a folder's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(String);

impl InstanceName {
    /// Longest name. A DNS label has 63 bytes, and names are to be found by DNS.
    pub const MAX_LENGTH: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name with a number; shortened, if it has to be.
    pub(crate) fn numbered(&self, number: u32) -> Self {
        let number = format!("-{number}");
        // Names are ASCII, so that any length is one of characters.
        let length = self.0.len().min(Self::MAX_LENGTH - number.len());
        Self(self.0[..length].to_owned() + &number)
    }
}

impl FromStr for InstanceName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str =
            "a name has up to 63 letters, digits, `-`, `_` or `.`, and starts with a letter or a digit";
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !starts || text.len() > Self::MAX_LENGTH || !text.bytes().all(valid) {
            return Err(ParseError::new(text, "is not a name of an instance", EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a network device of this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Longest name: the kernel keeps 16 bytes, the last of them NUL (`linux/if.h`).
    pub const MAX_LENGTH: usize = 15;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a device has up to 15 letters, digits, `-`, `_` or `.`, such as `br0`";
        // The kernel takes more; but `%` would be a template, and a comma or a slash a trap for everybody.
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let is_name = !text.is_empty() && text.len() <= Self::MAX_LENGTH && text.bytes().all(valid);
        if !is_name || matches!(text, "." | "..") {
            return Err(ParseError::new(text, "is not a network device", EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a user notes about an instance: `KEY=VALUE`. It means nothing to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

impl FromStr for Label {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "it has the form KEY=VALUE, the key of letters, digits, `-`, `_`, `.` or `/`";
        let fault = || ParseError::new(text, "is not a label", EXPECTED);
        let (key, value) = text.split_once('=').ok_or_else(fault)?;
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        // Of the value only what would break a table's line.
        if key.is_empty() || !key.bytes().all(valid) || value.chars().any(char::is_control) {
            return Err(fault());
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// One variable of a guest's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    entry: String,
    name_length: usize,
}

impl Variable {
    /// The name, before the `=`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry[..self.name_length]
    }

    /// The whole of it, `NAME=VALUE`.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.entry
    }
}

impl FromStr for Variable {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.find('=') {
            None | Some(0) => Err(ParseError::new(
                text,
                "is not an environment variable",
                "it has the form NAME=VALUE",
            )),
            Some(name_length) => Ok(Self {
                entry: text.to_owned(),
                name_length,
            }),
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entry)
    }
}

#[cfg(test)]
mod tests;
