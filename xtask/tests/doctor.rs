//! `cargo xtask doctor` on machines that have this and lack that: fake tools on a `PATH` of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A machine: a folder of programs, and nothing else on the `PATH`.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn with(tools: &[(&str, &str)]) -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (name, version) in tools {
            machine.tool(name, &format!("echo '{version}'"));
        }
        machine
    }

    fn tool(&self, name: &str, script: &str) {
        let file = self.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn doctor(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("doctor")
            .args(arguments)
            .env_clear()
            .env("PATH", self.path())
            .env("HERMITAGE_CACHE", self.path().join("cache"))
            .env("HERMITAGE_OFFLINE", "1")
            .output()
            .unwrap()
    }
}

const COMPLETE: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "QEMU emulator version 9.2.1 (Fake)"),
    ("qemu-img", "qemu-img version 9.2.1 (Fake)"),
    (
        "dnsmasq",
        "Dnsmasq version 2.90  Copyright (c) 2000-2024 Simon Kelley",
    ),
    ("fsck.erofs", "fsck.erofs 1.8"),
    ("mkfs.erofs", "mkfs.erofs 1.8"),
    ("sgdisk", "GPT fdisk (sgdisk) version 1.0.10"),
    ("convert", "Version: ImageMagick 7.1.1-43 Q16"),
    ("chromium", "Chromium 156.0.1 built on Debian"),
    ("chromedriver", "ChromeDriver 156.0.1"),
];

