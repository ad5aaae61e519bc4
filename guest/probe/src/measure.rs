//! How fast a disk is, the same program in our guest and under Linux: a line `row <name> <operations> <nanoseconds>` for
//! each way to use it.

use std::io;
use std::thread;
use std::time::Instant;

use hermitage_runtime::volume;
use redb::{Database, TableDefinition};

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Bytes of the disk that are used. They are written first: to find room is not what is measured.
const REGION: u64 = 32 << 20;
const BLOCKS: u64 = REGION / BLOCK as u64;
/// Bytes of a long access.
const LONG: usize = 256 * 1024;

const READS: u64 = 3000;
const WRITES: u64 = 2000;
const FLUSHES: u64 = 300;
const THREADS: u64 = 4;
const COMMITS: u64 = 200;

/// Rows of a few hundred bytes.
const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

/// What is measured.
pub trait Disk: Sync {
    /// Fills the buffer.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes the bytes.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes safe what was written.
    fn flush(&self) -> io::Result<()>;
}

/// Numbers that look random, the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn block(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % BLOCKS * BLOCK as u64
    }
}

/// A piece of memory as disks want it that read and write past all caches: it begins at a page.
fn aligned(length: usize) -> &'static mut [u8] {
    let memory = vec![0x5a; length + BLOCK].leak();
    let skipped = memory.as_ptr().align_offset(BLOCK);
    &mut memory[skipped..][..length]
}

fn row(name: &str, operations: u64, mut operate: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    timed(name, operations, || (0..operations).try_for_each(&mut operate))
}

/// The same for operations that are done all together.
fn timed(name: &str, operations: u64, operate: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let begin = Instant::now();
    operate()?;
    println!("row {name} {operations} {}", begin.elapsed().as_nanos());
    Ok(())
}

/// Measures a disk, whose content is lost.
pub fn disk(disk: &impl Disk) -> io::Result<()> {
    let (block, long) = (aligned(BLOCK), aligned(LONG));
    let sequential = |number: u64| number % BLOCKS * BLOCK as u64;
    let mut numbers = Numbers(88_172_645_463_325_252);
    for at in (0..REGION).step_by(LONG) {
        disk.write(long, at)?;
    }
    disk.flush()?;
    row("read-sequential", READS, |number| {
        disk.read(block, sequential(number))
    })?;
    row("read-random", READS, |_| disk.read(block, numbers.block()))?;
    row("write-sequential", WRITES, |number| {
        disk.write(block, sequential(number))
    })?;
    row("write-random", WRITES, |_| disk.write(block, numbers.block()))?;
    disk.flush()?;
    row("write-flush", FLUSHES, |_| {
        disk.write(block, numbers.block())?;
        disk.flush()
    })?;
    let longs = REGION / LONG as u64;
    row("read-long", longs, |number| disk.read(long, number * LONG as u64))?;
    row("write-long", longs, |number| {
        disk.write(long, number * LONG as u64)
    })?;
    timed("read-threads", READS, || {
        thread::scope(|scope| {
            let readers: Vec<_> = (1..=THREADS)
                .map(|seed| {
                    scope.spawn(move || {
                        let (block, mut numbers) = (aligned(BLOCK), Numbers(seed));
                        (0..READS / THREADS).try_for_each(|_| disk.read(block, numbers.block()))
                    })
                })
                .collect();
            let results = readers.into_iter().map(|reader| reader.join());
            results.map(|result| result.unwrap_or(Ok(()))).collect()
        })
    })
}

/// Measures a data base on a fresh volume: transactions of one row, each safe when it is done.
pub fn data_base(file: volume::File) -> Result<(), redb::Error> {
    let base = Database::builder()
        .set_cache_size(4 << 20)
        .create_with_backend(file)?;
    let commit = |key: u64| -> Result<(), redb::Error> {
        let write = base.begin_write()?;
        write.open_table(ROWS)?.insert(key, &[7; 200][..])?;
        Ok(write.commit()?)
    };
    commit(u64::MAX)?;
    row("redb-commit", COMMITS, |number| {
        commit(number).map_err(io::Error::other)
    })?;
    Ok(())
}
