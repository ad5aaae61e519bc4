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
