//! The loader: from any way in to the kernel.
//!
//! It owns the machine from its first instruction in protected mode to the jump. [`boot`] is the whole story, in
//! order. Its pure parts are a library, tested on the host; `machine/` is all that touches hardware. It leaves
//! nothing behind but what `machine/handoff.rs` keeps for the kernel.
#![no_std]
#![no_main]

extern crate alloc;

mod machine;

use core::fmt::Write as _;

use hermitage_boot::config::MAX_ENCODED;
use hermitage_boot::control::mark;
use hermitage_boot::{BootConfig, FW_CFG_BOOT_CONFIG, Record};
use hermitage_erofs::reader::{FileSystem, ReadAt};
use hermitage_loader as loader;
use loader::command::{self, Source};
use loader::device_tree::{self, Facts};
use loader::disk::{Disk, Partition};
use loader::error::Error;
use loader::{gpt, program};
use machine::fw_cfg::FwCfg;
use machine::handoff;
use machine::heap::Room;
use machine::uart::Uart;
use machine::virtio::BlockDevice;
use machine::{acpi, clock, end, entropy, interrupts, protocol, virtio};

/// From `entry.s`: `magic` says what `info` points to, `start` is the time-stamp counter at the start.
extern "C" fn main(magic: u32, info: u32, start: u64) -> ! {
    interrupts::install();
    match boot(magic, info, start) {
        Ok(entry) => entry.enter(),
        Err(error) => end::end(error.into()),
    }
}

fn boot(magic: u32, info: u32, start: u64) -> Result<handoff::Entry, Error> {
    let told = protocol::read(magic, info)?;
    let mut room = Room::new(&told.memory)?;
    let command_line = told.command_line.to_vec();

    let given = match FwCfg::open().and_then(|files| files.file(FW_CFG_BOOT_CONFIG, MAX_ENCODED)) {
        Some(bytes) => command::decode(Source::FwCfg, &bytes)?,
        None => None,
    };
    let given = match given {
        Some(config) => Some(config),
        None => command::from_command_line(&command_line)?,
    };

    let disk = find_disk()?;
    let partitions = gpt::find(&disk).map_err(|error| Error::NoImage(alloc::format!("{error}")))?;
    let config = match given {
        Some(config) => config,
        None => read_config(&partitions.boot_config)?,
    };
    let trace = Trace { on: config.trace };
    trace.mark(mark::LOADER, start);

    let files = FileSystem::open(partitions.root)
        .map_err(|error| Error::FileSystem(alloc::string::String::from("partition `root`"), error))?;
    let role = match command::role(&config) {
        Err(Error::NoRole { .. }) => {
            return Err(Error::NoRole {
                roles: program::roles(&files)?,
            });
        }
        role => role?,
    };
    let inode = program::find(&files, role)?;
    let too_small = |need| Error::Memory {
        have: told.memory.total(),
        need,
    };
    let need = program::KERNEL_BASE + 2 * inode.size() + (2 << 20);
    let file = room
        .take(inode.size(), program::KERNEL_BASE)
        .ok_or_else(|| too_small(need))?;
    files
        .read(&inode, 0, file)
        .map_err(|error| Error::FileSystem(alloc::format!("/bin/{}", command::lossy(role)), error))?;
    let program = program::check(role, file)?;
    let kernel_end = handoff::kernel_end(&program);
    if kernel_end > room.end() {
        return Err(too_small(
            kernel_end + told.memory.total().saturating_sub(room.end()),
        ));
    }

    let encoded = config
        .encode()
        .map_err(|error| Error::CommandTooLarge(alloc::format!("{error}")))?;
    let rsdp = told
        .rsdp
        .filter(|address| acpi::is_root(*address))
        .or_else(acpi::find_root)
        .ok_or(Error::NoAcpi)?;
    let tsc_khz = config.tsc_khz.unwrap_or_else(clock::khz);
    trace.write(&Record::Khz(tsc_khz));
    let facts = Facts {
        memory: told.memory.above(kernel_end),
        boot_config: (handoff::keep_boot_config(&encoded), encoded.len()),
        tsc_khz,
        verbose: config.verbose,
        seed: &entropy::seed()?,
        rsdp,
    };
    let tree = device_tree::build(facts).map_err(|_| Error::NoAcpi)?;
    let memory_end = told.memory.regions().last().map_or(0, |region| region.end);
    let entry = handoff::load(&program, &tree, memory_end);
    trace.mark(mark::KERNEL, clock::now());
    Ok(entry)
}

/// The first disk with an image on it.
fn find_disk() -> Result<Disk<BlockDevice>, Error> {
    let mut failure = Error::NoDisk;
    for device in virtio::disks() {
        let disk = Disk::new(device);
        match gpt::find(&disk) {
            Ok(_) => return Ok(disk),
            Err(error) if matches!(failure, Error::NoDisk) => {
                failure = Error::NoImage(alloc::format!("{error}"))
            }
            Err(_) => {}
        }
    }
    Err(failure)
}

/// The configuration in the disk's partition; an empty one if there is none.
fn read_config(partition: &Partition<'_, Disk<BlockDevice>>) -> Result<BootConfig, Error> {
    let length = partition.size().min(MAX_ENCODED as u64) as usize;
    let mut bytes = alloc::vec![0; length];
    partition.read_at(0, &mut bytes)?;
    Ok(command::decode(Source::Disk, &bytes)?.unwrap_or_default())
}

/// Time marks on the control channel, if they are asked for.
struct Trace {
    on: bool,
}

impl Trace {
    fn mark(&self, name: &str, tsc: u64) {
        self.write(&Record::Mark {
            name: name.into(),
            tsc,
        });
    }

    fn write(&self, record: &Record) {
        if self.on {
            let _ = write!(Uart::control(), "{record}");
        }
    }
}
