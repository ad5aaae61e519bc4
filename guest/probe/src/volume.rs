//! The properties of volumes. What each one does stands beside its name in `main`.

use std::io;
use std::thread;
use std::time::Instant;

use hermitage_runtime::{Volume, volume};
use redb::{Database, ReadableTableMetadata, TableDefinition};

use crate::measure;

/// Bytes that each thread writes at a time: neither sectors nor pages.
const PIECE: usize = 10_007;
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
    volume.write_at(&[turn + 1], 0).unwrap();
    volume.flush().unwrap();
    eprintln!("{:?}", begin.elapsed());
    assert!(Volume::open(label).is_err(), "it is open already");
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
