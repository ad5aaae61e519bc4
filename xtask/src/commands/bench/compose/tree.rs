//! The files that are composed: the same names, sizes and bytes on every machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of the files, in the folder of a measurement.
pub(super) const FILES: &str = "files";

/// How many files there are, and how many bytes they have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// What `npm install express request jimp` gave.
pub(super) const SMALL: Shape = Shape {
    files: 3399,
    bytes: 33_400_000,
};

/// A large application.
pub(super) const MANY: Shape = Shape {
    files: 100_000,
    bytes: 1_000_000_000,
};

/// A database, a model.
pub(super) const LARGE_FILE: Shape = Shape {
    files: 1,
    bytes: 1_000_000_000,
};

/// How many files a package has: some 600 folders for 3,399 files, as in a real tree.
const FILES_OF_A_PACKAGE: usize = 24;

/// Bytes that are made and written at a time.
const PIECE: usize = 1 << 20;

impl Shape {
    /// Writes the files, and a manifest that names them.
    pub(super) fn make(&self, folder: &Path) -> io::Result<()> {
        for (number, size) in self.sizes().into_iter().enumerate() {
            let path = self.path(folder, number);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            write(&path, size, number as u64, 0)?;
        }
        let manifest = format!(
            "name: bench\ntitle: Bench\nauthor: bench\nfiles:\n  - source: {FILES}\n    destination: /srv\n"
        );
        fs::write(folder.join("package.yaml"), manifest)
    }

    /// Gives some files other bytes, and none other sizes.
    pub(super) fn change(&self, folder: &Path, files: usize, round: u32) -> io::Result<()> {
        let sizes = self.sizes();
        // Apart from each other, and other ones for each number.
        let step = self.files / files.max(1);
        for number in (0..files).map(|n| (n * step + files) % self.files) {
            let seed = u64::from(round) << 32 | files as u64;
            write(&self.path(folder, number), sizes[number], number as u64, seed)?;
        }
        Ok(())
    }

    fn path(&self, folder: &Path, number: usize) -> PathBuf {
        let packages = self.files.div_ceil(FILES_OF_A_PACKAGE);
        let within = ["", "lib", "lib/internal", "dist"][number / packages % 4];
        folder
            .join(FILES)
            .join(format!("package-{}", number % packages))
            .join(within)
            .join(format!("module-{number}.js"))
    }

    /// Sizes as in a tree of npm's: most are small, one in a thousand has hundreds of kilobytes (Pareto).
    fn sizes(&self) -> Vec<u64> {
        let size = |number: usize| {
            let hash = blake3::hash(&(number as u64).to_le_bytes());
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&hash.as_bytes()[..4]);
            let uniform = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
            200.0 + 300.0 / (1.0 - uniform * 0.9993)
        };
        let sizes: Vec<_> = (0..self.files).map(size).collect();
        let scale = self.bytes as f64 / sizes.iter().sum::<f64>();
        sizes.into_iter().map(|size| (size * scale) as u64).collect()
    }
}

/// Writes bytes that no compression makes smaller, and that no other file has.
fn write(path: &Path, size: u64, number: u64, seed: u64) -> io::Result<()> {
    use std::io::Write as _;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(&seed.to_le_bytes());
    let mut bytes = hasher.finalize_xof();
    let mut file = fs::File::create(path)?;
    let mut left = size;
    let mut buffer = vec![0; PIECE.min(size as usize)];
    while left > 0 {
        let length = (buffer.len() as u64).min(left) as usize;
        bytes.fill(&mut buffer[..length]);
        file.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}
