//! A machine of our own for the tests of the toolchain: a `PATH` with stand-ins for rustup and apt that write down
//! how they are called, a cache, and what those programs deliver. Nothing of the real machine is looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use builder::environment::Environment;
use builder::event::Event;
use builder::session::Session;
use builder::toolchain::{GuestToolchain, ToolchainError};

pub(crate) struct Machine {
    folder: tempfile::TempDir,
    pub(crate) environment: Environment,
    pub(crate) events: Mutex<Vec<Event>>,
}

impl Machine {
    /// A machine with nothing on it.
    pub(crate) fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "delivery", "rustup"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let environment = Environment {
            cache: Some(folder.path().join("cache")),
            rustup_may_install: true,
            path: folder.path().join("bin").into(),
            ..Environment::default()
        };
        Self {
            folder,
            environment,
            events: Mutex::default(),
        }
    }

    /// A machine with rustup, which delivers a toolchain that says it is `version`.
    pub(crate) fn with_rustup(version: &str) -> Self {
        let machine = Self::bare();
        write_toolchain(&machine.path("delivery/toolchain"), version);
        machine.program(
            "rustup",
            r#"case "$1" in
which) [ -x @/rustup/installed/bin/rustc ] || { echo "toolchain '$3' is not installed" >&2; exit 1; }
       echo @/rustup/installed/bin/rustc;;
toolchain) /bin/cp -R @/delivery/toolchain @/rustup/installed;;
esac"#,
        );
        machine
    }

    /// A machine with apt, which knows the packages of Debian 12 in two versions.
    pub(crate) fn with_apt() -> Self {
        let machine = Self::bare();
        for name in ["rustc-web", "libstd-rust-web-dev", "rust-web-src"] {
            machine.list(&format!(
                " {name} | 1.96.0+dfsg1-1 | http://mirror/security main amd64 Packages"
            ));
            machine.list(&format!(
                " {name} | 1.85.0+dfsg3-1 | http://mirror/debian main amd64 Packages"
            ));
        }
        machine.list(" libstd-rust-web-1.85 | 1.85.0+dfsg3-1 | http://mirror/debian main amd64 Packages");
        machine.program(
            "apt-cache",
            r#"case "$1" in
madison) [ ! -e @/lists ] || /bin/cat @/lists;;
show) echo "Package: libstd-rust-web-1.85"; echo "Depends: libc6 (>= 2.34), libllvm19, libstdc++6 (>= 11)";;
esac"#,
        );
        // As apt does: a file that is there and whole is not downloaded again.
        machine.program(
            "apt-get",
            r#"case "$*" in
update) /bin/mv @/later @/lists;;
*install*) echo "'http://mirror/libllvm19_1_amd64.deb' libllvm19_1_amd64.deb 9 SHA256:1"
           echo "'http://mirror/libedit2_1_amd64.deb' libedit2_1_amd64.deb 9 SHA256:1";;
*--print-uris*) shift 2; for p; do echo "'http://mirror/x' ${p%%=*}_1_amd64.deb 9 SHA256:1"; done;;
download*) shift; for p; do
  f=${p%%=*}_1_amd64.deb
  [ -e $f ] && continue
  [ -e @/delivery/$f ] || { echo "E: Failed to fetch $f" >&2; exit 100; }
  echo "fetched $f" >> @/log; /bin/cp @/delivery/$f .
