//! Pictures in a data base on a volume: they outlive the process, and pass through it in pieces.
//!
//! A draft's pieces are written under a number of its own while they come in; the commit, the only step that waits for
//! the disk, says which task's picture that number is. Pieces that no picture has, of uploads that broke and of
//! pictures that were replaced, are removed, those of a power cut at the next start.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use hermitage_micro::volume::{self, failed};
use redb::{Database, Durability, ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use crate::pictures::{Claim, Draft, Held, Kind, Picture, Pictures, Placement, place};

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

/// A picture's number and its length in bytes.
type Stored = (u64, u64);

/// A result's lease, 0 of an input; what is stored; the sum of both.
type Row = (u32, Stored, u32);

/// Inputs, by the task's id.
const INPUTS: TableDefinition<'_, u64, Row> = TableDefinition::new("inputs");
/// Results, by the task's id.
const RESULTS: TableDefinition<'_, u64, Row> = TableDefinition::new("results");
/// Pieces with their sums, by the picture's number and their place in it.
const PIECES: TableDefinition<'_, (u64, u32), (&[u8], u32)> = TableDefinition::new("pieces");

fn row(id: u64, lease: u32, stored: Stored) -> Row {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&lease.to_le_bytes());
    bytes[4..12].copy_from_slice(&stored.0.to_le_bytes());
    bytes[12..].copy_from_slice(&stored.1.to_le_bytes());
    (lease, stored, volume::sum(id, &bytes))
}

/// The lease and what is stored, if they are what was put there.
fn whole(id: u64, found: Row) -> io::Result<(u32, Stored)> {
    let (lease, stored, _) = found;
    if row(id, lease, stored) == found {
        Ok((lease, stored))
    } else {
        Err(volume::damaged(VOLUME, &format!("what there is of task {id}")))
    }
}

