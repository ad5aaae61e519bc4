//! The properties of volumes. What each one does stands beside its name in `main`.

use std::io;
use std::thread;
use std::time::Instant;

use hermitage_runtime::{Volume, volume};
use redb::{Database, ReadableTableMetadata, TableDefinition};

use crate::measure;

/// Bytes that each thread writes at a time: neither sectors nor pages.
const PIECE: usize = 10_007;
const SECTOR: usize = 512;
const THREADS: u64 = 4;
const PIECES: u64 = 50;

pub fn keep(label: &str) {
    let volume = Volume::open(label).unwrap();
    let mut first = [0];
    volume.read_at(&mut first, 0).unwrap();
    let turn = first[0];
    println!("{} bytes, turn {turn}", volume.len());
    let begin = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let volume = &volume;
            scope.spawn(move || {
                let mut read = vec![0; PIECE];
                for piece in 0..PIECES {
                    let offset = 1 + (thread * PIECES + piece) * PIECE as u64;
                    let value = (thread * 31 + piece) as u8;
                    volume.read_at(&mut read, offset).unwrap();
                    let expected = if turn == 0 { 0 } else { value.wrapping_add(turn) };
                    assert!(read.iter().all(|byte| *byte == expected), "piece {piece}");
                    read.fill(value.wrapping_add(turn + 1));
                    volume.write_at(&read, offset).unwrap();
                }
            });
        }
    });
    any_memory(&volume);
    volume.write_at(&[turn + 1], 0).unwrap();
    volume.flush().unwrap();
    eprintln!("{:?}", begin.elapsed());
    assert!(Volume::open(label).is_err(), "it is open already");
}

/// Whole sectors go to and from memory that is anywhere, and of any length.
fn any_memory(volume: &Volume) {
    const LENGTH: usize = 5 << 20;
    let start = volume.len() - LENGTH as u64;
    let bytes: Vec<u8> = (0..LENGTH + 7).map(|at| (at % 251) as u8).collect();
    let mut read = vec![0; LENGTH + 3];
    volume.write_at(&bytes[7..], start).unwrap();
    volume.read_at(&mut read[3..], start).unwrap();
    assert!(read[3..] == bytes[7..]);
    // None of many requests is forgotten, however close they follow each other.
    for _ in 0..600 {
        volume.read_at(&mut read[3..][..LONG], start).unwrap();
    }
    assert!(read[3..] == bytes[7..]);
    let mut on_stack = [0; 9 * SECTOR + 1];
    volume.read_at(&mut on_stack[1..], start).unwrap();
    assert!(on_stack[1..] == bytes[7..][..9 * SECTOR]);
    static IN_PROGRAM: [u8; 5 * SECTOR] = [7; 5 * SECTOR];
    volume.write_at(&IN_PROGRAM, start).unwrap();
    volume.read_at(&mut on_stack[1..], start).unwrap();
    assert!(on_stack[1..][..5 * SECTOR] == IN_PROGRAM);
}

const ROWS: TableDefinition<'_, u64, u64> = TableDefinition::new("rows");

pub fn rows(label: &str, count: u64) {
    let file = volume::File::open(label).unwrap();
    let base = Database::builder()
        .set_cache_size(4 << 20)
        .create_with_backend(file)
        .unwrap();
    let mut next = 0;
    let end = if count == 0 { u64::MAX } else { count };
    for turn in 0..end {
        let write = base.begin_write().unwrap();
        {
            let mut rows = write.open_table(ROWS).unwrap();
            if turn == 0 {
                next = rows.len().unwrap();
                println!("found {next}");
            }
            rows.insert(next, next).unwrap();
        }
        write.commit().unwrap();
        next += 1;
        println!("safe {next}");
    }
}

const PICTURES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pictures");

