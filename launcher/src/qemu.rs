//! The QEMU of this host: where it is, and whether it is new enough.

use std::env;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command_line::QEMU;
use crate::cpu::CpuModel;
use crate::environment;
use crate::error::Error;

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// The oldest that we use: the oldest that our tests run with (Debian 12), and the first with
    /// `-netdev stream`, which the rootless LAN stands on.
    pub const MIN: Self = Self { major: 7, minor: 2 };

    /// Reads the first line of `qemu --version`: `QEMU emulator version 7.2.22 (Debian ...)`.
    fn parse(output: &str) -> Option<Self> {
        let (_, version) = output.lines().next()?.split_once(" version ")?;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A QEMU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Whether it came with qboot.
    pub has_qboot: bool,
}

/// A small firmware for guests that QEMU loads itself, which is part of QEMU; some packages leave it out.
pub(crate) const QBOOT: &str = "qboot.rom";

impl Qemu {
    /// Finds QEMU on the PATH.
    ///
    /// # Errors
    /// It is not there.
    pub fn find() -> Result<Self, Error> {
        let program = env::split_paths(&environment::path())
            .map(|folder| folder.join(QEMU))
            .find(|file| {
                file.metadata()
                    .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
            })
            // Absolute, because QEMU runs in the instance's folder.
            .and_then(|file| std::path::absolute(file).ok())
            .ok_or(Error::NoQemu { program: QEMU })?;
        let has_qboot = has_data_file(&program, QBOOT);
        Ok(Self { program, has_qboot })
    }

    /// Asks the program for its version. It takes QEMU 16 ms to say it, so that a start does not ask: a QEMU that runs
    /// says it by itself.
    ///
    /// # Errors
    /// It is too old, or not QEMU.
    pub fn version(&self) -> Result<Version, Error> {
        let unknown = |source: Box<dyn std::error::Error + Send + Sync>| Error::UnknownQemu {
            program: self.program.clone(),
            source,
        };
        let output = Command::new(&self.program)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| unknown(error.into()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&text)
            .ok_or_else(|| unknown(io::Error::other(format!("it says `{}`", text.trim())).into()))?;
        self.accept(version)
    }

    /// Refuses a version that is too old.
    pub(crate) fn accept(&self, version: Version) -> Result<Version, Error> {
        if version < Version::MIN {
            return Err(Error::OldQemu {
                program: self.program.clone(),
                found: version,
            });
        }
        Ok(version)
    }
}

impl Qemu {
    /// Asks QEMU whether it has a CPU model. Its features are judged at the start alone.
    ///
    /// # Errors
    /// It has no such model, or does not answer.
    pub fn check_cpu_model(&self, model: &CpuModel) -> Result<(), Error> {
        let unknown = |source: io::Error| Error::UnknownQemu {
            program: self.program.clone(),
            source: source.into(),
        };
        let mut command = Command::new(&self.program);
        command.args(["-cpu", "help"]).stdin(Stdio::null());
        let output = command.output().map_err(unknown)?;
        if has_cpu_model(&String::from_utf8_lossy(&output.stdout), model.name()) {
            Ok(())
        } else {
            Err(Error::NoCpuModel(model.clone()))
        }
    }
}

/// Reads `qemu -cpu help`: lines of `x86 <name> <words about it>`.
fn has_cpu_model(help: &str, name: &str) -> bool {
    let names = help.lines().filter_map(|line| line.strip_prefix("x86 "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .any(|model| model == name)
}

/// Whether QEMU's folder of data, which lies beside that of its programs, has this file.
fn has_data_file(program: &Path, name: &str) -> bool {
    let program = program.canonicalize().unwrap_or_default();
    let prefix = program.parent().and_then(Path::parent);
    prefix.is_some_and(|prefix| prefix.join("share/qemu").join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_distributions_and_of_development() {
        for (text, major, minor) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright",
                7,
                2,
            ),
            ("QEMU emulator version 6.2.0", 6, 2),
            ("QEMU emulator version 10.0.50 (v10.0.0-1-gabcdef)", 10, 0),
        ] {
            assert_eq!(Version::parse(text), Some(Version { major, minor }), "{text}");
        }
        for text in ["", "qemu", "QEMU emulator version next"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn finds_models_in_qemus_list() {
        let help = "Available CPUs:\nx86 486                   (alias configured)\nx86 max        Enables all\n\n\
                    Recognized CPUID flags:\n  3dnow\n";
        for (name, expected) in [
            ("max", true),
            ("486", true),
            ("ma", false),
            ("3dnow", false),
            ("Enables", false),
        ] {
            assert_eq!(has_cpu_model(help, name), expected, "{name}");
        }
    }

    #[test]
    fn orders_versions_as_numbers() {
        let version = |text: &str| Version::parse(&format!("QEMU emulator version {text}")).unwrap();
        assert!(version("10.0.0") > version("7.2.0"));
        assert!(version("7.1.9") < Version::MIN);
    }
}
