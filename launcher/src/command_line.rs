//! The command line of QEMU, as a value: a pure function of [`MachineSpec`].
//!
//! QEMU is run in the instance's folder, so the names of its files are short; values are escaped in one place,
//! [`options`].
//!
//! Tuned for a fast boot: no default devices, no display, no option ROM for the network card (together 15 ms of 68
//! until the guest's first instruction), qboot in place of the BIOS where nothing is read from the disk by it.

mod options;

use std::fmt;
use std::os::fd::RawFd;

use hermitage_boot::{DEBUG_EXIT_PORT, FW_CFG_BOOT_CONFIG};

use crate::accelerator::Accelerator;
use crate::cpu::CpuModel;
use crate::forward::Forward;
use crate::network::lan::{self, Card, Lan};
use crate::network::subnet::UserSubnet;
use crate::network::{Link, Mover, TapSource};
use crate::qemu::QBOOT;
use crate::spec::{Entry, Firmware, MachineSpec, MachineType};
use crate::volume::{Disk, Format};
use options::Options;

/// The program that is run.
pub const QEMU: &str = "qemu-system-x86_64";

/// Files of an instance, relative to its folder, where QEMU runs.
pub mod file {
    /// The instance's disk: an overlay of the image.
    pub const DISK: &str = "disk.qcow2";
    /// The image's loader, for [`Entry::Direct`](crate::Entry::Direct).
    pub const LOADER: &str = "loader.elf";
    /// The encoded boot configuration, for [`Entry::Direct`](crate::Entry::Direct).
    pub const BOOT_CONFIG: &str = "boot-config.bin";
    /// What QEMU itself has to say.
    pub const QEMU: &str = "qemu.log";
}

/// What QEMU inherits. Inherited Unix sockets have no path that could be too long, no one can connect to them, and they
/// end by themselves when QEMU or the launcher does; a tap device of ours likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The control channel, a socket.
    pub control: RawFd,
    /// QEMU's machine protocol (QMP), a socket.
    pub monitor: RawFd,
    /// The other end of the network card: a tap device of ours, or a socket of a rootless LAN.
    pub card: Option<RawFd>,
}

impl Descriptors {
    /// Examples, for a command line that is only to be looked at.
    pub const EXAMPLES: Self = Self {
        control: 3,
        monitor: 4,
        card: Some(5),
    };
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    arguments: Vec<String>,
}

impl CommandLine {
    /// The command line for a machine.
    #[must_use]
    pub fn new(spec: &MachineSpec, descriptors: Descriptors) -> Self {
        let mut line = Self { arguments: vec![] };
        // -S: the guest starts when the monitor says so.
        line.flags(&["-no-user-config", "-nodefaults", "-no-reboot", "-S"]);
        line.option("-display", Options::of("none"));
        line.option("-name", Options::of(spec.name.as_str()));
        line.processor(spec);
        line.consoles(spec, descriptors);
        line.disks(spec);
        line.network(spec, descriptors.card);
        if spec.entropy_device {
            line.device(spec, "virtio-rng", |device| device);
        }
        if let Some(port) = spec.gdb_port {
            line.option("-gdb", Options::of(&format!("tcp:127.0.0.1:{port}")));
        }
        line.arguments.extend_from_slice(&spec.qemu_arguments);
        line
    }

