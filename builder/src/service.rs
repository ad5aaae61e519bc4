//! Services, compiled for the guest: the same source that runs on the host, linked with libhermit into an ELF file
//! that boots.
//!
//! All services of a workspace share one target folder, so that `std` is built once, and one call of cargo, so that
//! finding nothing to do takes well under a second.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cache::{self, CacheError, Lock, Staged, failed};
use crate::cargo::{Artifact, CargoError, GuestCargo, remapped_paths};
use crate::digest::Inputs;
use crate::event::{Outcome, Stage};
use crate::libhermit::Libhermit;
use crate::library;
use crate::process::{Invocation, ProcessError};
use crate::session::Session;
use crate::toolchain::GuestToolchain;

/// What services are built for.
const TARGET: &str = "x86_64-unknown-hermit";

/// How services are optimised, std included. Measured with kv (its file for the image; time of the first build):
/// level 3 with 16 codegen units 965 KB, level 2 968 KB, level `s` 934 KB but slower code; level 3 with one unit 948 KB,
/// and 8 % less work to build. Link-time optimisation would resolve the references that `--wrap` is about to redirect.
const PROFILE: [&str; 4] = ["opt-level=3", "codegen-units=1", "lto=\"off\"", "panic=\"abort\""];

/// What mounts a volume at `/data` (`guest/data`): its package, its crate.
const DATA_PACKAGE: &str = "hermitage-data";
const DATA_CRATE: &str = "hermitage_data";

/// A program to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The folder of its crate, which holds `Cargo.toml`; absolute, or relative to the workspace.
    pub crate_dir: PathBuf,
    /// The binary in that crate.
    pub bin: String,
    /// Features of the crate to turn on.
    pub features: Vec<String>,
    /// Whether a volume is mounted at `/data` before its `main`.
    pub mounts_data: bool,
}

/// A program that boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceBinary {
    /// The name of the binary.
    pub name: String,
    /// The ELF file for the image: without symbols, sealed.
    pub path: PathBuf,
    /// The same with its symbols, for debuggers.
    pub symbols: PathBuf,
    /// Size of the file for the image, in bytes.
    pub size: u64,
}

/// Why a service was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It does not compile.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// Its crate cannot be read.
    #[error("`{}` is no crate of this workspace", .0.display())]
    NoCrate(PathBuf),
    /// cargo says that it made no such binary.
    #[error("cargo made no binary `{0}`")]
    NotMade(String),
    /// The crate has no such binary.
    #[error("package `{package}` has no binary `{bin}`")]
    NoBinary {
        /// The binary that was asked for.
        bin: String,
        /// The package that should have it.
        package: String,
    },
    /// A tool of the toolchain failed.
    #[error("cannot strip `{name}`")]
    Strip {
        /// The binary.
        name: String,
        /// What the tool said.
        source: ProcessError,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl ServiceError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cargo(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::NoCrate(_) => {
                Some("a service's folder holds a `Cargo.toml`, and is a member of the workspace".to_owned())
            }
            Self::NoBinary { bin, .. } => Some(format!(
                "its `Cargo.toml` needs a `[[bin]]` with `name = \"{bin}\"`"
            )),
            Self::NotMade(_) | Self::Strip { .. } => None,
        }
    }
}

