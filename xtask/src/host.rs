//! The tools of the host that Hermitage runs: whether they are there, and installing those that are not.
//!
//! It owns the list of tools and their packages. It does not own what QEMU must be able to do (the launcher's) nor
//! the guest toolchain (the builder's, which needs no root). Start reading at [`ensure`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::printer::Printer;

/// A program that we run, and the package of Debian and Ubuntu that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) purpose: &'static str,
}

/// Runs the guests.
pub(crate) const QEMU: Tool = Tool {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    purpose: "runs images",
};

/// The package of QEMU's tools for images.
const QEMU_UTILS: &str = "qemu-utils";

/// All tools. Only QEMU is needed to run an image; the others judge, in tests, what we write.
pub(crate) const TOOLS: [Tool; 9] = [
    QEMU,
    Tool {
        program: "qemu-img",
        package: QEMU_UTILS,
        purpose: "imports and exports volumes, judges qcow2 in tests",
    },
    Tool {
        program: "fsck.erofs",
        package: "erofs-utils",
        purpose: "judges EROFS in tests",
    },
    Tool {
        program: "mkfs.erofs",
        package: "erofs-utils",
        purpose: "writes EROFS to compare with in tests",
    },
    Tool {
        program: "sgdisk",
        package: "gdisk",
        purpose: "judges partition tables in tests",
    },
    Tool {
        program: "convert",
        package: "imagemagick",
        purpose: "judges pictures in tests",
    },
    Tool {
        program: "chromium",
        package: "chromium",
        purpose: "looks at the page in tests",
    },
    Tool {
        program: "chromedriver",
        package: "chromium-driver",
        purpose: "moves the browser in tests",
    },
    Tool {
        program: "dnsmasq",
        package: "dnsmasq-base",
        purpose: "leases addresses to guests in tests",
    },
];

/// Folders of programs for administrators, which a user's `PATH` lacks on Debian.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Two installations at once wait for each other this long, in seconds: longer than any of ours takes.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";

/// Where apt keeps its lists; its lock is what makes two installations at once safe.
const APT_LISTS: &str = "/var/lib/apt/lists";

/// Why tools are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// They are missing, and we may not or cannot install them.
    #[error("missing on this machine: {}", programs(tools))]
    Missing {
        /// The tools.
        tools: Vec<Tool>,
        /// Whether this is Debian or a relative of it.
        apt: bool,
    },
    /// An installation failed.
    #[error("`{command}` failed: {status}\n{stderr}")]
    Install {
        /// As a user would type it.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// An installation could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl HostError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { tools, apt: true } => Some(format!("sudo {}", install_line(tools))),
            Self::Missing { .. } => Some("install them with the package manager of your system".to_owned()),
            Self::Install { .. } => Some("`apt-get update`, then try again".to_owned()),
            Self::Start { .. } => None,
        }
    }
}

/// `PATH`, and the system's folders behind it where a user's `PATH` has programs of the system at all.
pub(crate) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if folders.iter().any(|folder| folder == Path::new("/usr/bin")) {
        for folder in SYSTEM_FOLDERS.map(PathBuf::from) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    std::env::join_paths(folders).unwrap_or(path)
}

/// Where a program is, by the folders of `path`.
pub(crate) fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|file| {
            let executable =
                |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
            file.metadata().is_ok_and(executable)
        })
}

/// The version that a program tells, or why it tells none. Its word counts, whatever its exit status:
/// `mkfs.erofs` 1.5 tells its version and exits with 1.
pub(crate) fn version(program: &Path) -> Result<String, String> {
    // `mkfs.erofs` 1.5 knows `-V` alone, dnsmasq the other alone, and `-V` would start a browser.
    let option = match program.file_name().and_then(OsStr::to_str) {
        Some("chromium" | "chromedriver" | "dnsmasq") => "--version",
        _ => "-V",
    };
    let output = Command::new(program)
        .arg(option)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    match text.split_whitespace().find(number) {
        Some(word) => Ok(word.to_owned()),
        None => Err(format!("`{option}` tells no version, {}", output.status)),
    }
}

/// The tools that `path` does not have.
pub(crate) fn missing(tools: &[Tool], path: &OsStr) -> Vec<Tool> {
    tools
        .iter()
        .filter(|tool| find(tool.program, path).is_none())
        .copied()
        .collect()
}

/// Makes sure that tools are there: installs the missing ones through apt as root on Debian and Ubuntu.
///
/// # Errors
/// Tools are missing and cannot be installed by us; or installing them failed.
pub(crate) fn ensure(tools: &[Tool], printer: &Printer) -> Result<(), HostError> {
    let path = search_path();
    let missing_tools = missing(tools, &path);
    if missing_tools.is_empty() {
        return Ok(());
    }
    let apt = find("apt-get", &path).is_some();
    if !(apt && rustix::process::geteuid().is_root()) {
        return Err(HostError::Missing {
            tools: missing_tools,
            apt,
        });
    }
    let _alone = wait_for_others();
    // Another run may have installed them while this one waited.
    let missing_tools = missing(tools, &path);
    if missing_tools.is_empty() {
        return Ok(());
    }
    printer.note(&format!("installing {} (apt-get)", programs(&missing_tools)));
    install(&missing_tools, printer)?;
    let missing_tools = missing(tools, &path);
    if missing_tools.is_empty() {
        Ok(())
    } else {
        Err(HostError::Missing {
            tools: missing_tools,
            apt,
        })
    }
}

