//! Directories: how their entries fall into blocks, and the bytes of those.

use crate::format::{BLOCK, DIRENT_SIZE, Kind, RawDirent};

/// An entry that is to be written.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: Kind,
}

/// Bytes of a directory whose entries, sorted, have names of these lengths.
pub(super) fn size(lengths: impl Iterator<Item = usize>) -> u64 {
    let (mut full, mut used) = (0, 0);
    for length in lengths {
        let needed = DIRENT_SIZE + length;
        if used + needed > BLOCK {
            full += 1;
            used = 0;
        }
        used += needed;
    }
    full * BLOCK as u64 + used as u64
}

/// A directory's bytes; its entries are sorted by their names.
pub(super) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut used = 0;
        let fitting = rest.iter().take_while(|entry| {
            used += DIRENT_SIZE + entry.name.len();
            used <= BLOCK
        });
        let count = fitting.count();
        let (block, later) = rest.split_at(count);
        let mut name_offset = count * DIRENT_SIZE;
        for entry in block {
            // At most BLOCK, which 16 bits hold.
            let offset = name_offset as u16;
            let dirent = RawDirent {
                nid: entry.nid,
                name_offset: offset,
                file_type: entry.kind.dirent_type(),
            };
            bytes.extend_from_slice(&dirent.encode());
            name_offset += entry.name.len();
        }
        for entry in block {
            bytes.extend_from_slice(entry.name);
        }
        rest = later;
    }
    bytes
}