/// Compiles the services, or finds that nothing has changed.
///
/// # Errors
/// One of them does not compile, or has no such binary.
pub fn build_services(
    session: &Session<'_>,
    toolchain: &GuestToolchain,
    libhermit: &Libhermit,
    services: &[ServiceSpec],
) -> Result<Vec<ServiceBinary>, ServiceError> {
    let names: Vec<_> = services.iter().map(|service| service.bin.as_str()).collect();
    let subject = names.join(", ");
    session.stage(Stage::Services, &subject, || {
        let cargo = GuestCargo::new(session, toolchain)?;
        let packages = package_names(&cargo, session, services)?;
        let mut rustflags = remapped_paths(session, toolchain);
        // It may lie in the workspace; the compiler takes the last that fits.
        rustflags.push(format!(
            "--remap-path-prefix={}=/rust/library",
            libhermit.library.display()
        ));
        let for_guests = || {
            let mut build = cargo
                .build(TARGET, &libhermit.folder(session).join("build"), &rustflags)
                .directory(&session.workspace)
                .env(library::VARIABLE, &libhermit.library)
                .args([
                    "-Zbuild-std=std,panic_abort",
                    "-Zbuild-std-features=compiler-builtins-mem",
                ])
                .arg("-Zprofile-rustflags");
            for setting in PROFILE {
                build = build.args(["--config", &format!("profile.release.{setting}")]);
            }
            build
        };
        let with_data: BTreeSet<_> = services
            .iter()
            .zip(&packages)
            .filter(|(service, _)| service.mounts_data)
            .map(|(_, package)| package)
            .collect();
        let data = match with_data.is_empty() {
            true => Vec::new(),
            false => data_flags(session, &cargo, &for_guests())?,
        };
        let mut build = for_guests();
        // Flags of the services' own packages alone: a new libhermit links them anew, and touches nothing else. Flags
        // for all crates would build std anew, which takes longer than all services together.
        let link = link_flags(session, libhermit)?;
        for package in packages.iter().collect::<BTreeSet<_>>() {
            let mut flags = link.clone();
            if with_data.contains(package) {
                flags.extend(data.iter().cloned());
            }
            // A JSON array of strings is a TOML array of strings.
            let flags = serde_json::Value::from(flags);
            build = build.args([
                "--config",
                &format!("profile.release.package.{package}.rustflags={flags}"),
            ]);
        }
        for (service, package) in services.iter().zip(&packages) {
            build = build.args(["--package", package, "--bin", &service.bin]);
            for feature in &service.features {
                build = build.args(["--features", &format!("{package}/{feature}")]);
            }
        }
        let artifacts = cargo.run(&build, Stage::Services, &subject)?;
        let stripped = services
            .iter()
            .map(|service| strip_and_seal(session, toolchain, libhermit, &artifacts, &service.bin))
            .collect::<Result<Vec<_>, _>>()?;
        let outcome = if stripped.iter().all(|(_, outcome)| *outcome == Outcome::Cached) {
            Outcome::Cached
        } else {
            Outcome::Done
        };
        Ok((stripped.into_iter().map(|(binary, _)| binary).collect(), outcome))
    })
}

/// The name of each service's package, as cargo knows it.
fn package_names(
    cargo: &GuestCargo<'_>,
    session: &Session<'_>,
    services: &[ServiceSpec],
) -> Result<Vec<String>, ServiceError> {
    let members = cargo.members(&session.workspace.join("Cargo.toml"))?;
    let name = |service: &ServiceSpec| {
        let folder = session.workspace.join(&service.crate_dir);
        let folder = folder.canonicalize().unwrap_or(folder);
        let member = members.iter().find(|member| {
            member
                .folder()
                .canonicalize()
                .is_ok_and(|parent| parent == folder)
        });
        let package = member.ok_or(ServiceError::NoCrate(folder))?;
        if package
            .targets
            .iter()
            .any(|target| target.is_bin() && target.name == service.bin)
        {
            Ok(package.name.clone())
        } else {
            Err(ServiceError::NoBinary {
                bin: service.bin.clone(),
                package: package.name.clone(),
            })
        }
    };
    services.iter().map(name).collect()
}

/// The flags that link a program with what mounts a volume at `/data` before its `main` (`guest/data`), though no source
/// of it names that. It is compiled here: by a call of cargo of its own, since cargo does not know that a program needs
/// it. Hence also the digest in its path: what changes is linked anew.
fn data_flags(
    session: &Session<'_>,
    cargo: &GuestCargo<'_>,
    build: &Invocation,
) -> Result<Vec<String>, ServiceError> {
    let artifacts = cargo.run(
        &build.clone().args(["--package", DATA_PACKAGE, "--lib"]),
        Stage::Services,
        "/data",
    )?;
    let library = artifacts
        .iter()
        .filter(|artifact| artifact.target.name == DATA_CRATE)
        .flat_map(|artifact| &artifact.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "rlib"))
        .ok_or_else(|| ServiceError::NotMade(DATA_PACKAGE.to_owned()))?;
    let digest = Inputs::new("data 1").path(library)?.finish();
    let folder = session.guest_target().join("link").join(digest);
    fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let link = folder.join(format!("lib{DATA_CRATE}.rlib"));
    let _lock = Lock::take(&folder, "the folder of libraries", session.observer)?;
    if fs::read_link(&link).ok().as_ref() != Some(library) {
        cache::remove(&link)?;
        symlink(library, &link).map_err(failed("create", &link))?;
    }
    let path = link.strip_prefix(&session.workspace).unwrap_or(&link);
    Ok(vec![
        "-Zunstable-options".to_owned(),
        format!("--extern=force:{DATA_CRATE}={}", path.display()),
        "-Clink-arg=--wrap=main".to_owned(),
    ])
}

