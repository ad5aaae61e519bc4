//! Readers of what comes from outside, and what must hold for any bytes that they are given: no panic, no endless loop,
//! no memory beyond what the input accounts for, no path that leads out of where it belongs.
//!
//! Each [`Target`] is a plain function with seeds that a program makes, and a folder `corpus/<name>` of small inputs
//! that a fuzzer has found to lead elsewhere. Two run them: `tests/short.rs` with a fixed number of mutations, as part
//! of `cargo xtask test`; and libFuzzer, for as long as one likes:
//!
//! ```console
//! $ cargo install cargo-fuzz
//! $ cargo run -p hermitage-fuzz --example seeds
//! $ RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir fuzz/libfuzzer --sanitizer none erofs
//! ```

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

mod archive;
mod boot;
mod disk;
mod erofs;
mod manifest;
mod network;
mod random;

pub use random::Random;

/// Something that reads bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of the libFuzzer target.
    pub name: &'static str,
    /// Reads them. Panics if something does not hold.
    pub check: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "erofs",
        check: erofs::check,
        seeds: erofs::seeds,
    },
    Target {
        name: "base",
        check: erofs::check_base,
        seeds: erofs::base_seeds,
    },
    Target {
        name: "disk",
        check: disk::check,
        seeds: disk::seeds,
    },
    Target {
        name: "boot-config",
        check: boot::check_config,
        seeds: boot::config_seeds,
    },
    Target {
        name: "control",
        check: boot::check_control,
        seeds: boot::control_seeds,
    },
    Target {
        name: "manifest",
        check: manifest::check,
        seeds: manifest::seeds,
    },
    Target {
        name: "archive",
        check: archive::check,
        seeds: archive::seeds,
    },
    Target {
        name: "network",
        check: network::check,
        seeds: network::seeds,
    },
];

/// Finds a target.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Inputs to begin with: the seeds, and those that a fuzzer has found, if it was run on this target.
    ///
    /// # Panics
    /// The corpus cannot be read.
    #[must_use]
    pub fn inputs(&self) -> Vec<Vec<u8>> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name);
        let read = || -> io::Result<Vec<_>> {
            let entries = match fs::read_dir(&corpus) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut paths: Vec<_> = entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()?;
            paths.sort();
            paths.iter().map(fs::read).collect()
        };
        let found = read().unwrap_or_else(|error| panic!("cannot read `{}`: {error}", corpus.display()));
        (self.seeds)().into_iter().chain(found).collect()
    }

    /// Gives the target its inputs, then as many mutations of them. An input that it does not bear is kept in a file.
    ///
    /// # Panics
    /// The target does, on one of them.
    pub fn run(&self, mutations: u64) {
        let seeds = self.inputs();
        seeds.iter().for_each(|seed| self.one(seed));
        let mut random = Random::new(blake3::hash(self.name.as_bytes()).as_bytes()[0].into());
        for _ in 0..mutations {
            self.one(&random.mutated(&seeds));
        }
    }

    fn one(&self, input: &[u8]) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.check)(input))) {
            let name = format!(
                "hermitage-fuzz-{}-{}",
                self.name,
                &blake3::hash(input).to_hex()[..16]
            );
            let path: PathBuf = std::env::temp_dir().join(name);
            let kept = fs::write(&path, input).is_ok();
            eprintln!(
                "`{}` does not bear `{}` (written: {kept})",
                self.name,
                path.display()
            );
            resume_unwind(panic);
        }
    }
}
