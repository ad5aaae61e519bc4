//! The loader and the boot code: what runs before the kernel. Built once for each digest of their inputs, and kept
//! in the cache. It does not own where they lie in an image; that is [`crate::image`].

use std::fs;
use std::path::{Path, PathBuf};

use hermitage_disk::table::BOOT_CODE;

use crate::cache::{Cache, CacheError, failed};
use crate::cargo::{Artifact, CargoError, GuestCargo, remapped_paths};
use crate::digest::Inputs;
use crate::event::Stage;
use crate::image::LoaderArtifacts;
use crate::process::{Invocation, ProcessError};
use crate::session::Session;
use crate::sources::{self, SourcesError};
use crate::toolchain::GuestToolchain;

/// The recipe, part of the digest; raise the number when what is done below changes.
const RECIPE: &str = "loader 2";

/// What they are built for.
const TARGET: &str = "x86_64-unknown-none";

/// What decides how they come out, besides the compiler.
const INPUTS: [&str; 8] = [
    "Cargo.toml",
    "guest/Cargo.toml",
    "guest/Cargo.lock",
    "guest/boot-sector",
    "guest/loader",
    "formats/boot",
    "formats/disk",
    "formats/erofs",
];

/// Why there is no loader.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Its sources could not be laid out.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// It does not compile.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// A tool of the toolchain failed.
    #[error("cannot turn the boot code into bytes")]
    Tool(#[from] ProcessError),
    /// A file could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// cargo says that it made no such program.
    #[error("building `guest` made no program `{0}`")]
    NotMade(&'static str),
    /// The boot code does not fit into an MBR, or does not fill it.
    #[error("the boot code has {0} bytes, an MBR holds {BOOT_CODE}")]
    BootCodeSize(usize),
}

impl LoaderError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cargo(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::Sources(_) | Self::Tool(_) | Self::NotMade(_) | Self::BootCodeSize(_) => None,
        }
    }
}

/// Provides loader and boot code.
///
/// # Errors
/// They do not compile, or the cache cannot be written.
pub fn build_loader(
    session: &Session<'_>,
    toolchain: &GuestToolchain,
) -> Result<LoaderArtifacts, LoaderError> {
    session.stage(Stage::Loader, "", || {
        let mut inputs = Inputs::new(RECIPE);
        inputs.bytes("compiler", toolchain.verbose_version().as_bytes());
        for input in INPUTS {
            inputs.path(&session.workspace.join(input))?;
        }
        let cache = Cache::new(&session.environment)?;
        let make = |staged: &Path| compile(session, toolchain, staged);
        let (entry, outcome) = cache.result("loader", &inputs.finish(), "", session.observer, make)?;
        Ok((read(&entry)?, outcome))
    })
}

const LOADER: &str = "loader";
const BOOT_SECTOR: &str = "boot-sector";

fn read(entry: &Path) -> Result<LoaderArtifacts, LoaderError> {
    let read = |name| {
        let file = entry.join(name);
        fs::read(&file).map_err(failed("read", &file))
    };
    let boot_code = read(BOOT_SECTOR)?;
    Ok(LoaderArtifacts {
        elf: read(LOADER)?,
        boot_code: boot_code
            .try_into()
            .map_err(|bytes: Vec<u8>| LoaderError::BootCodeSize(bytes.len()))?,
    })
}

fn compile(session: &Session<'_>, toolchain: &GuestToolchain, result: &Path) -> Result<(), LoaderError> {
    let cargo = GuestCargo::new(session, toolchain)?;
    let rustflags = remapped_paths(session, toolchain);
    let target = session.guest_target().join("loader");
    let guest = session.workspace.join("guest");
    let packages = [guest.join("boot-sector"), guest.join("loader")];
    let manifest = sources::lay_out(&target.join("source"), &guest, &packages)?;
    let build = cargo
        .build(TARGET, &target, &rustflags)
        .args([
            "-Zbuild-std=core,alloc",
            "-Zbuild-std-features=compiler-builtins-mem",
        ])
        .arg("--manifest-path")
        .arg(manifest);
    let artifacts = cargo.run(&build, Stage::Loader, "the loader")?;

    fs::create_dir(result).map_err(failed("create", result))?;
    let loader = program(&artifacts, LOADER)?;
    fs::copy(loader, result.join(LOADER)).map_err(failed("copy", loader))?;
    Invocation::new(toolchain.tool("llvm-objcopy"))
        .env("LD_LIBRARY_PATH", toolchain.library_path())
        .args(["-O", "binary"])
        .arg(program(&artifacts, BOOT_SECTOR)?)
        .arg(result.join(BOOT_SECTOR))
        .run(session.observer)?;
    Ok(())
}

fn program<'a>(artifacts: &'a [Artifact], name: &'static str) -> Result<&'a PathBuf, LoaderError> {
    artifacts
        .iter()
        .filter(|artifact| artifact.target.is_bin() && artifact.target.name == name)
        .find_map(|artifact| artifact.executable.as_ref())
        .ok_or(LoaderError::NotMade(name))
}