pub fn exhaust(label: &str, most: u64) {
    let open = || {
        let file = volume::File::open(label).unwrap();
        let builder = Database::builder()
            .set_cache_size(4 << 20)
            .create_with_backend(file);
        builder.unwrap()
    };
    let picture = |key: u64| vec![key as u8; 64 << 10];
    let put = |base: &Database, key| -> Result<(), redb::Error> {
        let write = base.begin_write()?;
        write.open_table(PICTURES)?.insert(key, picture(key).as_slice())?;
        Ok(write.commit()?)
    };
    let check = |base: &Database| {
        let read = base.begin_read().unwrap();
        let Ok(pictures) = read.open_table(PICTURES) else {
            return 0;
        };
        let count = pictures.len().unwrap();
        for key in 0..count {
            let found = pictures.get(key).unwrap();
            assert!(found.unwrap().value() == picture(key), "row {key}");
        }
        count
    };
    let mut base = open();
    let mut safe = check(&base);
    println!("found {safe}");
    while safe < most {
        if let Err(error) = put(&base, safe) {
            println!("{safe} and no more: {error}");
            drop(base);
            assert_eq!(check(&open()), safe);
            return;
        }
        safe += 1;
    }
    let write = base.begin_write().unwrap();
    write.open_table(PICTURES).unwrap().retain(|_, _| false).unwrap();
    write.commit().unwrap();
    base.compact().unwrap();
    println!("{safe}, and empty again");
}

pub fn blocks(label: &str) {
    const BLOCK: usize = 4096;
    let volume = Volume::open(label).unwrap();
    let block = |number: u64| ([number as u8 + 1; BLOCK], number * BLOCK as u64);
    for (bytes, offset) in (0..8).map(block) {
        let written = volume.write_at(&bytes, offset);
        println!("write {}: {}", bytes[0], word(written.is_ok()));
        println!("flush {}: {}", bytes[0], word(volume.flush().is_ok()));
    }
    for (bytes, offset) in (0..8).map(block) {
        let mut read = [0; BLOCK];
        match volume.read_at(&mut read, offset) {
            Ok(()) if read != bytes => println!("read {}: other", bytes[0]),
            read => println!("read {}: {}", bytes[0], word(read.is_ok())),
        }
    }
}

fn word(done: bool) -> &'static str {
    if done { "done" } else { "failed" }
}

impl measure::Disk for Volume {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        Volume::flush(self)
    }
}

pub fn measure(label: &str) {
    let volume = Volume::open(label).unwrap();
    measure::disk(&volume).unwrap();
    // A fresh volume begins with zeros.
    volume.write_at(&[0; 4096], 0).unwrap();
    measure::data_base(volume::File::on(volume).unwrap()).unwrap();
    println!("done");
}

/// What [`fill`] writes, and where: a fresh volume's first page stays as it is.
const FILLED: std::ops::Range<u64> = 4096..4096 + (32 << 20);
const LONG: usize = 1 << 20;

pub fn fill(label: &str) {
    let volume = Volume::open(label).unwrap();
    for offset in FILLED.step_by(LONG) {
        volume.write_at(&[0x5a; LONG], offset).unwrap();
    }
    volume.flush().unwrap();
}

pub fn discard(label: &str) {
    let volume = Volume::open(label).unwrap();
    let read = |offset| {
        let mut sector = [1; SECTOR];
        volume.read_at(&mut sector, offset).unwrap();
        sector
    };
    // All but a byte at each end, so that the sectors of the ends stay.
    let (first, last) = (FILLED.start, FILLED.end - SECTOR as u64);
    volume.discard(first + 1, FILLED.end - FILLED.start - 2).unwrap();
    volume.flush().unwrap();
    assert!(read(first) == [0x5a; SECTOR] && read(last) == [0x5a; SECTOR]);
    for offset in (first + SECTOR as u64..last).step_by(LONG) {
        let sector = read(offset);
        assert!(sector == [0; SECTOR] || sector == [0x5a; SECTOR], "{offset}");
    }
    // It can be written again.
    volume.write_at(&[3; SECTOR], first + LONG as u64).unwrap();
    assert_eq!(read(first + LONG as u64), [3; SECTOR]);
}

pub fn fill_file(label: &str) {
    let file = volume::File::open(label).unwrap();
    let length = FILLED.end - FILLED.start;
    file.set_len(length).unwrap();
    for offset in (0..length).step_by(LONG) {
        file.write_at(&[0x6b; LONG], offset).unwrap();
    }
    file.flush().unwrap();
}

pub fn shorten(label: &str) {
    let file = volume::File::open(label).unwrap();
    file.set_len(10_001).unwrap();
    let mut last = [0; 2];
    file.read_at(&mut last, 9_999).unwrap();
    assert_eq!(last, [0x6b; 2]);
}

pub fn attempt(label: &str) {
    let done = Volume::open(label).and_then(|volume| {
        volume.write_at(&[1; 512], 0)?;
        volume.flush()
    });
    match done {
        Ok(()) => println!("written"),
        Err(error) => println!("{:?}: {error}", error.kind()),
    }
}
