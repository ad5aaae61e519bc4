//! Which accelerator QEMU uses: KVM only where it works.
//!
//! [`detect`] looks at this host; [`choose`] is the pure decision over what was seen.

use std::fmt;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceleratorChoice {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM or an error.
    Kvm,
    /// TCG.
    Tcg,
}

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// In hardware, by the host's kernel.
    Kvm,
    /// Translated, in software.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// Why KVM does not work here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKvm {
    /// No such device.
    #[error("`/dev/kvm` does not exist")]
    NoDevice,
    /// It cannot be opened for writing.
    #[error("`/dev/kvm` does not open: {0}")]
    NotOpened(String),
    /// The device is there, but the CPU has nothing behind it. Some containers are so.
    #[error("`/dev/kvm` opens, but the CPU shows neither `vmx` nor `svm`")]
    NoCpuSupport,
}

impl NoKvm {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoDevice => {
                "load the module `kvm_intel` or `kvm_amd`; or use `--accel tcg`, which is slower"
            }
            Self::NotOpened(_) => "add your user to the group `kvm` and log in again; or use `--accel tcg`",
            Self::NoCpuSupport => {
                "enable virtualization in the firmware or the outer VM; or use `--accel tcg`"
            }
        }
    }
}

/// What was seen of KVM on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmState(Result<(), NoKvm>);

/// Looks whether KVM works on this host.
#[must_use]
pub fn detect() -> KvmState {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    KvmState(judge(opened.map(drop), &cpuinfo))
}

fn judge(opened: io::Result<()>, cpuinfo: &str) -> Result<(), NoKvm> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoKvm::NoDevice),
        Err(error) => return Err(NoKvm::NotOpened(error.to_string())),
        Ok(()) => {}
    }
    let flags = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "flags").then_some(value)
    });
    let supported = flags
        .unwrap_or_default()
        .split_ascii_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    if supported {
        Ok(())
    } else {
        Err(NoKvm::NoCpuSupport)
    }
}

/// The accelerator, and why it is not KVM where the user did not choose.
///
/// # Errors
/// KVM was asked for and does not work.
pub fn choose(choice: AcceleratorChoice, kvm: &KvmState) -> Result<(Accelerator, Option<NoKvm>), Error> {
    match (choice, &kvm.0) {
        (AcceleratorChoice::Tcg, _) => Ok((Accelerator::Tcg, None)),
        (_, Ok(())) => Ok((Accelerator::Kvm, None)),
        (AcceleratorChoice::Auto, Err(why)) => Ok((Accelerator::Tcg, Some(why.clone()))),
        (AcceleratorChoice::Kvm, Err(why)) => Err(Error::NoKvm(why.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_in_kvm_only_with_device_and_cpu() {
        let intel = "processor : 0\nflags\t\t: fpu vmx sse2\n";
        let amd = "flags : fpu svm\n";
        let neither = "flags : fpu sse2\nvmx flags : vnmi\nbugs : svm\n";
        let opened = |kind: Option<io::ErrorKind>| kind.map_or(Ok(()), |kind| Err(kind.into()));
        for (kind, cpuinfo, expected) in [
            (None, intel, Ok(())),
            (None, amd, Ok(())),
            (None, neither, Err(NoKvm::NoCpuSupport)),
            (None, "", Err(NoKvm::NoCpuSupport)),
            (Some(io::ErrorKind::NotFound), intel, Err(NoKvm::NoDevice)),
            (
                Some(io::ErrorKind::PermissionDenied),
                intel,
                Err(NoKvm::NotOpened("permission denied".to_owned())),
            ),
        ] {
            assert_eq!(judge(opened(kind), cpuinfo), expected, "{kind:?} {cpuinfo:?}");
        }
    }

    #[test]
    fn falls_back_only_where_the_user_left_the_choice() {
        use AcceleratorChoice::{Auto, Kvm, Tcg};
        let works = KvmState(Ok(()));
        let missing = KvmState(Err(NoKvm::NoDevice));
        let chosen = |choice, state| choose(choice, state).unwrap();
        assert_eq!(chosen(Auto, &works), (Accelerator::Kvm, None));
        assert_eq!(chosen(Kvm, &works), (Accelerator::Kvm, None));
        assert_eq!(chosen(Tcg, &works), (Accelerator::Tcg, None));
        assert_eq!(chosen(Tcg, &missing), (Accelerator::Tcg, None));
        assert_eq!(chosen(Auto, &missing), (Accelerator::Tcg, Some(NoKvm::NoDevice)));
        let error = choose(Kvm, &missing).unwrap_err();
        assert!(matches!(error, Error::NoKvm(NoKvm::NoDevice)), "{error}");
    }
}