/// Installs the packages of tools, and no other version of what is there already. The lists may be missing (in a
/// container) or old: then they are fetched, and it is tried once more.
///
/// `qemu-utils` of another release than the distribution's, backports say, excludes its QEMU: what apt would do
/// about it is to remove `qemu-utils`. Then, and only then, both are installed in the distribution's version.
fn install(tools: &[Tool], printer: &Printer) -> Result<(), HostError> {
    let packages: Vec<_> = packages(tools).into_iter().map(str::to_owned).collect();
    if apt_get_install(&[], &packages, printer).is_ok() {
        return Ok(());
    }
    apt_get(&["update"], printer)?;
    let failure = match apt_get_install(&[], &packages, printer) {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    let Some(version) = candidate(QEMU.package).filter(|_| tools.contains(&QEMU)) else {
        return Err(failure);
    };
    let pinned = format!("{QEMU_UTILS}={version}");
    printer.note(&format!(
        "`{QEMU_UTILS}` is of another release than `{}`; installing `{pinned}`",
        QEMU.package
    ));
    let packages: Vec<_> = packages
        .into_iter()
        .filter(|package| package != QEMU_UTILS)
        .chain([pinned])
        .collect();
    // What apt said first is about the packages that were asked for.
    apt_get_install(&["--allow-downgrades"], &packages, printer).map_err(|_| failure)
}

fn apt_get_install(options: &[&str], packages: &[String], printer: &Printer) -> Result<(), HostError> {
    let mut arguments = vec![
        "install",
        "--yes",
        "--no-install-recommends",
        "--no-remove",
        "-o",
        LOCK_TIMEOUT,
    ];
    arguments.extend(options);
    arguments.extend(packages.iter().map(String::as_str));
    apt_get(&arguments, printer)
}

/// The version of a package that apt would install.
fn candidate(package: &str) -> Option<String> {
    let output = Command::new("apt-cache")
        .args(["policy", package])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

fn apt_get(arguments: &[&str], printer: &Printer) -> Result<(), HostError> {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    printer.detail(&shown(&command));
    let output = command.output().map_err(|source| HostError::Start {
        program: "apt-get",
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(HostError::Install {
        command: format!("apt-get {}", arguments.join(" ")),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

/// Held while this process installs. Without the lock (apt's folder is not there), apt's own locks remain: the
/// second of two installations then fails with apt's message instead of waiting.
fn wait_for_others() -> Option<File> {
    let folder = File::open(APT_LISTS).ok()?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(folder)
}

/// What a user types to install tools.
pub(crate) fn install_line(tools: &[Tool]) -> String {
    format!(
        "apt-get install --no-install-recommends {}",
        packages(tools).join(" ")
    )
}

fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.dedup();
    packages
}

fn programs(tools: &[Tool]) -> String {
    let names: Vec<_> = tools.iter().map(|tool| format!("`{}`", tool.program)).collect();
    names.join(", ")
}

/// A command as a user would type it, behind a prompt.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("$ {}", shell_words::join(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fake(folder: &Path, program: &str, script: &str) {
        let file = folder.join(program);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn misses_what_is_not_an_executable_file_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        fake(folder.path(), "qemu-img", "");
        fs::write(folder.path().join("sgdisk"), "not executable").unwrap();
        fs::create_dir(folder.path().join("fsck.erofs")).unwrap();
        let missing = missing(&TOOLS, folder.path().as_os_str());
        let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
        assert_eq!(
            programs,
            [
                "qemu-system-x86_64",
                "fsck.erofs",
                "mkfs.erofs",
                "sgdisk",
                "convert",
                "chromium",
                "chromedriver",
                "dnsmasq"
            ]
        );
    }

    #[test]
    fn tells_the_version_or_why_not() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("qemu-img version 10.0.2 (Debian 1:10.0.2)", "10.0.2"),
            ("mkfs.erofs 1.5'; exit '1", "1.5"),
            ("GPT fdisk (sgdisk) version 1.0.9", "1.0.9"),
        ] {
            fake(folder.path(), "tool", &format!("echo '{text}'"));
            assert_eq!(version(&folder.path().join("tool")).as_deref(), Ok(expected));
        }
        // As dnsmasq, for which the first flag is another's.
        fake(
            folder.path(),
            "dnsmasq",
            "[ $1 = --version ] && echo 'Dnsmasq version 2.90'",
        );
        assert_eq!(version(&folder.path().join("dnsmasq")).as_deref(), Ok("2.90"));
        for script in ["exit 3", "echo none", "echo 1.0 >&2"] {
            fake(folder.path(), "tool", script);
            assert!(version(&folder.path().join("tool")).is_err(), "{script}");
        }
    }

    #[test]
    fn names_each_package_once_in_the_line_to_type() {
        let error = HostError::Missing {
            tools: TOOLS[1..5].to_vec(),
            apt: true,
        };
        assert_eq!(
            error.to_string(),
            "missing on this machine: `qemu-img`, `fsck.erofs`, `mkfs.erofs`, `sgdisk`"
        );
        assert_eq!(
            error.hint().unwrap(),
            "sudo apt-get install --no-install-recommends qemu-utils erofs-utils gdisk"
        );
    }
}
