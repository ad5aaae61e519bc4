//! Pictures in a data base on a volume: they outlive the process, and pass through it in pieces.
//!
//! A draft's pieces are written under a number of its own while they come in; the commit, the only step that waits for
//! the disk, says which task's picture that number is. Pieces that no picture has, of uploads that broke and of
//! pictures that were replaced, are removed, those of a power cut at the next start.

mod rows;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use hermitage_micro::volume::{self, failed};
use redb::{Database, Durability, ReadTransaction, ReadableTable as _, WriteTransaction};

use crate::pictures::{Claim, Draft, Held, Kind, Picture, Pictures, Placement, place};
use rows::{INPUTS, PIECES, RESULTS, Stored, row, sum_of_piece, whole};

/// Label of the volume that pictures are kept on, where it is attached.
pub(crate) const VOLUME: &str = "storage";

/// Bytes of the data base that stay in memory.
const CACHE: usize = 4 << 20;

/// Bytes of a piece: a little less than a power of two, since the data base adds some bytes to it and gives the whole a
/// power of two of pages.
const PIECE: usize = 60 * 1024;

/// The share of the volume that pictures may take. The data base doubles its room when it is short of some, and what is
/// replaced takes room until the next commit: half of the volume is what it certainly has, and a quarter of that is
/// for itself.
const SHARE: (u64, u64) = (3, 8);

/// All pictures.
pub(crate) struct OnVolume {
    base: Database,
    /// The number of the next draft.
    next: AtomicU64,
    /// Bytes of all pictures and drafts.
    used: AtomicU64,
    limit: u64,
}

impl OnVolume {
    /// On the volume [`VOLUME`]; `None` if it is not attached.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        let Some((base, size)) = volume::data_base(VOLUME, CACHE)? else {
            return Ok(None);
        };
        Self::on(base, size).map(Some)
    }

    /// In a data base on a volume of this size in bytes.
    fn on(base: Database, size: u64) -> io::Result<Self> {
        let write = base.begin_write().map_err(failed)?;
        let (next, used) = sweep(&write)?;
        write.commit().map_err(failed)?;
        Ok(Self {
            base,
            next: AtomicU64::new(next),
            used: AtomicU64::new(used),
            limit: size / SHARE.1 * SHARE.0,
        })
    }

    /// Counts bytes against the limit.
    fn take(&self, bytes: u64) -> io::Result<()> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Removes the pieces that no picture has; the next number, and the bytes of all pictures.
fn sweep(write: &WriteTransaction) -> io::Result<(u64, u64)> {
    let (mut known, mut used) = (Vec::new(), 0);
    for table in [INPUTS, RESULTS] {
        for found in write.open_table(table).map_err(failed)?.iter().map_err(failed)? {
            let (id, found) = found.map_err(failed)?;
            // Of what is damaged nobody knows which pieces it has: nothing is removed then.
            let (_, (number, length)) = whole(id.value(), found.value())?;
            known.push(number);
            used += length;
        }
    }
    known.sort_unstable();
    let mut pieces = write.open_table(PIECES).map_err(failed)?;
    pieces
        .retain(|(number, _), _| known.binary_search(&number).is_ok())
        .map_err(failed)?;
    Ok((known.last().map_or(0, |last| last + 1), used))
}

/// Removes a picture's pieces.
fn remove(write: &WriteTransaction, number: u64) -> io::Result<()> {
    let mut pieces = write.open_table(PIECES).map_err(failed)?;
    pieces
        .retain_in((number, 0)..=(number, u32::MAX), |_, _| false)
        .map_err(failed)
}

impl Pictures for OnVolume {
    fn describe(&self) -> String {
        format!("on the volume `{VOLUME}`, at most {} MiB", self.limit >> 20)
    }

    fn begin(&self) -> io::Result<Box<dyn Draft + '_>> {
        Ok(Box::new(VolumeDraft {
            volume: self,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            length: 0,
            written: 0,
            piece: Vec::new(),
            is_kept: false,
        }))
    }

    fn open(&self, id: u64, kind: Kind) -> io::Result<Option<Picture>> {
        // What is read stays as it is at this moment, whatever takes its place.
        let read = self.base.begin_read().map_err(failed)?;
        let table = match kind {
            Kind::Input => INPUTS,
            Kind::Result => RESULTS,
        };
        let found = read.open_table(table).map_err(failed)?.get(id).map_err(failed)?;
        let Some(found) = found else { return Ok(None) };
        let (_, stored) = whole(id, found.value())?;
        Ok(Some(picture(read, stored)))
    }
}

