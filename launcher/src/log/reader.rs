//! Reads the log, from its oldest file to what is written now.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Entry, file};

/// Most files that are looked for; more than any limit of a user means.
const MAX_FILES: u32 = 1000;

/// Reads records in order; after the last one it can be asked again for those that came meanwhile.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    current: Option<BufReader<File>>,
    /// The beginning of a record whose end is not written yet.
    part: Vec<u8>,
}

impl Reader {
    /// A reader at the start of the oldest file of the log in `folder`.
    ///
    /// # Errors
    /// The file cannot be opened. That there is none yet is no error.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut reader = Self {
            folder: folder.to_owned(),
            current: None,
            part: Vec::new(),
        };
        reader.current = reader.oldest()?.map(BufReader::new);
        Ok(reader)
    }

    /// All records from the last one that was read to the end of what is written now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn entries(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.each(|entry| entries.push(entry))?;
        Ok(entries)
    }

    /// As [`Self::entries`], one after the other.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn each(&mut self, mut take: impl FnMut(Entry)) -> io::Result<()> {
        loop {
            // Looked up first: what is written to a file is written before it is followed by another.
            let next = self.next()?;
            if let Some(current) = &mut self.current {
                while current.read_until(b'\n', &mut self.part)? > 0 {
                    let Some(line) = self.part.strip_suffix(b"\n") else {
                        break;
                    };
                    if let Some(entry) = Entry::decode(line) {
                        take(entry);
                    }
                    self.part.clear();
                }
            }
            match next {
                Some(next) => {
                    self.part.clear();
                    self.current = Some(BufReader::new(next));
                }
                None => return Ok(()),
            }
        }
    }

    /// The file after the current one. If the current one was removed, those between are lost, too.
    fn next(&self) -> io::Result<Option<File>> {
        let Some(current) = &self.current else {
            return self.oldest();
        };
        let current = current.get_ref().metadata()?;
        let mut newer = None;
        for file in self.newest_first() {
            let file = file?;
            let metadata = file.metadata()?;
            if (metadata.dev(), metadata.ino()) == (current.dev(), current.ino()) {
                return Ok(newer);
            }
            newer = Some(file);
        }
        Ok(newer)
    }

    fn oldest(&self) -> io::Result<Option<File>> {
        self.newest_first().last().transpose()
    }

    /// The files that there are. One may be missing while files rotate; the second missing one is the end.
    fn newest_first(&self) -> impl Iterator<Item = io::Result<File>> {
        let mut missing = 0;
        (0..MAX_FILES)
            .map(|number| open(&file(&self.folder, number)).transpose())
            .take_while(move |file| {
                missing += u32::from(file.is_none());
                missing < 2
            })
            .flatten()
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
