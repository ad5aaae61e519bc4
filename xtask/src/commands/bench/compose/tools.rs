//! What others take: a file system or an archive, and `qemu-img convert`, which makes a qcow2 image of it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::step::{Measured, peak};
use super::tree::FILES;
use super::{io_failure, remove};
use crate::failure::Failure;
use crate::host;

/// How often the memory of a tool is looked at: the system forgets it when the tool ends.
const LOOK: Duration = Duration::from_millis(1);

/// How much larger than its files an ext4 image is made: what its metadata takes, by experience, with some room.
const EXT4_FACTOR: f64 = 1.5;

/// How one gets from a folder to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Tar,
    Erofs,
    Ext4,
}

/// The programs, and the packages that have them.
pub(super) const NEEDED: [host::Tool; 4] = [
    host::Tool {
        program: "qemu-img",
        package: "qemu-utils",
        purpose: "converts images, to compare with",
    },
    host::Tool {
        program: "mkfs.erofs",
        package: "erofs-utils",
        purpose: "writes EROFS, to compare with",
    },
    host::Tool {
        program: "mkfs.ext4",
        package: "e2fsprogs",
        purpose: "writes ext4, to compare with",
    },
    host::Tool {
        program: "tar",
        package: "tar",
        purpose: "writes archives, to compare with",
    },
];

/// What the programs say that they are.
pub(super) fn versions() -> Vec<String> {
    let first_line = |program: &str, argument: &str| {
        let output = command(program).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
    };
    [
        ("qemu-img", "--version"),
        ("mkfs.erofs", "-V"),
        ("mkfs.ext4", "-V"),
        ("tar", "--version"),
    ]
    .into_iter()
    .filter_map(|(program, argument)| first_line(program, argument))
    .collect()
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", host::search_path()).stdin(Stdio::null());
    command
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Erofs => "mkfs.erofs",
            Self::Ext4 => "mkfs.ext4 -d",
        }
    }

    /// Makes an image. Memory is looked at only if it is asked for, since that takes time.
    pub(super) fn measure(self, folder: &Path, memory: bool) -> Result<Measured, Failure> {
        let files = &folder.join(FILES);
        let (raw, image) = (&folder.join("raw"), &folder.join("qcow2"));
        remove(raw)?;
        remove(image)?;
        let mut make = command(self.name().split(' ').next().unwrap_or_default());
        match self {
            Self::Tar => make.arg("-cf").arg(raw).arg("-C").arg(files).arg("."),
            Self::Erofs => make.arg(raw).arg(files),
            Self::Ext4 => {
                let kilobytes = ext4_kilobytes(files).map_err(|error| io_failure("read", files, &error))?;
                make.args(["-q", "-O", "^has_journal", "-d"])
                    .arg(files)
                    .arg(raw)
                    .arg(format!("{kilobytes}k"))
            }
        };
        let mut convert = command("qemu-img");
        convert
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .arg(raw)
            .arg(image);
        let begin = Instant::now();
        let peak = run(&mut make, memory)?.max(run(&mut convert, memory)?);
        let seconds = begin.elapsed().as_secs_f64();
        let mut written = 0;
        for path in [raw, image] {
            let metadata = fs::metadata(path).map_err(|error| io_failure("read", path, &error))?;
            written += metadata.blocks() * 512;
            remove(path)?;
        }
        Ok(Measured {
            seconds,
            written,
            peak,
        })
    }
}

/// Runs a program; the most memory that it had in use, 0 if nobody asked.
fn run(command: &mut Command, memory: bool) -> Result<u64, Failure> {
    let shown = host::shown(command);
    let failed = |error: io::Error| Failure::Failed(format!("cannot run `{shown}`: {error}"));
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut most = 0;
    let status = loop {
        if !memory {
            break child.wait().map_err(failed)?;
        }
        most = most.max(peak(&child.id().to_string()).unwrap_or(0));
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        thread::sleep(LOOK);
    };
    if status.success() {
        Ok(most)
    } else {
        Err(Failure::Failed(format!("`{shown}` failed: {status}")))
    }
}

/// How large an ext4 file system must be for a folder: its blocks, an inode for each file, and room.
fn ext4_kilobytes(folder: &Path) -> io::Result<u64> {
    fn blocks(folder: &Path) -> io::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            sum += 1 + metadata.size().div_ceil(4096);
            if metadata.is_dir() {
                sum += blocks(&entry.path())?;
            }
        }
        Ok(sum)
    }
    Ok((blocks(folder)? as f64 * 4.0 * EXT4_FACTOR) as u64 + 8192)
}
