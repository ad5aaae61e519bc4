use std::fs;
use std::path::Path;
use std::thread;

use super::*;

/// Bytes of the volumes here.
const LEN: usize = 64 * 1024;

fn volume(path: &Path) -> io::Result<Volume> {
    Ok(Volume {
        disk: Disk::at(path)?,
        parts: Mutex::new(()),
    })
}

fn file(path: &Path) -> io::Result<File> {
    File::on(volume(path)?)
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn with(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("v.raw"), content).unwrap();
        Self { folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("v.raw")
    }
}

/// Numbers that look random, the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn accesses_of_any_place_and_length_are_those_of_memory() {
    let place = Place::with(&[0; LEN]);
    let volume = volume(&place.path()).unwrap();
    let mut memory = vec![0; LEN];
    let mut numbers = Numbers(88_172_645_463_325_252);
    for step in 0..3000 {
        let offset = numbers.below(LEN as u64) as usize;
        let length = (numbers.below(3000) as usize).min(LEN - offset);
        if step % 3 == 0 {
            let mut read = vec![1; length];
            volume.read_at(&mut read, offset as u64).unwrap();
            assert_eq!(read, memory[offset..][..length]);
        } else {
            let byte = numbers.below(256) as u8;
            memory[offset..][..length].fill(byte);
            volume.write_at(&vec![byte; length], offset as u64).unwrap();
        }
    }
    volume.flush().unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), memory);
}

#[test]
fn writers_of_parts_of_a_sector_do_not_disturb_each_other() {
    let place = Place::with(&[0; LEN]);
    let volume = volume(&place.path()).unwrap();
    thread::scope(|scope| {
        for part in 0..8_u8 {
            let volume = &volume;
            scope.spawn(move || {
                for turn in 1..=200 {
                    volume.write_at(&[turn; 64], u64::from(part) * 64).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read(place.path()).unwrap()[..SECTOR], [200; SECTOR]);
}

#[test]
fn what_lies_beyond_its_end_is_neither_read_nor_written() {
    let place = Place::with(&[0; LEN]);
    let volume = volume(&place.path()).unwrap();
    for offset in [LEN as u64 - 1, LEN as u64, u64::MAX] {
        let error = volume.read_at(&mut [0; 2], offset).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let error = volume.write_at(&[1; 2], offset).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(fs::read(place.path()).unwrap(), [0; LEN]);
}

#[test]
fn has_one_writer_at_a_time() {
    let place = Place::with(&[0; LEN]);
    let first = volume(&place.path()).unwrap();
    let error = volume(&place.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    drop(first);
    volume(&place.path()).unwrap();
}

#[test]
fn what_is_discarded_takes_no_room() {
    use std::os::unix::fs::MetadataExt as _;

    let place = Place::with(&[7; LEN]);
    let volume = volume(&place.path()).unwrap();
    let before = fs::metadata(place.path()).unwrap().blocks();
    volume.discard(1, LEN as u64 - 2).unwrap();
    let content = fs::read(place.path()).unwrap();
    assert!(
        content[..SECTOR].iter().all(|byte| *byte == 7),
        "a part of a sector"
    );
    assert!(content[LEN - SECTOR..].iter().all(|byte| *byte == 7));
    assert!(fs::metadata(place.path()).unwrap().blocks() < before / 2);
    assert_eq!(content.len(), LEN);
    let error = volume.discard(1, LEN as u64).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_volume_that_got_larger_is_larger_at_once() {
    let place = Place::with(&[0; LEN]);
    let volume = volume(&place.path()).unwrap();
    assert!(volume.write_at(&[1], LEN as u64).is_err());
    let file = fs::OpenOptions::new().write(true).open(place.path()).unwrap();
    file.set_len(2 * LEN as u64).unwrap();
    volume.write_at(&[1], LEN as u64).unwrap();
    assert_eq!(volume.len(), 2 * LEN as u64);
}

#[test]
fn a_file_is_as_it_was_left() {
    let place = Place::with(&[0; LEN]);
    let first = file(&place.path()).unwrap();
    assert!(first.is_empty());
    first.set_len(1000).unwrap();
    first.write_at(b"kept", 996).unwrap();
    let error = first.write_at(b"more", 997).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = first.set_len(LEN as u64).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    first.flush().unwrap();
    drop(first);
    let again = file(&place.path()).unwrap();
    assert_eq!(again.len(), 1000);
    let mut kept = [0; 4];
    again.read_at(&mut kept, 996).unwrap();
    assert_eq!(&kept, b"kept");
}

#[test]
fn a_file_that_gets_shorter_takes_less_room() {
    use std::os::unix::fs::MetadataExt as _;

    let place = Place::with(&[0; LEN]);
    let file = file(&place.path()).unwrap();
    file.set_len(LEN as u64 - 4096).unwrap();
    file.write_at(&[7; LEN - 4096], 0).unwrap();
    file.flush().unwrap();
    let before = fs::metadata(place.path()).unwrap().blocks();
    file.set_len(10_000).unwrap();
    assert!(fs::metadata(place.path()).unwrap().blocks() < before / 2);
    let mut kept = [0; 10_000];
    file.read_at(&mut kept, 0).unwrap();
    assert_eq!(kept, [7; 10_000]);
    file.set_len(LEN as u64 - 4096).unwrap();
    file.write_at(&[8; 1000], 20_000).unwrap();
    file.read_at(&mut kept[..1000], 20_000).unwrap();
    assert_eq!(kept[..1000], [8; 1000]);
}

#[test]
fn what_is_not_ours_cut_off_or_damaged_is_refused_and_left_alone() {
    let place = Place::with(&[0; LEN]);
    let whole = file(&place.path()).unwrap();
    whole.set_len(30_000).unwrap();
    whole.write_at(&[7; 30_000], 0).unwrap();
    drop(whole);
    let whole = fs::read(place.path()).unwrap();
    // Each byte of the header that says something, and one that says nothing.
    let damaged = [0, 8, 12, 16, 19, 100, SECTOR - 1].map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    });
    let others = [[b'x'; LEN].to_vec(), whole[..32 * 1024].to_vec(), vec![0; 4096]];
    for content in damaged.into_iter().chain(others) {
        let place = Place::with(&content);
        let error = file(&place.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(fs::read(place.path()).unwrap() == content);
    }
}

#[cfg(feature = "redb")]
#[test]
fn a_data_base_outlives_its_program() {
    use redb::{Database, ReadableTableMetadata as _, TableDefinition};

    const ROWS: TableDefinition<'_, u64, u64> = TableDefinition::new("rows");
    let place = Place::with(&[0; 4 << 20]);
    for turn in 1..=3 {
        let base = Database::builder()
            .create_with_backend(file(&place.path()).unwrap())
            .unwrap();
        let write = base.begin_write().unwrap();
        {
            let mut rows = write.open_table(ROWS).unwrap();
            assert_eq!(rows.len().unwrap(), (turn - 1) * 1000);
            for row in 0..1000 {
                rows.insert((turn - 1) * 1000 + row, row).unwrap();
            }
        }
        write.commit().unwrap();
    }
}
