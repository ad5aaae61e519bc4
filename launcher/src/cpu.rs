//! CPU models, as QEMU writes them; and whether one has RDRAND, without which a guest needs another source of entropy.

use std::fmt;
use std::fs;
use std::str::FromStr;

use crate::accelerator::Accelerator;
use crate::units::{ParseError, serialized_as_text};

serialized_as_text!(CpuModel);

/// Beginnings of the names of QEMU's models that have RDRAND: those of which its `query-cpu-model-expansion` says so
/// (7.2), and their successors. One that is missing here costs a guest a device that it would not need.
const WITH_RDRAND: [&str; 16] = [
    "Broadwell",
    "Cascadelake",
    "Cooperlake",
    "Denverton",
    "Dhyana",
    "EPYC",
    "GraniteRapids",
    "Haswell",
    "Icelake",
    "IvyBridge",
    "KnightsMill",
    "SapphireRapids",
    "SierraForest",
    "Skylake",
    "Snowridge",
    // All that TCG or the host's CPU has: with TCG, RDRAND too.
    "max",
];

/// A CPU model: a name, and features behind commas (`max,-rdrand`). QEMU judges the features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel(String);

impl CpuModel {
    /// The whole, as QEMU writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, without features.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split(',').next().unwrap_or_default()
    }

    fn features(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').skip(1)
    }
}

impl FromStr for CpuModel {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str =
            "a model is a name, with features behind commas, such as `qemu64` or `max,-rdrand`";
        let valid = |byte: u8| byte.is_ascii_graphic();
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts || !text.bytes().all(valid) || text.split(',').any(str::is_empty) {
            return Err(ParseError::new(text, "is not a CPU model", EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a guest has RDRAND. `model` is `None` for all that the accelerator has.
#[must_use]
pub fn has_rdrand(model: Option<&CpuModel>, accelerator: Accelerator, host: HostCpu) -> bool {
    let Some(model) = model else {
        return accelerator == Accelerator::Tcg || host.rdrand;
    };
    // The last word counts; QEMU reads `name=value` the same.
    let said = model.features().filter_map(|feature| match feature {
        "+rdrand" | "rdrand=on" | "rdrand" => Some(true),
        "-rdrand" | "rdrand=off" => Some(false),
        _ => None,
    });
    said.last().unwrap_or_else(|| match (model.name(), accelerator) {
        ("host" | "max", Accelerator::Kvm) => host.rdrand,
        (name, _) => WITH_RDRAND.iter().any(|start| name.starts_with(start)),
    })
}

/// What matters of this host's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCpu {
    /// Whether it has RDRAND.
    pub rdrand: bool,
}

impl HostCpu {
    /// Looks at this host's CPU.
    #[must_use]
    pub fn detect() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            rdrand: cpuinfo.split_ascii_whitespace().any(|word| word == "rdrand"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_models_and_refuses_what_is_none() {
        for text in ["max", "qemu64", "max,-rdrand,+avx", "EPYC-v3,enforce"] {
            assert_eq!(text.parse::<CpuModel>().unwrap().to_string(), text);
        }
        for text in ["", ",", "max,", "max,,x", "-max", "two words", "max\n"] {
            let error = text.parse::<CpuModel>().unwrap_err().to_string();
            assert!(error.contains("is not a CPU model"), "{text}: {error}");
        }
    }

    #[test]
    fn knows_which_models_have_rdrand() {
        use Accelerator::{Kvm, Tcg};
        let with = HostCpu { rdrand: true };
        let without = HostCpu { rdrand: false };
        for (model, accelerator, host, expected) in [
            (None, Tcg, without, true),
            (None, Kvm, with, true),
            (None, Kvm, without, false),
            (Some("host"), Kvm, without, false),
            (Some("max"), Tcg, without, true),
            (Some("max,-rdrand"), Tcg, with, false),
            (Some("max,rdrand=off,+rdrand"), Tcg, with, true),
            (Some("qemu64"), Kvm, with, false),
            (Some("kvm64"), Tcg, with, false),
            (Some("qemu64,+rdrand"), Tcg, with, true),
            (Some("SandyBridge-v2"), Tcg, with, false),
            (Some("Skylake-Server-v4"), Tcg, with, true),
        ] {
            let parsed = model.map(|text| text.parse().unwrap());
            let found = has_rdrand(parsed.as_ref(), accelerator, host);
            assert_eq!(found, expected, "{model:?} {accelerator} {host:?}");
        }
    }
}