fn picture(read: ReadTransaction, (number, length): Stored) -> Picture {
    Picture {
        length,
        source: Box::new(Reader {
            read,
            number,
            left: length,
            next: 0,
            piece: io::Cursor::default(),
        }),
    }
}

struct VolumeDraft<'a> {
    volume: &'a OnVolume,
    number: u64,
    length: u64,
    /// Pieces in the data base.
    written: u32,
    /// Bytes that are not there yet.
    piece: Vec<u8>,
    is_kept: bool,
}

impl VolumeDraft<'_> {
    /// Puts the piece that is full, or the last one, into the data base. It is safe with the commit.
    fn put(&mut self) -> io::Result<()> {
        let mut write = self.volume.base.begin_write().map_err(failed)?;
        write.set_durability(Durability::None);
        let key = (self.number, self.written);
        let sum = sum_of_piece(key, &self.piece);
        write
            .open_table(PIECES)
            .map_err(failed)?
            .insert(key, (self.piece.as_slice(), sum))
            .map_err(failed)?;
        write.commit().map_err(failed)?;
        self.written += 1;
        self.piece.clear();
        Ok(())
    }
}

impl Draft for VolumeDraft<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.volume.take(now.len() as u64)?;
            self.piece.extend_from_slice(now);
            self.length += now.len() as u64;
            bytes = later;
            if self.piece.len() == PIECE {
                self.put()?;
            }
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>, id: u64, claim: Claim) -> io::Result<Placement> {
        if !self.piece.is_empty() {
            self.put()?;
        }
        let stored = (self.number, self.length);
        let write = self.volume.base.begin_write().map_err(failed)?;
        let (placement, freed) = {
            let mut inputs = write.open_table(INPUTS).map_err(failed)?;
            let mut results = write.open_table(RESULTS).map_err(failed)?;
            let input = inputs
                .get(id)
                .map_err(failed)?
                .map(|found| whole(id, found.value()));
            let result = results
                .get(id)
                .map_err(failed)?
                .map(|found| whole(id, found.value()));
            let (input, result) = (input.transpose()?, result.transpose()?);
            let held = Held {
                input: input.is_some(),
                result: result.map(|(lease, _)| lease),
            };
            let placement = place(claim, held);
            let replaced = match placement {
                Placement::Input => {
                    inputs.insert(id, row(id, 0, stored)).map_err(failed)?;
                    results.remove(id).map_err(failed)?;
                    [input, result]
                }
                Placement::Result(lease) => {
                    results.insert(id, row(id, lease, stored)).map_err(failed)?;
                    [None, result]
                }
                Placement::Twin | Placement::Late => [None, None],
            };
            let mut freed = 0;
            for (_, (number, length)) in replaced.into_iter().flatten() {
                remove(&write, number)?;
                freed += length;
            }
            (placement, freed)
        };
        // On the disk when it returns, and all that came before it: redb's default.
        write.commit().map_err(failed)?;
        self.is_kept = matches!(placement, Placement::Input | Placement::Result(_));
        self.volume.give_back(freed);
        Ok(placement)
    }
}

impl Drop for VolumeDraft<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        self.volume.give_back(self.length);
        if self.written == 0 {
            return;
        }
        let removed = (|| {
            let mut write = self.volume.base.begin_write().map_err(failed)?;
            write.set_durability(Durability::None);
            remove(&write, self.number)?;
            write.commit().map_err(failed)
        })();
        // What stays takes room until the next start, which sweeps.
        drop::<io::Result<()>>(removed);
    }
}

struct Reader {
    read: ReadTransaction,
    number: u64,
    /// Bytes that have not been read from the data base.
    left: u64,
    next: u32,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.position() == self.piece.get_ref().len() as u64 {
            if self.left == 0 {
                return Ok(0);
            }
            let pieces = self.read.open_table(PIECES).map_err(failed)?;
            let key = (self.number, self.next);
            let damaged = || volume::damaged(VOLUME, "a piece of a picture");
            let found = pieces.get(key).map_err(failed)?.ok_or_else(damaged)?;
            let (piece, sum) = found.value();
            if sum_of_piece(key, piece) != sum || piece.is_empty() {
                return Err(damaged());
            }
            self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(damaged)?;
            let mut bytes = std::mem::take(&mut self.piece).into_inner();
            bytes.clear();
            bytes.extend_from_slice(piece);
            self.piece = io::Cursor::new(bytes);
            self.next += 1;
        }
        self.piece.read(buffer)
    }
}
