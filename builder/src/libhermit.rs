//! `libhermit.a`: the kernel and our glue, what a service is linked with to become a unikernel.
//!
//! Built once for each digest of its inputs, and kept in the cache. In the archive every global symbol gets a prefix,
//! save those through which a service and the kernel meet: the service brings its own `core`, `alloc` and
//! `compiler_builtins`, and there must be one of each name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, CacheError, failed};
use crate::cargo::{CargoError, GuestCargo, remapped_paths};
use crate::digest::Inputs;
use crate::event::Stage;
use crate::kernel::{self, KernelError};
use crate::library;
use crate::patch::PatchError;
use crate::process::{Invocation, ProcessError};
use crate::session::Session;
use crate::sources::{self, SourcesError};
use crate::toolchain::GuestToolchain;

/// The recipe, part of the digest; raise the number when what is done below changes.
const RECIPE: &str = "libhermit 2";

/// What is compiled, beside the kernel.
const INPUTS: [&str; 5] = [
    "guest/libhermit",
    "guest/files",
    "formats/boot",
    "formats/erofs",
    "Cargo.toml",
];

/// What the kernel is built for.
const TARGET: &str = "x86_64-unknown-none";

/// Flags of the kernel's own build: what it is tested with upstream, and code that runs at any address.
const RUSTFLAGS: [&str; 2] = ["-Zmutable-noalias=no", "-Crelocation-model=pic"];

/// What is put in front of the symbols that are the kernel's own.
const PREFIX: &str = "hermit_";

/// Why there is no libhermit.
#[derive(Debug, thiserror::Error)]
pub enum LibhermitError {
    /// The kernel's source could not be provided.
    #[error("cannot provide the kernel's source")]
    Kernel(#[from] KernelError),
    /// The source of `std` could not be provided.
    #[error("cannot provide the source of `std`")]
    Library(#[source] PatchError),
    /// Its sources could not be laid out.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// It does not compile.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// A tool of the toolchain failed.
    #[error("cannot rename the kernel's symbols")]
    Tool(#[from] ProcessError),
    /// A file could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// cargo says that it made no archive.
    #[error("building the kernel made no archive")]
    NoArchive,
}

impl LibhermitError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Kernel(error) => error.hint(),
            Self::Cargo(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::Library(PatchError::Cache(error)) => error.hint(),
            Self::Library(_) | Self::Sources(_) | Self::Tool(_) | Self::NoArchive => None,
        }
    }
}

/// The archive, and how to link with it.
#[derive(Clone, Debug)]
pub struct Libhermit {
    /// The archive; its name holds the digest of its inputs.
    pub archive: PathBuf,
    /// Symbols whose callers are to reach our glue instead (`ld --wrap`).
    pub wraps: Vec<String>,
    /// The source of `std`, patched so that it calls what is in the archive.
    pub library: PathBuf,
    /// Where what is linked with it is built, below `target/guest`: `std` is another one.
    below: &'static str,
}

impl Libhermit {
    /// Provides the archive.
    ///
    /// # Errors
    /// The kernel cannot be fetched or patched, it does not compile, or the cache cannot be written.
    pub fn build(session: &Session<'_>, toolchain: &GuestToolchain) -> Result<Self, LibhermitError> {
        let kernel = kernel::prepare(session, toolchain)?;
        let library = library::prepare(session, toolchain).map_err(LibhermitError::Library)?;
        let wraps = wraps(&session.workspace.join("guest/libhermit/wraps.txt"))?;
        let recipe = Recipe {
            name: "libhermit",
            package: "guest/libhermit",
            inputs: &INPUTS,
            kernel: &kernel.digest,
            folder: session.guest_target().join("libhermit"),
        };
        Ok(Self {
            archive: recipe.follow(session, toolchain)?,
            wraps,
            library,
            below: "",
        })
    }

    /// Provides the kernel as it was released, for the toolchain's own `std`: without our patches to either, and without
    /// our glue. What is linked with it boots by our loader, and is there to be measured beside ours.
    ///
    /// # Errors
    /// The release cannot be fetched, it does not compile, or the cache cannot be written.
    pub fn stock(session: &Session<'_>, toolchain: &GuestToolchain) -> Result<Self, LibhermitError> {
        let below = "stock";
        let recipe = Recipe {
            name: "stock",
            package: "guest/kernel",
            // The lock file holds the release's checksum.
            inputs: &[
                "guest/kernel/Cargo.toml",
                "guest/kernel/Cargo.lock",
                "guest/kernel/src",
            ],
            kernel: "",
            folder: session.guest_target().join(below).join("libhermit"),
        };
        Ok(Self {
            archive: recipe.follow(session, toolchain)?,
            wraps: Vec::new(),
            library: toolchain.library_source(),
            below,
        })
    }