done;;
esac"#,
        );
        machine.program("dpkg-deb", r#"/bin/cat "$2""#);
        machine.deliver(
            "rustc-web",
            &[("usr/bin/rustc", &rustc("1.85.0")), ("usr/share/doc/rustc", "")],
        );
        machine.deliver(
            "libstd-rust-web-1.85",
            &[("usr/lib/x86_64-linux-gnu/librustc_driver-1.so", "")],
        );
        machine.deliver(
            "libstd-rust-web-dev",
            &[("usr/lib/rustlib/x86_64-unknown-linux-gnu/lib/libstd-1.rlib", "")],
        );
        machine.deliver(
            "rust-web-src",
            &[
                ("usr/src/rustc-1.85.0/library/std/Cargo.toml", ""),
                ("usr/src/rustc-1.85.0/src/llvm/big", ""),
            ],
        );
        machine.deliver_llvm();
        machine
    }

    /// A machine with apt, which knows the packages of Ubuntu: each version in a folder of its own.
    pub(crate) fn with_apt_of_ubuntu() -> Self {
        let machine = Self::with_apt();
        fs::remove_file(machine.path("lists")).unwrap();
        for name in [
            "rustc-1.85",
            "libstd-rust-1.85",
            "libstd-rust-1.85-dev",
            "rust-1.85-src",
        ] {
            machine.list(&format!(
                " {name} | 1.85.0+dfsg0ubuntu1 | http://mirror/ubuntu universe amd64 Packages"
            ));
        }
        machine.deliver("rustc-1.85", &[("usr/lib/rust-1.85/bin/rustc", &rustc("1.85.0"))]);
        machine.deliver(
            "libstd-rust-1.85",
            &[("usr/lib/rust-1.85/lib/librustc_driver-1.so", "")],
        );
        machine.deliver(
            "libstd-rust-1.85-dev",
            &[(
                "usr/lib/rust-1.85/lib/rustlib/x86_64-unknown-linux-gnu/lib/libstd-1.rlib",
                "",
            )],
        );
        machine.deliver(
            "rust-1.85-src",
            &[("usr/src/rustc-1.85/library/std/Cargo.toml", "")],
        );
        machine
    }

    fn deliver_llvm(&self) {
        self.deliver("libllvm19", &[("usr/lib/x86_64-linux-gnu/libLLVM.so.19.1", "")]);
        self.deliver("libedit2", &[("usr/lib/x86_64-linux-gnu/libedit.so.2", "")]);
        let tools = ["ar", "as", "nm", "objcopy", "objdump", "strip", "exegesis"];
        let tools: Vec<_> = tools
            .iter()
            .map(|tool| format!("usr/lib/llvm-19/bin/llvm-{tool}"))
            .collect();
        let tools: Vec<_> = tools.iter().map(|tool| (tool.as_str(), "")).collect();
        self.deliver("llvm-19", &tools);
        self.deliver("lld-19", &[("usr/lib/llvm-19/bin/lld", "")]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where packages are unpacked to.
    pub(crate) fn unpacked(&self) -> PathBuf {
        self.path("cache/toolchain/1.85.0-packages")
    }

    /// Writes a file in the machine's folder, which is also its workspace.
    pub(crate) fn file(&self, name: &str, content: &str) {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// A shell script for one of the tools in the toolchain at `sysroot`.
    pub(crate) fn tool(&self, name: &str, script: &str) {
        let tools = self.path("sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin");
        write_program(&tools.join(name), &format!("#!/bin/sh\n{script}\n"));
    }

    /// A shell script in `PATH`; it writes down its arguments first. `@` stands for the machine's folder.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let script = format!("#!/bin/sh\necho \"{name} $*\" >> @/log\n{script}\n");
        write_program(
            &self.path("bin").join(name),
            &script.replace('@', &self.folder.path().display().to_string()),
        );
    }

    /// Adds a line to what apt knows.
    pub(crate) fn list(&self, line: &str) {
        let known = fs::read_to_string(self.path("lists")).unwrap_or_default();
        fs::write(self.path("lists"), format!("{known}{line}\n")).unwrap();
    }

    /// Makes a package; our `dpkg-deb` takes a tar file for one.
    pub(crate) fn deliver(&self, name: &str, files: &[(&str, &str)]) {
        let file = fs::File::create(self.path("delivery").join(format!("{name}_1_amd64.deb"))).unwrap();
        let mut tar = tar::Builder::new(file);
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            tar.append_data(&mut header, format!("./{path}"), content.as_bytes())
                .unwrap();
        }
        tar.finish().unwrap();
    }

    /// What the stand-ins wrote down.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn provide(&self) -> Result<GuestToolchain, ToolchainError> {
        self.with_session(GuestToolchain::provide)
    }

    pub(crate) fn with_session<T>(&self, work: impl FnOnce(&Session<'_>) -> T) -> T {
        let observer = |event: &Event| self.events.lock().unwrap().push(event.clone());
        work(&Session {
            workspace: self.folder.path().to_owned(),
            environment: self.environment.clone(),
            observer: &observer,
        })
    }
}

/// A folder that looks like a toolchain with all that is needed.
pub(crate) fn write_toolchain(sysroot: &Path, version: &str) {
    let tools = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    let library = sysroot.join("lib/rustlib/src/rust/library/std");
    for folder in [&sysroot.join("bin"), &tools, &library] {
        fs::create_dir_all(folder).unwrap();
    }
    write_program(&sysroot.join("bin/rustc"), &rustc(version));
    for tool in [
        "llvm-ar",
        "llvm-as",
        "llvm-nm",
        "llvm-objcopy",
        "llvm-objdump",
        "llvm-strip",
        "rust-lld",
    ] {
        write_program(&tools.join(tool), "#!/bin/sh\n");
    }
    fs::write(library.join("Cargo.toml"), "").unwrap();
}

/// A compiler that can say its version.
pub(crate) fn rustc(version: &str) -> String {
    format!(
        "#!/bin/sh\necho 'rustc {version}'; echo 'host: x86_64-unknown-linux-gnu'; echo 'release: {version}'\n"
    )
}

/// Another process writes the file: if this one did, a program that another test starts at that moment would have it
/// open for writing too, for an instant, and the system starts no file that is being written.
fn write_program(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(
        Command::new("cp")
            .arg(&draft)
            .arg(path)
            .status()
            .unwrap()
            .success()
    );
    fs::remove_file(draft).unwrap();
}