fn sum_of_piece((number, place): (u64, u32), bytes: &[u8]) -> u32 {
    volume::sum(number.rotate_left(32) ^ u64::from(place), bytes)
}

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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use redb::ReadableTableMetadata as _;

    use super::*;

    const INPUT: Claim = Claim {
        kind: Some(Kind::Input),
        lease: None,
    };

    fn result(lease: u32) -> Claim {
        Claim {
            kind: Some(Kind::Result),
            lease: Some(lease),
        }
    }

    /// A data base in a file that grows no further than a volume of this size would.
    fn on(path: &Path, size: u64) -> OnVolume {
        try_on(path, size).unwrap()
    }

    fn try_on(path: &Path, size: u64) -> io::Result<OnVolume> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        let backend = Bounded {
            file: redb::backends::FileBackend::new(file).unwrap(),
            size,
        };
        let base = Database::builder().create_with_backend(backend).unwrap();
        OnVolume::on(base, size)
    }

    #[derive(Debug)]
    struct Bounded {
        file: redb::backends::FileBackend,
        size: u64,
    }

    impl redb::StorageBackend for Bounded {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
            self.file.read(offset, length)
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            if length > self.size {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.set_len(length)
        }

        fn sync_data(&self, eventual: bool) -> io::Result<()> {
            self.file.sync_data(eventual)
        }

        fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.file.write(offset, bytes)
        }
    }

    fn put(volume: &OnVolume, id: u64, claim: Claim, bytes: &[u8]) -> io::Result<Placement> {
        let mut draft = volume.begin()?;
        draft.write(bytes)?;
        draft.commit(id, claim)
    }

    fn get(volume: &OnVolume, id: u64, kind: Kind) -> Option<Vec<u8>> {
        let mut picture = volume.open(id, kind).unwrap()?;
        let mut bytes = Vec::new();
        picture.source.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, picture.length);
        Some(bytes)
    }

    fn pieces(volume: &OnVolume) -> u64 {
        let read = volume.base.begin_read().unwrap();
        read.open_table(PIECES).unwrap().len().unwrap()
    }

    #[test]
    fn pictures_outlive_the_process_and_what_was_replaced_or_broke_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let long: Vec<_> = (0..3 * PIECE + 7).map(|n| n as u8).collect();
        {
            let volume = on(&path, 64 << 20);
            assert_eq!(put(&volume, 1, INPUT, b"old").unwrap(), Placement::Input);
            assert_eq!(put(&volume, 1, INPUT, &long).unwrap(), Placement::Input);
            assert_eq!(
                put(&volume, 1, result(2), b"result").unwrap(),
                Placement::Result(2)
            );
            assert_eq!(put(&volume, 1, result(1), &long).unwrap(), Placement::Late);
            volume.begin().unwrap().write(&long).unwrap();
            assert_eq!(pieces(&volume), 4 + 1);
            // One whose process ends in the middle.
            let mut draft = volume.begin().unwrap();
            draft.write(&long).unwrap();
            std::mem::forget(draft);
            assert_eq!(pieces(&volume), 4 + 1 + 3);
        }
        let volume = on(&path, 64 << 20);
        assert_eq!(pieces(&volume), 4 + 1);
        assert_eq!(get(&volume, 1, Kind::Input), Some(long.clone()));
        assert_eq!(get(&volume, 1, Kind::Result), Some(b"result".to_vec()));
        assert_eq!(get(&volume, 2, Kind::Input), None);
        assert_eq!(volume.used.load(Ordering::Relaxed), long.len() as u64 + 6);
        put(&volume, 1, INPUT, b"new").unwrap();
        assert_eq!(get(&volume, 1, Kind::Result), None);
        assert_eq!(volume.used.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn what_is_damaged_on_the_volume_is_said_and_not_sent_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let long: Vec<_> = (0..3 * PIECE + 7).map(|n| n as u8).collect();
        {
            let volume = on(&path, 64 << 20);
            put(&volume, 1, INPUT, &long).unwrap();
            put(&volume, 2, INPUT, b"whole").unwrap();
            let write = volume.base.begin_write().unwrap();
            let mut damaged = long[..PIECE].to_vec();
            let sum = sum_of_piece((0, 1), &long[PIECE..2 * PIECE]);
            damaged[100] ^= 1;
            let mut pieces = write.open_table(PIECES).unwrap();
            pieces.insert((0, 1), (damaged.as_slice(), sum)).unwrap();
            drop(pieces);
            write.commit().unwrap();

            let mut picture = volume.open(1, Kind::Input).unwrap().unwrap();
            let mut read = Vec::new();
            let error = picture.source.read_to_end(&mut read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert!(read == long[..PIECE]);
            let write = volume.base.begin_write().unwrap();
            write.open_table(PIECES).unwrap().remove((0, 3)).unwrap();
            let mut pieces = write.open_table(PIECES).unwrap();
            pieces.insert((0, 1), (&long[PIECE..2 * PIECE], sum)).unwrap();
            drop(pieces);
            write.commit().unwrap();
            let mut picture = volume.open(1, Kind::Input).unwrap().unwrap();
            let error = picture.source.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "the last piece lacks");
            assert_eq!(get(&volume, 2, Kind::Input), Some(b"whole".to_vec()));

            let write = volume.base.begin_write().unwrap();
            let (lease, (number, length), sum) = row(2, 0, (1, 5));
            let damaged = (lease, (number ^ 8, length), sum);
            write.open_table(INPUTS).unwrap().insert(2, damaged).unwrap();
            write.commit().unwrap();
            assert_eq!(
                volume.open(2, Kind::Input).err().unwrap().kind(),
                io::ErrorKind::InvalidData
            );
            assert!(put(&volume, 2, INPUT, b"new").is_err());
        }
        // A start would remove the pieces of what it does not know.
        let error = try_on(&path, 64 << 20).err().unwrap();
        assert!(error.to_string().contains("task 2"), "{error}");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let backend = redb::backends::FileBackend::new(file).unwrap();
        let base = Database::builder().create_with_backend(backend).unwrap();
        let pieces = base.begin_read().unwrap().open_table(PIECES).unwrap().len();
        assert_eq!(pieces.unwrap(), 3 + 1);
    }

    #[test]
    fn bug_10_a_reader_meets_one_whole_picture() {
        let folder = tempfile::tempdir().unwrap();
        let volume = on(&folder.path().join("base"), 64 << 20);
        let [old, new] = [1, 2].map(|byte| vec![byte; 3 * PIECE]);
        put(&volume, 0, INPUT, &old).unwrap();
        let mut picture = volume.open(0, Kind::Input).unwrap().unwrap();
        let mut read = vec![0; 10];
        picture.source.read_exact(&mut read).unwrap();
        put(&volume, 0, INPUT, &new).unwrap();
        picture.source.read_to_end(&mut read).unwrap();
        assert!(read == old);
        assert!(get(&volume, 0, Kind::Input) == Some(new));
    }

    #[test]
    fn a_volume_that_is_full_says_so_and_serves_on() {
        // Sizes around those at which the data base doubles its room.
        for size in [8 << 20, 12 << 20, 17 << 20, 31 << 20, 33 << 20] {
            let folder = tempfile::tempdir().unwrap();
            let volume = on(&folder.path().join("base"), size);
            let picture = vec![7; 300_000];
            let most = volume.limit / 300_000;
            for id in 0..most - 1 {
                put(&volume, id, INPUT, &picture).unwrap();
            }
            // In place of each, another, many times.
            for turn in 0..100 {
                let id = turn % (most - 1);
                put(&volume, id, INPUT, &[turn as u8; 100_000]).unwrap();
                put(&volume, id, result(turn as u32), &[turn as u8; 150_000]).unwrap();
            }
            for id in 0..most {
                put(&volume, id, INPUT, &picture).unwrap();
            }
            for _ in 0..3 {
                let error = put(&volume, most, INPUT, &picture).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{size}: {error}");
            }
            assert!(get(&volume, 0, Kind::Input).is_some());
        }
    }
}