    /// The folder for the services that are linked with it, and all that is built for them.
    pub(crate) fn folder(&self, session: &Session<'_>) -> PathBuf {
        session.guest_target().join(self.below)
    }
}

/// How an archive is made.
struct Recipe<'a> {
    /// Of its place in the cache.
    name: &'a str,
    /// What is compiled: a package that makes `libhermit.a`, its folder in the workspace.
    package: &'a str,
    /// What decides how that comes out, besides the compiler and the kernel.
    inputs: &'a [&'a str],
    /// The digest of the kernel's source, where that is not among the inputs.
    kernel: &'a str,
    /// Where it is built.
    folder: PathBuf,
}

impl Recipe<'_> {
    /// Gives the archive, out of the cache if it is there.
    fn follow(&self, session: &Session<'_>, toolchain: &GuestToolchain) -> Result<PathBuf, LibhermitError> {
        session.stage(Stage::Libhermit, "", || {
            let mut inputs = Inputs::new(RECIPE);
            inputs
                .bytes("compiler", toolchain.verbose_version().as_bytes())
                .bytes("flags", RUSTFLAGS.join(" ").as_bytes())
                .bytes("kernel", self.kernel.as_bytes());
            for input in self.inputs {
                inputs.path(&session.workspace.join(input))?;
            }
            let cache = Cache::new(&session.environment)?;
            let make = |staged: &Path| {
                let built = self.compile(session, toolchain)?;
                rename_symbols(session, toolchain, &built, staged)
            };
            cache.result(self.name, &inputs.finish(), ".a", session.observer, make)
        })
    }

    fn compile(&self, session: &Session<'_>, toolchain: &GuestToolchain) -> Result<PathBuf, LibhermitError> {
        let cargo = GuestCargo::new(session, toolchain)?;
        let mut rustflags = RUSTFLAGS.map(str::to_owned).to_vec();
        rustflags.extend(remapped_paths(session, toolchain));
        let package = session.workspace.join(self.package);
        let manifest = sources::lay_out(
            &self.folder.join("source"),
            &package,
            std::slice::from_ref(&package),
        )?;
        let build = cargo
            .build(TARGET, &self.folder, &rustflags)
            .arg("-Zbuild-std=core,alloc")
            .arg("--manifest-path")
            .arg(manifest);
        let artifacts = cargo.run(&build, Stage::Libhermit, self.name)?;
        artifacts
            .into_iter()
            .flat_map(|artifact| artifact.filenames)
            .find(|file| file.file_name().is_some_and(|name| name == "libhermit.a"))
            .ok_or(LibhermitError::NoArchive)
    }
}

/// The symbols to wrap: one in each line, `#` starts a comment.
fn wraps(list: &Path) -> Result<Vec<String>, CacheError> {
    let text = fs::read_to_string(list).map_err(failed("read", list))?;
    let symbols = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(symbols
        .filter(|symbol| !symbol.is_empty())
        .map(str::to_owned)
        .collect())
}

fn rename_symbols(
    session: &Session<'_>,
    toolchain: &GuestToolchain,
    built: &Path,
    archive: &Path,
) -> Result<(), LibhermitError> {
    let tool = |name| Invocation::new(toolchain.tool(name)).env("LD_LIBRARY_PATH", toolchain.library_path());
    let listed = tool("llvm-nm")
        .args(["--extern-only", "--defined-only", "--just-symbol-name", "--quiet"])
        .arg(built)
        .run(session.observer)?;
    let list = built.with_extension("symbols");
    fs::write(&list, renames(&listed.text())).map_err(failed("write", &list))?;

    let mut redefine = std::ffi::OsString::from("--redefine-syms=");
    redefine.push(&list);
    tool("llvm-objcopy")
        .arg(redefine)
        .arg(built)
        .arg(archive)
        .run(session.observer)?;
    Ok(())
}

/// Lines of `old new`, as `llvm-objcopy --redefine-syms` takes them, from what `llvm-nm` lists.
fn renames(listed: &str) -> String {
    let symbols: BTreeSet<&str> = listed
        .lines()
        // A line that ends with a colon names a member of the archive.
        .filter(|line| !line.is_empty() && !line.ends_with(':'))
        .filter(|symbol| !is_shared(symbol))
        .collect();
    symbols
        .iter()
        .map(|symbol| format!("{symbol} {PREFIX}{symbol}\n"))
        .collect()
}

/// Whether service and kernel meet through this symbol.
fn is_shared(symbol: &str) -> bool {
    symbol.starts_with("sys_")
        || symbol.starts_with("__wrap_")
        || matches!(symbol, "_start" | "__bss_start" | "mcount" | "runtime_entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_each_symbol_once_save_those_where_service_and_kernel_meet() {
        let listed = "\na.o:\nmemcpy\nsys_read\n_start\n\nb.o:\nmemcpy\n__wrap_sys_exit\n_ZN4core3fmt\n";
        assert_eq!(
            renames(listed),
            "_ZN4core3fmt hermit__ZN4core3fmt\nmemcpy hermit_memcpy\n"
        );
    }
}
