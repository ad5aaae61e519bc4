//! Names that are longer than a header: they come before their entry, in one of their own. The tar crate would read them
//! into memory however long they are.

use std::io::Read;

use tar::{Entry, EntryType, PaxExtensions};

use super::error::{ArchiveError, Fault};
use super::read::{content, failed};

/// Most bytes of what a tar file says of an entry besides its header: a path, a link's target, some times.
const MAX_EXTENSION: u64 = 32 << 10;

/// What extensions of the tar format say of the next entry.
#[derive(Debug, Default)]
pub(super) struct Names {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Names {
    /// Takes an entry that says something of the next one; false for any other.
    pub(super) fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, ArchiveError> {
        let kind = entry.header().entry_type();
        if !matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        ) {
            return Ok(false);
        }
        if entry.size() > MAX_EXTENSION {
            return Err(ArchiveError::Limit {
                what: "bytes of a name",
                max: MAX_EXTENSION,
            });
        }
        let mut bytes = Vec::new();
        content(entry, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        match kind {
            EntryType::GNULongName => self.path = Some(until_nul(bytes)),
            EntryType::GNULongLink => self.target = Some(until_nul(bytes)),
            _ => {
                for record in PaxExtensions::new(&bytes) {
                    let record = record.map_err(failed)?;
                    match record.key_bytes() {
                        b"path" if kind == EntryType::XHeader => {
                            self.path = Some(record.value_bytes().to_vec());
                        }
                        b"linkpath" if kind == EntryType::XHeader => {
                            self.target = Some(record.value_bytes().to_vec());
                        }
                        // A file over 8 GiB, or an archive that is to look different to different readers.
                        key @ (b"path" | b"linkpath" | b"size") => {
                            return Err(ArchiveError::Entry {
                                path: key.to_vec(),
                                fault: Fault::Kind("an extension that is not taken"),
                            });
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(true)
    }

    /// The path and the link's target of the entry itself.
    pub(super) fn complete<R: Read>(self, entry: &Entry<'_, R>) -> (Vec<u8>, Option<Vec<u8>>) {
        let header = entry.header();
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = self
            .target
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        (path, target)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}