    /// The arguments, without the program.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    fn flags(&mut self, flags: &[&str]) {
        self.arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    }

    fn option(&mut self, name: &str, value: Options) {
        self.arguments.extend([name.to_owned(), value.text]);
    }

    /// A virtio device, in the form that the machine has.
    fn device(&mut self, spec: &MachineSpec, name: &str, with: impl FnOnce(Options) -> Options) {
        let bus = match spec.machine {
            MachineType::Pc | MachineType::Q35 => "pci",
            MachineType::Microvm => "device",
        };
        self.option("-device", with(Options::of(&format!("{name}-{bus}"))));
    }

    fn processor(&mut self, spec: &MachineSpec) {
        let machine = match spec.machine {
            MachineType::Pc => Options::of("pc"),
            MachineType::Q35 => Options::of("q35"),
            MachineType::Microvm => Options::of("microvm").with("acpi", "on").with("rtc", "on"),
        };
        if spec.link.shares_memory() {
            self.option("-machine", machine.with("memory-backend", "memory"));
            let memory = Options::of("memory-backend-memfd").with("id", "memory");
            self.option("-object", memory.with("size", spec.memory).with("share", "on"));
        } else {
            self.option("-machine", machine);
        }
        if spec.machine == MachineType::Microvm {
            // The virtio of 2016 and later, which loader and kernel speak.
            self.option("-global", Options::of("virtio-mmio.force-legacy=false"));
        }
        match spec.firmware {
            Firmware::Bios => {}
            Firmware::Qboot => self.option("-bios", Options::of(QBOOT)),
        }
        let (accelerator, cpu) = match spec.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg", "max"),
        };
        self.option("-accel", Options::of(accelerator));
        // A model's own options stand behind commas: it is QEMU's notation, not a value in it.
        let model = spec.cpu_model.as_ref().map_or(cpu, CpuModel::as_str);
        self.arguments.extend(["-cpu".to_owned(), model.to_owned()]);
        self.option("-m", Options::of(&spec.memory.to_string()));
        self.option("-smp", Options::of(&spec.cpus.to_string()));
    }

    /// Console and control channel: the first and the second serial port.
    fn consoles(&mut self, spec: &MachineSpec, descriptors: Descriptors) {
        let console = Options::of("stdio").with("id", "console").with("signal", "off");
        self.option("-chardev", console);
        self.option("-serial", Options::of("chardev:console"));
        let control = Options::of("socket")
            .with("id", "control")
            .with("fd", descriptors.control);
        self.option("-chardev", control);
        match spec.machine {
            MachineType::Pc | MachineType::Q35 => self.option("-serial", Options::of("chardev:control")),
            // It has one serial port by itself.
            MachineType::Microvm => {
                let port = Options::of("isa-serial").with("chardev", "control");
                self.option("-device", port.with("index", 1));
            }
        }
        let monitor = Options::of("socket")
            .with("id", "monitor")
            .with("fd", descriptors.monitor);
        self.option("-chardev", monitor);
        self.option("-mon", Options::of("monitor").with("mode", "control"));
        let exit = Options::of("isa-debug-exit")
            .with("iobase", format_args!("{DEBUG_EXIT_PORT:#x}"))
            .with("iosize", "0x4");
        self.option("-device", exit);
    }

    fn disks(&mut self, spec: &MachineSpec) {
        if spec.entry == Entry::Direct {
            self.option("-kernel", Options::of(file::LOADER));
            let boot = Options::of("").with("name", FW_CFG_BOOT_CONFIG);
            self.option("-fw_cfg", boot.with("file", file::BOOT_CONFIG));
        }
        self.drive("disk", file::DISK, Format::Qcow2, false);
        self.disk(spec, "disk", |disk| match spec.entry {
            Entry::Direct => disk,
            Entry::Disk => disk.with("bootindex", 0),
        });
        for (at, volume) in spec.volumes.iter().enumerate() {
            let Disk {
                label,
                file,
                format,
                read_only,
            } = volume;
            let id = volume_id(at);
            self.drive(&id, file.display(), *format, *read_only);
            self.disk(spec, &id, |disk| disk.with("serial", label));
        }
    }

    fn drive(&mut self, id: &str, file: impl fmt::Display, format: Format, read_only: bool) {
        let drive = Options::of("")
            .with("if", "none")
            .with("id", id)
            .with("file", file)
            .with("format", format.name())
            // What a guest gives back takes no room any more.
            .with("discard", "unmap");
        let drive = if read_only {
            drive.with("read-only", "on")
        } else {
            drive
        };
        self.option("-drive", drive);
    }

    /// A disk in the guest. When the host's disk is full QEMU stops the guest, and whoever runs it lets it go on when there
    /// is room ([`crate::lifecycle`]): a virtio disk could say no more than that it is broken. All other errors the guest
    /// is told.
    fn disk(&mut self, spec: &MachineSpec, drive: &str, with: impl FnOnce(Options) -> Options) {
        self.device(spec, "virtio-blk", |device| {
            let disk = device.with("drive", drive);
            with(disk.with("werror", "enospc").with("rerror", "report"))
        });
    }

    fn network(&mut self, spec: &MachineSpec, card: Option<RawFd>) {
        let netdev = match &spec.link {
            // In its own notation already.
            Link::Qemu(netdev) => Options {
                text: format!("{netdev},id=net"),
            },
            Link::User(subnet) => user_network(subnet.as_ref(), &spec.forwards),
            Link::Lan(Lan {
                card: Card::Shared { .. },
                ..
            }) => {
                // Who shares the memory may be killed, and another one comes: QEMU looks for it each second.
                let front = Options::of("socket").with("id", "card").with("path", lan::SOCKET);
                self.option("-chardev", front.with("reconnect", 1));
                Options::of("vhost-user")
                    .with("id", "net")
                    .with("chardev", "card")
            }
            // Frame by frame, so that none is cut in two when the network's process is started again.
            Link::Lan(_) => Options::of("dgram")
                .with("id", "net")
                .with("local.type", "fd")
                .with("local.str", card.unwrap_or_default()),
            Link::Tap { source, mover } => {
                let device = Options::of("tap").with("id", "net");
                let device = match source {
                    // A descriptor is missing only where QEMU is not to be run.
                    TapSource::Launcher { .. } => device.with("fd", card.unwrap_or_default()),
                    TapSource::Helper { program, bridge } => {
                        device.with("br", bridge).with("helper", program.display())
                    }
                };
                match mover {
                    Mover::Qemu(_) => device,
                    Mover::Kernel => device.with("vhost", "on"),
                }
            }
        };
        self.option("-netdev", netdev);
        self.device(spec, "virtio-net", |device| {
            let card = device.with("netdev", "net").with("mac", spec.mac);
            match spec.machine {
                // Without a ROM the BIOS has nothing to copy, run and ask for a network boot.
                MachineType::Pc | MachineType::Q35 => card.with("romfile", ""),
                MachineType::Microvm => card,
            }
        });
    }
}

/// QEMU's name for the drive of the volume at this place.
pub(crate) fn volume_id(at: usize) -> String {
    format!("volume{at}")
}

/// QEMU's own network. Forwards lead to the first address that its DHCP leases.
fn user_network(subnet: Option<&UserSubnet>, forwards: &[Forward]) -> Options {
    let mut user = Options::of("user").with("id", "net");
    if let Some(subnet) = subnet {
        user = user
            .with(
                "net",
                format_args!("{}/{}", subnet.network(), subnet.guest.prefix()),
            )
            .with("host", subnet.gateway)
            .with("dns", subnet.name_server)
            .with("dhcpstart", subnet.guest.address());
    }
    for forward in forwards {
        let Forward {
            protocol,
            host,
            guest_port,
        } = forward;
        user = user.with("hostfwd", format_args!("{protocol}:{host}-:{guest_port}"));
    }
    user
}

/// As a line for a shell.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{QEMU} {}", shell_words::join(&self.arguments))
    }
}

#[cfg(test)]
mod tests;
