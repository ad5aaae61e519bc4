//! The guest toolchain from packages of Debian or Ubuntu, unpacked into the cache. No root is needed, and the
//! distribution's own Rust, if one is installed, is left alone.

use std::io::{self, BufReader};
use std::num::NonZero;
use std::os::unix::fs::symlink;
use std::panic::resume_unwind;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::{env, fs, thread};

use super::apt::{self, Apt, AptError, Package, Remote};
use super::{Defect, GuestToolchain, Origin, TOOLS, ToolchainError, VERSION, tools};
use crate::cache::{self, Cache, Lock, Staged};
use crate::event::{Event, Stage, Unit};
use crate::process::Invocation;
use crate::session::Session;

/// How distributions name the packages of this Rust. The first flavour wins of which every package has a version
/// that starts with [`VERSION`]; newer versions under the same names are passed over.
const FLAVOURS: [Flavour; 3] = [
    // Debian 12 (for building browsers, hence the name)
    Flavour {
        compiler: "rustc-web",
        runtime: "libstd-rust-web-1.85",
        libraries: "libstd-rust-web-dev",
        source: "rust-web-src",
    },
    // Debian 13
    Flavour {
        compiler: "rustc",
        runtime: "libstd-rust-1.85",
        libraries: "libstd-rust-dev",
        source: "rust-src",
    },
    // Ubuntu
    Flavour {
        compiler: "rustc-1.85",
        runtime: "libstd-rust-1.85",
        libraries: "libstd-rust-1.85-dev",
        source: "rust-1.85-src",
    },
];

struct Flavour {
    compiler: &'static str,
    runtime: &'static str,
    libraries: &'static str,
    source: &'static str,
}

impl Flavour {
    fn names(&self) -> [&'static str; 4] {
        [self.compiler, self.runtime, self.libraries, self.source]
    }
}

/// Where the sysroot may lie in what is unpacked.
const SYSROOTS: [&str; 2] = ["usr", "usr/lib/rust-1.85"];

/// What an earlier run installed.
pub(super) fn cached(session: &Session<'_>, cache: &Cache) -> Result<GuestToolchain, Defect> {
    at(session, &folder(cache))
}

fn folder(cache: &Cache) -> PathBuf {
    cache.path(format!("toolchain/{VERSION}-packages"))
}

fn at(session: &Session<'_>, folder: &Path) -> Result<GuestToolchain, Defect> {
    let sysroot = SYSROOTS
        .iter()
        .map(|sysroot| folder.join(sysroot))
        .find(|sysroot| sysroot.join("bin/rustc").exists())
        .unwrap_or_else(|| folder.join(SYSROOTS[0]));
    GuestToolchain::at(session, &sysroot, Origin::Packages)
}

/// Downloads and unpacks the packages.
pub(super) fn install(session: &Session<'_>) -> Result<GuestToolchain, ToolchainError> {
    let mut apt = Apt::find(&session.environment.path).map_err(ToolchainError::NoPackages)?;
    let cache = Cache::new(&session.environment)?;
    let target = folder(&cache);
    let _lock = Lock::take(&target, "the guest toolchain", session.observer)?;
    if let Ok(toolchain) = at(session, &target) {
        // Another run installed it while we waited.
        return Ok(toolchain);
    }

    let packages = choose(session, &mut apt, &cache)?;
    let downloads = cache.path("toolchain/downloads");
    let files = apt
        .download(&packages, &downloads, session.observer)
        .map_err(doing("download packages"))?;

    let staged = Staged::new(&target)?;
    unpack_all(session, &apt, &downloads, &files, staged.path())?;
    complete(staged.path()).map_err(cache::failed("complete", staged.path()))?;
    at(session, staged.path()).map_err(unfit)?;
    staged.publish()?;
    // Large, and of no use once the toolchain is there.
    cache::remove(&downloads)?;
    cache::remove(&cache.path(apt::LISTS))?;
    at(session, &target).map_err(unfit)
}

fn unfit(defect: Defect) -> ToolchainError {
    ToolchainError::Unfit {
        origin: Origin::Packages,
        defect,
    }
}

fn doing(action: &'static str) -> impl FnOnce(AptError) -> ToolchainError {
    move |error| match error {
        AptError::Process(source) => ToolchainError::Packages { action, source },
        AptError::Cache(error) => ToolchainError::Cache(error),
    }
}

/// The packages to download, as apt takes them: `name` or `name=version`.
fn choose(session: &Session<'_>, apt: &mut Apt, cache: &Cache) -> Result<Vec<String>, ToolchainError> {
    let observer = session.observer;
    let names: Vec<_> = FLAVOURS.iter().flat_map(Flavour::names).collect();
    let search = |apt: &Apt| {
        let found = apt
            .versions(&names, observer)
            .map_err(doing("look for packages"))?;
        Ok::<_, ToolchainError>(flavour(&found))
    };
    let rust = match search(apt)? {
        Some(rust) => rust,
        None => {
            // A fresh machine or container has no package lists at all.
            apt.update(cache, observer)
                .map_err(doing("fetch the package lists"))?;
            search(apt)?.ok_or_else(|| {
                ToolchainError::NoPackages(format!("apt knows no version {VERSION} of `rustc`"))
            })?
        }
    };
    let depends = apt
        .depends(&rust[1], observer)
        .map_err(doing("read the dependencies"))?;
    let llvm = llvm_version(&depends).ok_or_else(|| {
        ToolchainError::NoPackages(format!("`{}` does not say which LLVM it needs", rust[1].name))
    })?;
    let library = format!("libllvm{llvm}");
    let mut packages: Vec<String> = rust
        .iter()
        .map(|package| format!("{}={}", package.name, package.version))
        .collect();
    packages.extend([library.clone(), format!("llvm-{llvm}"), format!("lld-{llvm}")]);

    // LLVM's own libraries (libxml2, libedit, ...), as far as this machine lacks them.
    let missing = apt
        .missing_for(&library, observer)
        .map_err(doing("list the libraries"))?;
    let more = missing
        .iter()
        .map(Remote::package)
        .filter(|name| *name != library);
    packages.extend(more.map(str::to_owned));
    Ok(packages)
}

