//! Writes the log. What cannot be written, as on a full disk, is left out: a guest never waits for its log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Entry, Limits, MAX_TEXT, file};
use crate::time::Timestamp;

/// Writes the log of one instance; there must be but one at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    folder: PathBuf,
    limits: Limits,
    newest: Option<Newest>,
    /// The line that is being written by the guest, since its first byte.
    open: Option<Entry>,
}

/// The file that is written.
#[derive(Debug)]
struct Newest {
    file: File,
    size: u64,
}

impl Writer {
    /// A writer that goes on where the last one ended. Nothing is made before something is written.
    pub(crate) fn new(folder: &Path, limits: Limits) -> Self {
        Self {
            folder: folder.to_owned(),
            limits,
            newest: None,
            open: None,
        }
    }

    /// The log's folder has another path.
    pub(crate) fn moved(&mut self, folder: &Path) {
        folder.clone_into(&mut self.folder);
    }

    /// Takes what the guest wrote. An unfinished line is kept until it ends, or [`Self::settle`] is called.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let mut records = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends_line) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            for chunk in text.chunks(MAX_TEXT) {
                let open = self.open.get_or_insert_with(|| empty(Timestamp::now()));
                open.text.extend_from_slice(chunk);
                if open.text.len() >= MAX_TEXT {
                    self.close(false, &mut records);
                }
            }
            if ends_line {
                self.close(true, &mut records);
            }
        }
        self.append(&records);
    }

    /// Whether a line is unfinished.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Writes the unfinished line: the guest says no more for the moment, as after a prompt.
    pub(crate) fn settle(&mut self) {
        let mut records = Vec::new();
        if self.is_open() {
            self.close(false, &mut records);
        }
        self.append(&records);
    }

    fn close(&mut self, ends_line: bool, records: &mut Vec<u8>) {
        let mut entry = self.open.take().unwrap_or_else(|| empty(Timestamp::now()));
        entry.ends_line = ends_line;
        entry.encode(records);
    }

    fn append(&mut self, records: &[u8]) {
        for record in records.split_inclusive(|&byte| byte == b'\n') {
            // A record is written at once or not at all, so that a reader never takes two for one. What was cut off by
            // a full disk is ended first.
            if self.append_one(record).is_err() {
                self.newest = None;
            }
        }
    }

    fn append_one(&mut self, record: &[u8]) -> io::Result<()> {
        let full = |newest: &Newest| newest.size >= self.limits.size;
        if self.newest.as_ref().is_some_and(full) {
            self.newest = None;
            self.rotate()?;
        }
        if self.newest.is_none() {
            self.newest = Some(open(&file(&self.folder, 0))?);
        }
        let Some(newest) = &mut self.newest else {
            return Ok(());
        };
        newest.file.write_all(record)?;
        newest.size += record.len() as u64;
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (0..self.limits.files).rev() {
            let from = file(&self.folder, number);
            let done = if number + 1 == self.limits.files {
                fs::remove_file(&from)
            } else {
                fs::rename(&from, file(&self.folder, number + 1))
            };
            match done {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn empty(at: Timestamp) -> Entry {
    Entry {
        at,
        text: Vec::new(),
        ends_line: false,
    }
}

/// Opens the newest file for more; if its last record was cut off, that one is ended.
fn open(path: &Path) -> io::Result<Newest> {
    use std::os::unix::fs::FileExt as _;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let mut size = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(end) = size.checked_sub(1) {
        file.read_exact_at(&mut last, end)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
        size += 1;
    }
    Ok(Newest { file, size })
}
