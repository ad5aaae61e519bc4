//! How fast a candidate is by the CPU's time, how much it writes, and how much memory it takes, on a volume of 1 GiB.

use rustix::time::{ClockId, clock_gettime};

use crate::disk::{Disk, Random};
use crate::memory;
use crate::report::Report;
use crate::systems::{Result, System};

const VOLUME: u64 = 1 << 30;
const LARGE: u64 = 256 << 20;
const PIECE: usize = 64 * 1024;
const BLOCK: usize = 4096;
const SMALL: usize = 1000;
const MANY: usize = 10_000;

/// When a row has taken so many seconds, the rest of it is left out, and it is told by what was done.
const PATIENCE: f64 = 30.0;

/// Seconds that the CPU has worked for this process, for its writes to the file that the disk is, too: whatever else the
/// machine does. What a flush costs on a real disk is not among them; flushes are counted.
fn seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Does something up to `count` times: how often, and in how many seconds.
fn repeat(count: usize, mut work: impl FnMut(usize) -> Result<()>) -> Result<(usize, f64)> {
    let begin = seconds();
    for number in 0..count {
        work(number)?;
        if seconds() - begin > PATIENCE {
            return Ok((number + 1, (seconds() - begin)));
        }
    }
    Ok((count, (seconds() - begin)))
}

fn rate(report: &Report, name: &str, (count, seconds): (usize, f64)) {
    report.row(name, format!("{:.0}", count as f64 / seconds));
}

pub fn speed<S: System>(report: &Report) -> Result<()> {
    let disk = Disk::in_file(VOLUME);
    memory::begin();
    S::format(&disk)?;
    let begin = seconds();
    let mut system = S::mount(&disk)?;
    report.row(
        "mount of an empty volume, ms",
        format!("{:.1}", (seconds() - begin) * 1e3),
    );

    let before = disk.counted();
    let done = repeat(SMALL, |number| {
        let file = system.open(&format!("/small{number}"), true)?;
        system.write(file, 0, &[number as u8; BLOCK])?;
        system.close(file)?;
        system.sync()
    })?;
    rate(report, "small files made, 4 KiB, synced, per s", done);
    let after = disk.counted();
    let each = |all: u64| all as f64 / done.0 as f64;
    report.row(
        "small file: KiB written",
        format!("{:.0}", each(after.written - before.written) / 1024.0),
    );
    report.row(
        "small file: flushes",
        format!("{:.1}", each(after.flushes - before.flushes)),
    );

    large(&mut system, &disk, report)?;

    system.make_directory("/many")?;
    let done = repeat(MANY, |number| {
        let file = system.open(&format!("/many/{number}"), true)?;
        system.close(file)?;
        if number % 1000 == 999 {
            system.sync()
        } else {
            Ok(())
        }
    })?;
    rate(report, "files made in one directory, per s", done);
    let there = done.0;
    let mut random = Random(2);
    let done = repeat(MANY, |_| {
        system.exists(&format!("/many/{}", random.below(there))).map(drop)
    })?;
    rate(report, &format!("looked up among {MANY}, per s"), done);
    if there < MANY {
        report.row("of 10000, made in 30 s", there);
    }
    let done = repeat(SMALL, |number| {
        system.rename(&format!("/small{number}"), &format!("/many/renamed{number}"))?;
        system.sync()
    })?;
    rate(report, "renamed, synced, per s", done);
    let done = repeat(done.0, |number| {
        system.remove(&format!("/many/renamed{number}"))?;
        system.sync()
    })?;
    rate(report, "removed, synced, per s", done);
    let most = memory::most();
    drop(system);
    memory::begin();
    let begin = seconds();
    let system = S::mount(&disk)?;
    report.row(
        "mount of the used volume, ms",
        format!("{:.1}", (seconds() - begin) * 1e3),
    );
    drop(system);
    report.row("most memory, MiB", format!("{:.1}", most as f64 / 1048576.0));
    report.row(
        "most memory of the mount, MiB",
        format!("{:.1}", memory::most() as f64 / 1048576.0),
    );
    Ok(())
}

fn large<S: System>(system: &mut S, disk: &Disk, report: &Report) -> Result<()> {
    let megabytes = |(count, seconds): (usize, f64), piece: usize| {
        format!("{:.0}", (count * piece) as f64 / seconds / 1e6)
    };
    let file = system.open("/large", true)?;
    let mut piece = vec![0; PIECE];
    let mut random = Random(1);
    piece.fill_with(|| random.below(256) as u8);
    let pieces = LARGE as usize / PIECE;
    let done = repeat(pieces, |number| {
        piece[0] = number as u8;
        system.write(file, (number * PIECE) as u64, &piece)?;
        if number == pieces - 1 {
            system.sync()
        } else {
            Ok(())
        }
    })?;
    report.row("large file, 256 MiB: written, MB/s", megabytes(done, PIECE));
    system.sync()?;
    let length = done.0;
    let done = repeat(length, |number| {
        system.read(file, (number * PIECE) as u64, &mut piece).map(drop)
    })?;
    report.row("large file: read, MB/s", megabytes(done, PIECE));
    let before = disk.counted();
    let blocks = length * PIECE / BLOCK;
    let done = repeat(3000, |number| {
        let offset = random.below(blocks) * BLOCK;
        system.write(file, offset as u64, &piece[..BLOCK])?;
        if number % 10 == 9 { system.sync() } else { Ok(()) }
    })?;
    rate(report, "large file: 4 KiB overwritten anywhere, per s", done);
    let written = disk.counted().written - before.written;
    report.row(
        "overwrite: KiB written",
        format!("{:.0}", written as f64 / done.0 as f64 / 1024.0),
    );
    system.close(file)
}