/// The flags that link a program with libhermit. They become part of the names of the program's
/// symbols, so they name the archive by a path that is the same in every workspace: relative to its root, where
/// cargo starts the compiler.
fn link_flags(session: &Session<'_>, libhermit: &Libhermit) -> Result<Vec<String>, ServiceError> {
    let name = libhermit.archive.file_name().unwrap_or_default();
    let folder = libhermit.folder(session).join("link");
    fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let link = folder.join(name);
    let _lock = Lock::take(&folder, "the folder of libraries", session.observer)?;
    if fs::read_link(&link).ok().as_ref() != Some(&libhermit.archive) {
        cache::remove(&link)?;
        remove_dangling(&folder)?;
        symlink(&libhermit.archive, &link).map_err(failed("create", &link))?;
    }
    let archive = link.strip_prefix(&session.workspace).unwrap_or(&link);
    let mut flags = vec![
        format!("-Clink-arg={}", archive.display()),
        "-Clink-arg=--build-id=none".to_owned(),
    ];
    flags.extend(
        libhermit
            .wraps
            .iter()
            .map(|symbol| format!("-Clink-arg=--wrap={symbol}")),
    );
    Ok(flags)
}

/// Removes links to archives that the cache no longer has.
fn remove_dangling(folder: &Path) -> Result<(), CacheError> {
    fs::read_dir(folder)
        .map_err(failed("read", folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|link| !link.exists())
        .try_for_each(|link| cache::remove(&link))
}

/// Makes the file for the image, without symbols and sealed, unless it is there, made from this very binary. Times of
/// files say nothing here: cargo brings back an old binary, with its old time, when its inputs are the old ones again.
fn strip_and_seal(
    session: &Session<'_>,
    toolchain: &GuestToolchain,
    libhermit: &Libhermit,
    artifacts: &[Artifact],
    name: &str,
) -> Result<(ServiceBinary, Outcome), ServiceError> {
    let made = artifacts
        .iter()
        .find(|artifact| artifact.target.is_bin() && artifact.target.name == name);
    let symbols = made
        .and_then(|artifact| artifact.executable.clone())
        .ok_or_else(|| ServiceError::NotMade(name.to_owned()))?;
    let digest = Inputs::new("stripped and sealed 1").path(&symbols)?.finish();

    let entry = libhermit.folder(session).join("services").join(name);
    let (path, stamp) = (entry.join(name), entry.join("made-from"));
    let _lock = Lock::take(&entry, name, session.observer)?;
    let outcome = if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == digest) {
        Outcome::Cached
    } else {
        let staged = Staged::new(&entry)?;
        let folder = staged.path();
        fs::create_dir(folder).map_err(failed("create", folder))?;
        Invocation::new(toolchain.tool("llvm-strip"))
            .env("LD_LIBRARY_PATH", toolchain.library_path())
            .args(["--strip-all", "-o"])
            .arg(folder.join(name))
            .arg(&symbols)
            .run(session.observer)
            .map_err(|source| ServiceError::Strip {
                name: name.to_owned(),
                source,
            })?;
        let program = folder.join(name);
        let mut bytes = fs::read(&program).map_err(failed("read", &program))?;
        hermitage_boot::seal::seal(&mut bytes);
        fs::write(&program, bytes).map_err(failed("write", &program))?;
        fs::write(folder.join("made-from"), digest).map_err(failed("write", folder))?;
        staged.publish()?;
        Outcome::Done
    };
    let size = fs::metadata(&path).map_err(failed("read", &path))?.len();
    let binary = ServiceBinary {
        name: name.to_owned(),
        path,
        symbols,
        size,
    };
    Ok((binary, outcome))
}
