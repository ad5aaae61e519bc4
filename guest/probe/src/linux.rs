//! What `cargo xtask bench volume` runs under Linux, as the first process of a machine that has nothing but it: the disk
//! past the page cache, the data base through it, as programs do.

#[path = "measure.rs"]
mod measure;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use hermitage_runtime::volume;

/// The disk.
const DEVICE: &str = "/dev/vda";

/// `O_DIRECT` of x86-64 (open(2)).
const DIRECT: i32 = 0o40000;

struct Direct(File);

impl measure::Disk for Direct {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn main() {
    if let Err(error) = run() {
        println!("error {error}");
    }
    println!("done");
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = OpenOptions::new();
    let device = options.read(true).write(true).custom_flags(DIRECT).open(DEVICE)?;
    measure::disk(&Direct(device))?;
    // A fresh volume begins with zeros. `HERMITAGE_VOLUMES` has a link to the device.
    OpenOptions::new()
        .write(true)
        .open(DEVICE)?
        .write_all_at(&[0; 4096], 0)?;
    Ok(measure::data_base(volume::File::open("bench")?)?)
}