/// The packages of the first flavour that is complete.
fn flavour(found: &[Package]) -> Option<Vec<Package>> {
    FLAVOURS.iter().find_map(|flavour| {
        let wanted = |name| {
            found
                .iter()
                .find(|package| package.name == name && package.version.starts_with(VERSION))
                .cloned()
        };
        flavour.names().into_iter().map(wanted).collect()
    })
}

/// The major version of LLVM in `..., libllvm19 (>= 1:19.1.2), ...`.
fn llvm_version(depends: &str) -> Option<u32> {
    depends
        .split([',', ' '])
        .find_map(|word| word.strip_prefix("libllvm")?.parse().ok())
}

/// Unpacks the packages, several at once: most of the time goes into decompression, which takes one core each.
fn unpack_all(
    session: &Session<'_>,
    apt: &Apt,
    downloads: &Path,
    files: &[Remote],
    into: &Path,
) -> Result<(), ToolchainError> {
    let workers = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(files.len());
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            unpack(session, apt, &downloads.join(&file.file), into)?;
            session.observer.event(&Event::Progress {
                stage: Stage::Toolchain,
                unit: Unit::Packages,
                done: done.fetch_add(1, Ordering::Relaxed) + 1,
                total: Some(files.len() as u64),
                current: file.package().to_owned(),
            });
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Unpacks what is needed of a package: about half of what the packages hold is documentation, compiler sources,
/// tools that nobody calls here.
fn unpack(session: &Session<'_>, apt: &Apt, package: &Path, into: &Path) -> Result<(), ToolchainError> {
    Invocation::new(&apt.dpkg_deb)
        .arg("--fsys-tarfile")
        .arg(package)
        .pipe(session.observer, |tar| {
            unpack_tar(BufReader::with_capacity(1 << 20, tar), into)
        })
        .map_err(|source| ToolchainError::Packages {
            action: "unpack the packages",
            source,
        })?
        .map_err(|source| ToolchainError::Unpack {
            package: package.display().to_string(),
            source,
        })
}

fn unpack_tar(tar: impl io::Read, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path: PathBuf = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        let is_folder = entry.header().entry_type().is_dir();
        if !is_folder && is_needed(&path.to_string_lossy()) {
            fs::create_dir_all(into.join(&path).parent().unwrap_or(into))?;
            // Refuses paths that lead out of the folder.
            entry.unpack_in(into)?;
        }
    }
    Ok(())
}

/// Whether a file of a package is used by a guest build.
fn is_needed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    if path.starts_with("usr/src/") {
        // usr/src/rustc-1.85.0/library/...
        return path.split('/').nth(3) == Some("library");
    }
    if path.starts_with("usr/share/") || path.contains("/rustlib/etc/") {
        return false;
    }
    if path.contains("/bin/") {
        return matches!(name, "rustc" | "lld") || TOOLS.contains(&name);
    }
    path.contains("/rustlib/") || name.contains(".so")
}

/// Makes what rustup's toolchains have and packages lack: links to the tools and to the library source, at the
/// places where the kernel's build script and cargo look.
fn complete(root: &Path) -> io::Result<()> {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let sysroot = SYSROOTS
        .iter()
        .map(|sysroot| root.join(sysroot))
        .find(|sysroot| sysroot.join("bin/rustc").exists())
        .ok_or(io::ErrorKind::NotFound)?;
    let up = "../".repeat(
        sysroot
            .strip_prefix(root)
            .map_or(0, |path| path.components().count()),
    );

    let llvm = folder_in(&root.join("usr/lib"), "llvm-")?;
    let bin = tools(&sysroot, &host);
    fs::create_dir_all(&bin)?;
    for tool in TOOLS {
        let program = if tool == "rust-lld" { "lld" } else { tool };
        // <sysroot>/lib/rustlib/<host>/bin is four folders below the sysroot.
        link(
            &format!("{up}../../../../usr/lib/{llvm}/bin/{program}"),
            &bin.join(tool),
        )?;
    }

    let rust = folder_in(&root.join("usr/src"), "rustc-")?;
    let source = sysroot.join("lib/rustlib/src");
    fs::create_dir_all(&source)?;
    link(&format!("{up}../../../usr/src/{rust}"), &source.join("rust"))
}

fn link(target: &str, link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, link)
}

fn folder_in(parent: &Path, prefix: &str) -> io::Result<String> {
    fs::read_dir(parent)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with(prefix))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no folder `{prefix}*`")))
}
