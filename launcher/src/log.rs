//! The log of a guest's console: lines with times, in files that rotate.
//!
//! The format is that of the Kubernetes container runtime interface, which log collectors read:
//!
//! ```text
//! 2026-11-21T15:00:00.123Z stdout F server is listening on 9000
//! <when its first byte came, UTC> stdout <F: the guest ended the line here; P: it goes on in the next record> <bytes>
//! ```
//!
//! A record's bytes are the guest's own, so that all it wrote is what the records hold, with a newline after each `F`.
//! The newest file is `console.log`; when it is full it becomes `console.log.1`, that one `console.log.2`, and the
//! last is removed.
//!
//! [`Writer`] is used by whoever supervises the instance, [`Reader`] by anyone, also while it is written.

mod reader;
mod watch;
mod writer;

pub use reader::Reader;
pub use watch::Watch;
pub(crate) use writer::Writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::units::ParseError;

/// The newest file, in the instance's folder.
pub const FILE: &str = "console.log";

/// The one stream there is: a serial port.
const STREAM: &str = "stdout";

/// Most bytes of a record's text; a longer line is cut into several.
const MAX_TEXT: usize = 16 * 1024;

/// How large the logs of one instance may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a file after which the next is begun.
    pub size: u64,
    /// Number of files, the one that is written included; at least 1.
    pub files: u32,
}

impl Limits {
    /// Reads a size: bytes, or with a unit, `500K`, `10M`, `1G`.
    ///
    /// # Errors
    /// It is none, or too small for a file that is worth its name.
    pub fn parse_size(text: &str) -> Result<u64, ParseError> {
        let fault = |fault| {
            ParseError::new(
                text,
                fault,
                "a size is such as `500K`, `10M` or `1G`, and 4K at least",
            )
        };
        let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
        let number: u64 = digits.parse().map_err(|_| fault("is no size"))?;
        let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(fault("has an unknown unit")),
        };
        let size = number.checked_mul(unit).ok_or_else(|| fault("is too large"))?;
        if size < MIN_SIZE {
            return Err(fault("is too small"));
        }
        Ok(size)
    }
}

/// Least size of a file. A smaller one would hold a handful of lines, and be replaced at each.
const MIN_SIZE: u64 = 4096;

impl Default for Limits {
    /// 3 files of 10 MiB: days of an ordinary service, and a size that nobody misses on a disk.
    fn default() -> Self {
        Self {
            size: 10 << 20,
            files: 3,
        }
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When its first byte came.
    pub at: Timestamp,
    /// What the guest wrote, without the newline.
    pub text: Vec<u8>,
    /// Whether the guest ended the line here.
    pub ends_line: bool,
}

impl Entry {
    /// What the guest wrote, byte for byte.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        let mut raw = self.text.clone();
        if self.ends_line {
            raw.push(b'\n');
        }
        raw
    }

    /// Appends the record, its newline included.
    fn encode(&self, out: &mut Vec<u8>) {
        let tag = if self.ends_line { 'F' } else { 'P' };
        out.extend_from_slice(format!("{} {STREAM} {tag} ", self.at).as_bytes());
        out.extend_from_slice(&self.text);
        out.push(b'\n');
    }

    /// Reads a record without its newline; `None` if it is none.
    fn decode(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |&byte| byte == b' ');
        let at = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        if fields.next()? != STREAM.as_bytes() {
            return None;
        }
        let ends_line = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let text = fields.next()?.to_owned();
        Some(Self { at, text, ends_line })
    }
}

/// The `number`th newest file.
fn file(folder: &Path, number: u32) -> PathBuf {
    match number {
        0 => folder.join(FILE),
        _ => folder.join(format!("{FILE}.{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn all(folder: &Path) -> Vec<u8> {
        let entries = Reader::open(folder).unwrap().entries().unwrap();
        entries.iter().flat_map(Entry::raw).collect()
    }

    #[test]
    fn every_byte_is_read_back_however_it_arrives() {
        let bytes: Vec<u8> = (0..=255).chain(*b"\r\n\n\n no newline \n\n at the end").collect();
        for size in [1, 2, 7, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = Writer::new(folder.path(), Limits::default());
            for (number, part) in bytes.chunks(size).enumerate() {
                writer.write(part);
                if number % 3 == 0 {
                    writer.settle();
                }
            }
            writer.settle();
            assert_eq!(all(folder.path()), bytes, "in parts of {size}");
        }
    }

    #[test]
    fn a_line_is_one_record_and_what_stays_open_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), Limits::default());
        writer.write(b"on");
        writer.write(b"e\ntwo");
        writer.settle();
        writer.write(b" and more\n");
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        let tails: Vec<_> = text.lines().map(|line| &line[24..]).collect();
        assert_eq!(tails, [" stdout F one", " stdout P two", " stdout F  and more"]);
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { size: 1000, files: 3 };
        let mut writer = Writer::new(folder.path(), limits);
        for number in 0..1000 {
            writer.write(format!("line {number}\n").as_bytes());
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                // A file is full when it has reached the size: one record may stand over.
                assert!(entry.metadata().unwrap().len() < 1000 + 100);
                entry.file_name().into_string().unwrap()
            })
            .collect();
        names.sort();
        assert_eq!(names, ["console.log", "console.log.1", "console.log.2"]);
        let text = String::from_utf8(all(folder.path())).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() > 30);
        let expected: Vec<_> = (1000 - lines.len()..1000).map(|n| format!("line {n}")).collect();
        assert_eq!(lines, expected, "no line is lost between two files");
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            Writer::new(folder.path(), Limits::default()).write(b"again\n");
        }
        assert_eq!(all(folder.path()), b"again\nagain\n");
    }

    #[test]
    fn a_reader_follows_through_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.entries().unwrap(), []);
        let limits = Limits { size: 300, files: 4 };
        let mut writer = Writer::new(folder.path(), limits);
        let mut seen = Vec::new();
        for number in 0..100 {
            writer.write(format!("line {number}\n").as_bytes());
            if number % 5 == 0 {
                seen.extend(reader.entries().unwrap());
            }
        }
        seen.extend(reader.entries().unwrap());
        let text: Vec<u8> = seen.iter().flat_map(Entry::raw).collect();
        let expected: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let good = "2026-11-21T15:00:00.123Z stdout F good\n";
        let text = format!("noise\n\n{good}2026-11-21T15:00:00.123Z stdout X bad\n{good}cut o");
        fs::write(folder.path().join(FILE), text).unwrap();
        assert_eq!(all(folder.path()), b"good\ngood\n");
    }

    #[test]
    fn a_log_that_cannot_be_written_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(&folder.path().join("missing"), Limits::default());
        writer.write(b"lost\n");
        writer.settle();
    }
}
