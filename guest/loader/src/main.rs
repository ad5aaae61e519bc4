//! The loader: from any way in to the kernel.
//!
//! It owns the machine from its first instruction in protected mode to the jump. [`boot`] is the whole story, in
//! order. Its pure parts are a library, tested on the host; `machine/` is all that touches hardware. It leaves
//! nothing behind but what `machine/handoff.rs` keeps for the kernel.
#![no_std]
#![no_main]

extern crate alloc;

mod machine;

use alloc::format;
use alloc::string::String;

use hermitage_boot::config::MAX_ENCODED;
use hermitage_boot::{DeviceAddress, FW_CFG_BOOT_CONFIG, Files};
use hermitage_erofs::reader::FileSystem;
use hermitage_loader::command::{self, Command, Source};
use hermitage_loader::device_tree::{self, Facts};
use hermitage_loader::disk::{Disk, Partition};
use hermitage_loader::error::Error;
use hermitage_loader::gpt::{self, Partitions};
use hermitage_loader::mmio;
use hermitage_loader::program;
use machine::fw_cfg::FwCfg;
use machine::heap::Room;
use machine::timeline::Timeline;
use machine::virtio::{BlockDevice, Devices};
use machine::{acpi, clock, end, entropy, handoff, interrupts, protocol};

/// From `entry.s`: `magic` says what `info` points to, `start` is the time-stamp counter at the start.
extern "C" fn main(magic: u32, info: u32, start: u64) -> ! {
    interrupts::install();
    match boot(magic, info, Timeline::new(start)) {
        Ok(kernel) => kernel.enter(),
        Err(error) => end::end(error.reason(), error),
    }
}

/// From the way in to a kernel that is ready to be entered. When it returns, the disk is reset and given up.
fn boot(magic: u32, info: u32, mut timeline: Timeline) -> Result<handoff::Entry, Error> {
    let told = protocol::read(magic, info)?;
    let mut room = Room::new(&told.memory)?;
    let (line, slots) = mmio::split(told.command_line);
    let given = given_command(line)?;
    timeline.done("memory map, command");

    let rsdp = told
        .rsdp
        .filter(|address| acpi::is_root(*address))
        .or_else(acpi::find_root);
    let devices = Devices::find(slots, rsdp)?;
    let mut disks = devices.disks();
    let (device, disk, partitions) = find_disk(&disks)?;
    disks.retain(|other| *other != device);
    timeline.done("disk");

    let command = match given {
        Some(command) => Some(command),
        None => Command::read(&Partition::new(&disk, partitions.boot_config))?,
    };
    let files = FileSystem::open(Partition::new(&disk, partitions.root))
        .map_err(|error| Error::FileSystem(String::from("partition `root`"), error))?;
    let no_role = || program::roles(&files).map(|roles| Error::NoRole { roles });
    let command = match command {
        Some(command) if !command.config.arguments.is_empty() => command,
        _ => return Err(no_role()?),
    };
    let role = command.role()?;
    let inode = program::find(&files, role)?;
    let file = room
        .take(inode.size())
        .ok_or_else(|| room.too_small(room.lacking(inode.size())))?;
    files
        .read(&inode, 0, file)
        .map_err(|error| Error::FileSystem(format!("/bin/{}", command::lossy(role)), error))?;
    timeline.done("program read");

    let program = program::check(role, file)?;
    let lacking = program
        .memory_lacking(&told.memory)
        .max(program.end.saturating_sub(room.end()));
    if lacking != 0 {
        return Err(room.too_small(lacking));
    }
    timeline.done("program checked");

    let tsc_khz = command.config.tsc_khz.unwrap_or_else(clock::khz);
    timeline.done("clock");

    let device_tree = device_tree::build(Facts {
        memory: told.memory.above(program.mapped_end()),
        boot_config: (handoff::keep_boot_config(&command.encoded), command.encoded.len()),
        files: Files {
            device,
            start: partitions.root.start,
            size: partitions.root.size,
        },
        other_disks: &disks,
        tsc_khz,
        verbose: command.config.verbose,
        address: command.config.address,
        name_servers: &command.config.name_servers,
        seed: &entropy::seed(&devices)?,
        rsdp,
        network_cards: &devices.network_cards(),
    });
    let kernel = handoff::load(&program, &device_tree, told.memory.end());
    timeline.done("program loaded");
    timeline.tell(&command.config, tsc_khz);
    Ok(kernel)
}

/// The boot configuration that came with this boot, as opposed to the one on the disk.
fn given_command(line: &[u8]) -> Result<Option<Command>, Error> {
    let file = FwCfg::open().and_then(|files| files.file(FW_CFG_BOOT_CONFIG, MAX_ENCODED));
    let command = file
        .map(|bytes| Command::decode(Source::FwCfg, bytes))
        .transpose()?
        .flatten();
    match command {
        Some(command) => Ok(Some(command)),
        None => Command::from_line(line),
    }
}

/// The first disk with an image on it, and where it is.
fn find_disk(disks: &[DeviceAddress]) -> Result<(DeviceAddress, Disk<BlockDevice>, Partitions), Error> {
    let mut failure = Error::NoDisk;
    for address in disks {
        let error = match BlockDevice::open(*address).map(Disk::new) {
            None => Error::UnusableDisk,
            Some(disk) => match gpt::find(&disk) {
                Ok(partitions) => return Ok((*address, disk, partitions)),
                Err(error) => Error::NoImage(error),
            },
        };
        // What is said is what is wrong with the first disk.
        if matches!(failure, Error::NoDisk) {
            failure = error;
        }
    }
    Err(failure)
}