/// All tools but these.
fn without(missing: &[&str]) -> Vec<(&'static str, &'static str)> {
    let mut tools = COMPLETE.to_vec();
    tools.retain(|(name, _)| !missing.contains(name));
    tools
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The line of the table about `name`.
fn line(output: &Output, name: &str) -> String {
    let table = text(&output.stdout);
    let line = table.lines().find(|line| line.split("  ").next() == Some(name));
    line.unwrap_or_else(|| panic!("no line about {name} in:\n{table}"))
        .to_owned()
}

#[test]
fn tells_the_version_of_each_tool_that_is_there() {
    let output = Machine::with(&COMPLETE).doctor(&[]);
    for (name, version) in [
        ("qemu-system-x86_64", "9.2"),
        ("qemu-img", "9.2.1"),
        ("sgdisk", "1.0.10"),
        ("convert", "7.1.1-43"),
        ("chromedriver", "156.0.1"),
    ] {
        let line = line(&output, name);
        assert!(line.contains("ready") && line.contains(version), "{line}");
    }
    for name in ["kvm", "vhost-net", "tun", "guest toolchain"] {
        line(&output, name);
    }
}

#[test]
fn names_the_package_of_each_tool_that_is_missing_and_fails() {
    let output = Machine::with(&COMPLETE[..3]).doctor(&[]);
    assert_eq!(output.status.code(), Some(1));
    for (name, package) in [("fsck.erofs", "erofs-utils"), ("sgdisk", "gdisk")] {
        let line = line(&output, name);
        assert!(line.contains("MISSING") && line.ends_with(package), "{line}");
    }
}

#[test]
fn says_that_qemu_is_too_old() {
    let output = Machine::with(&[("qemu-system-x86_64", "QEMU emulator version 6.2.0")]).doctor(&[]);
    let line = line(&output, "qemu-system-x86_64");
    assert!(
        line.contains("MISSING") && line.contains("6.2") && line.contains("7.2"),
        "{line}"
    );
}

#[test]
fn prints_the_same_facts_as_json() {
    let output = Machine::with(&COMPLETE[..1]).doctor(&["--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| {
        let mut all = findings.as_array().unwrap().iter();
        all.find(|finding| finding["name"] == name).unwrap().clone()
    };
    assert_eq!(of("qemu-system-x86_64")["state"], "ready");
    assert_eq!(of("sgdisk")["state"], "missing");
    assert_eq!(
        of("sgdisk")["advice"],
        "apt-get install --no-install-recommends gdisk"
    );
}

#[test]
fn without_apt_all_that_is_missing_is_one_error() {
    let output = Machine::with(&without(&["mkfs.erofs", "sgdisk"])).doctor(&["--fix"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: missing on this machine: `mkfs.erofs`, `sgdisk`\n  \
         hint: install them with the package manager of your system\n"
    );
}

/// apt-get without lists: `install` fails until `update` was run. It writes down how it was called.
#[test]
fn installs_only_what_is_missing_and_fetches_the_lists_first_if_it_must() {
    let machine = Machine::with(&without(&["sgdisk"]));
    machine.tool(
        "apt-get",
        r#"here=${0%/*}
echo "$DEBIAN_FRONTEND: $*" >> "$here/calls"
case $1 in
update) : > "$here/lists" ;;
install)
    if ! [ -e "$here/lists" ]; then echo 'E: Unable to locate package gdisk' >&2; exit 100; fi
    printf '#!/bin/sh\necho sgdisk 1.0\n' > "$here/sgdisk"
    /bin/chmod 755 "$here/sgdisk" ;;
esac"#,
    );
    let output = machine.doctor(&["--fix"]);
    let errors = text(&output.stderr);
    let calls = fs::read_to_string(machine.path().join("calls")).unwrap_or_default();
    if rustix::process::geteuid().is_root() {
        let install = "noninteractive: install --yes --no-install-recommends --no-remove \
                       -o DPkg::Lock::Timeout=600 gdisk\n";
        assert_eq!(calls, format!("{install}noninteractive: update\n{install}"));
        assert!(errors.starts_with("installing `sgdisk` (apt-get)\n"), "{errors}");
        assert!(!errors.contains("sgdisk` is missing"), "{errors}");
    } else {
        assert_eq!(calls, "");
        assert_eq!(
            errors,
            "error: missing on this machine: `sgdisk`\n  \
             hint: sudo apt-get install --no-install-recommends gdisk\n"
        );
    }
}

/// apt where `qemu-utils` is from backports: the distribution's QEMU would remove it.
#[test]
fn tools_of_another_release_are_replaced_where_qemu_excludes_them() {
    if !rustix::process::geteuid().is_root() {
        // Nothing is installed then; a test above holds that.
        return;
    }
    let machine = Machine::with(&without(&["qemu-system-x86_64"]));
    machine.tool(
        "apt-get",
        r#"here=${0%/*}
echo "$*" >> "$here/calls"
case $* in
*qemu-utils=1:7.2*)
    printf '#!/bin/sh\necho QEMU emulator version 7.2.0\n' > "$here/qemu-system-x86_64"
    /bin/chmod 755 "$here/qemu-system-x86_64" ;;
install*) echo 'E: Packages need to be removed but remove is disabled.' >&2; exit 100 ;;
esac"#,
    );
    machine.tool(
        "apt-cache",
        "echo 'qemu-system-x86:'; echo '  Candidate: 1:7.2+dfsg-7'",
    );
    let output = machine.doctor(&["--fix"]);
    let calls = fs::read_to_string(machine.path().join("calls")).unwrap_or_default();
    let install = "install --yes --no-install-recommends --no-remove -o DPkg::Lock::Timeout=600";
    let plain = format!("{install} qemu-system-x86\n");
    let pinned = format!("{install} --allow-downgrades qemu-system-x86 qemu-utils=1:7.2+dfsg-7\n");
    assert_eq!(calls, format!("{plain}update\n{plain}{pinned}"));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("installing `qemu-utils=1:7.2+dfsg-7`"),
        "{errors}"
    );
    assert!(
        !errors.contains("missing") && !errors.contains("failed"),
        "{errors}"
    );
}

#[test]
fn a_failed_installation_shows_what_apt_said() {
    if !rustix::process::geteuid().is_root() {
        // The test above holds what happens then.
        return;
    }
    let machine = Machine::with(&without(&["sgdisk"]));
    machine.tool("apt-get", "echo 'E: no space left' >&2; exit 100");
    let output = machine.doctor(&["--fix"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("error: `apt-get update` failed: exit status: 100\nE: no space left\n"),
        "{errors}"
    );
}
