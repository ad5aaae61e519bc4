//! The command line of QEMU, as a value: a pure function of [`MachineSpec`].
//!
//! QEMU is run in the instance's folder, so the names of files are short and have no commas; option values that
//! come from elsewhere are escaped in one place, `Options`.
//!
//! Tuned for a fast boot: no default devices, no display, no option ROM for the network card (together 15 ms of 68
//! until the guest's first instruction), qboot in place of the BIOS where nothing is read from the disk by it.

use std::fmt;
use std::os::fd::RawFd;

use hermitage_boot::{DEBUG_EXIT_PORT, FW_CFG_BOOT_CONFIG};

use crate::accelerator::Accelerator;
use crate::forward::Forward;
use crate::qemu::QBOOT;
use crate::spec::{Entry, Firmware, MachineSpec, Network};

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
    /// All that the guest wrote to its console.
    pub const CONSOLE: &str = "console.log";
    /// All that the guest wrote to its control channel.
    pub const CONTROL: &str = "control.log";
    /// What QEMU itself has to say.
    pub const QEMU: &str = "qemu.log";
}

/// The Unix sockets that QEMU inherits. Inherited ones have no path that could be too long, no one can connect
/// to them, and they end by themselves when QEMU or the launcher does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The control channel.
    pub control: RawFd,
    /// QEMU's machine protocol (QMP).
    pub monitor: RawFd,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    arguments: Vec<String>,
}

impl CommandLine {
    /// The command line for a machine.
    #[must_use]
    pub fn new(spec: &MachineSpec, sockets: Sockets) -> Self {
        let mut line = Self { arguments: vec![] };
        // -S: the guest starts when the monitor says so.
        line.flags(&["-no-user-config", "-nodefaults", "-no-reboot", "-S"]);
        line.option("-display", Options::of("none"));
        line.option("-name", Options::of(spec.name.as_str()));
        line.processor(spec);
        line.consoles(sockets);
        line.disk(spec);
        line.network(spec);
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

    fn processor(&mut self, spec: &MachineSpec) {
        self.option("-machine", Options::of("pc"));
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
        let model = spec.cpu_model.as_deref().unwrap_or(cpu);
        self.arguments.extend(["-cpu".to_owned(), model.to_owned()]);
        self.option("-m", Options::of(&spec.memory.to_string()));
        self.option("-smp", Options::of(&spec.cpus.to_string()));
    }

    /// Console and control channel: the first and the second serial port. Both are logged as well, by QEMU, so
    /// that nothing is lost with the launcher.
    fn consoles(&mut self, sockets: Sockets) {
        let console = Options::of("stdio")
            .with("id", "console")
            .with("signal", "off")
            .with("logfile", file::CONSOLE);
        self.option("-chardev", console);
        self.option("-serial", Options::of("chardev:console"));
        let control = Options::of("socket")
            .with("id", "control")
            .with("fd", sockets.control)
            .with("logfile", file::CONTROL);
        self.option("-chardev", control);
        self.option("-serial", Options::of("chardev:control"));
        let monitor = Options::of("socket")
            .with("id", "monitor")
            .with("fd", sockets.monitor);
        self.option("-chardev", monitor);
        self.option("-mon", Options::of("monitor").with("mode", "control"));
        let exit = Options::of("isa-debug-exit")
            .with("iobase", format_args!("{DEBUG_EXIT_PORT:#x}"))
            .with("iosize", "0x4");
        self.option("-device", exit);
    }

    fn disk(&mut self, spec: &MachineSpec) {
        if spec.entry == Entry::Direct {
            self.option("-kernel", Options::of(file::LOADER));
            let boot = Options::of("").with("name", FW_CFG_BOOT_CONFIG);
            self.option("-fw_cfg", boot.with("file", file::BOOT_CONFIG));
        }
        let drive = Options::of("")
            .with("file", file::DISK)
            .with("format", "qcow2")
            .with("if", "virtio");
        self.option("-drive", drive);
    }

    fn network(&mut self, spec: &MachineSpec) {
        match spec.network {
            Network::User => {
                let mut user = Options::of("user").with("id", "net");
                for forward in &spec.forwards {
                    let Forward {
                        protocol,
                        host,
                        guest_port,
                    } = forward;
                    user = user.with("hostfwd", format_args!("{protocol}:{host}-:{guest_port}"));
                }
                self.option("-netdev", user);
            }
        }
        let card = Options::of("virtio-net-pci")
            .with("netdev", "net")
            .with("mac", spec.mac)
            // Without a ROM the BIOS has nothing to copy, run and ask for a network boot.
            .with("romfile", "");
        self.option("-device", card);
    }
}

/// As a line for a shell.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{QEMU} {}", shell_words::join(&self.arguments))
    }
}

/// The value of a QEMU option: a first word, then `key=value` pairs.
struct Options {
    text: String,
}

impl Options {
    fn of(first: &str) -> Self {
        Self { text: escaped(first) }
    }

    fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(&escaped(&value.to_string()));
        self
    }
}

/// A comma in a value is doubled; nothing else is special to QEMU.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hermitage_boot::BootConfig;

    const SOCKETS: Sockets = Sockets {
        control: 3,
        monitor: 4,
    };

    fn spec() -> MachineSpec {
        MachineSpec {
            name: "kv".parse().unwrap(),
            memory: "200M".parse().unwrap(),
            cpus: "1".parse().unwrap(),
            mac: "A2:13:15:00:80:02".parse().unwrap(),
            network: Network::User,
            forwards: vec![],
            entry: Entry::Direct,
            firmware: Firmware::Bios,
            accelerator: Accelerator::Tcg,
            cpu_model: None,
            boot: BootConfig::default(),
        }
    }

    /// The arguments that differ from those of [`spec`]: those that are gone, those that are new.
    fn difference(other: &MachineSpec) -> (Vec<String>, Vec<String>) {
        let base = CommandLine::new(&spec(), SOCKETS).arguments;
        let other = CommandLine::new(other, SOCKETS).arguments;
        let gone = base.iter().filter(|argument| !other.contains(argument));
        let new = other.iter().filter(|argument| !base.contains(argument));
        (gone.cloned().collect(), new.cloned().collect())
    }

    #[test]
    fn is_exactly_this() {
        let expected = "qemu-system-x86_64 -no-user-config -nodefaults -no-reboot -S -display none -name kv \
            -machine pc -accel tcg -cpu max -m 200M -smp 1 \
            -chardev 'stdio,id=console,signal=off,logfile=console.log' -serial chardev:console \
            -chardev 'socket,id=control,fd=3,logfile=control.log' -serial chardev:control \
            -chardev 'socket,id=monitor,fd=4' -mon 'monitor,mode=control' \
            -device 'isa-debug-exit,iobase=0xf4,iosize=0x4' \
            -kernel loader.elf -fw_cfg 'name=opt/org.hermitage/boot,file=boot-config.bin' \
            -drive 'file=disk.qcow2,format=qcow2,if=virtio' \
            -netdev 'user,id=net' -device 'virtio-net-pci,netdev=net,mac=a2:13:15:00:80:02,romfile='";
        assert_eq!(CommandLine::new(&spec(), SOCKETS).to_string(), expected);
    }

    #[test]
    fn each_part_of_the_spec_changes_exactly_its_arguments() {
        let change = |change: fn(&mut MachineSpec)| {
            let mut other = spec();
            change(&mut other);
            difference(&other)
        };
        type Change = fn(&mut MachineSpec);
        let table: &[(Change, &[&str], &[&str])] = &[
            (|_| (), &[], &[]),
            (|s| s.name = "db-1".parse().unwrap(), &["kv"], &["db-1"]),
            (|s| s.memory = "1G".parse().unwrap(), &["200M"], &["1024M"]),
            (|s| s.firmware = Firmware::Qboot, &[], &["-bios", "qboot.rom"]),
            (|s| s.cpus = "4".parse().unwrap(), &["1"], &["4"]),
            (
                |s| s.accelerator = Accelerator::Kvm,
                &["tcg", "max"],
                &["kvm", "host"],
            ),
            (
                |s| s.cpu_model = Some("max,-rdrand,-rdseed".to_owned()),
                &["max"],
                &["max,-rdrand,-rdseed"],
            ),
            (
                |s| s.entry = Entry::Disk,
                &[
                    "-kernel",
                    "loader.elf",
                    "-fw_cfg",
                    "name=opt/org.hermitage/boot,file=boot-config.bin",
                ],
                &[],
            ),
            (
                |s| {
                    s.forwards = ["9000:80", "0.0.0.0:53:53/udp"]
                        .map(|text| text.parse().unwrap())
                        .to_vec();
                },
                &["user,id=net"],
                &["user,id=net,hostfwd=tcp:127.0.0.1:9000-:80,hostfwd=udp:0.0.0.0:53-:53"],
            ),
            (
                |s| s.mac = "02:00:00:00:00:01".parse().unwrap(),
                &["virtio-net-pci,netdev=net,mac=a2:13:15:00:80:02,romfile="],
                &["virtio-net-pci,netdev=net,mac=02:00:00:00:00:01,romfile="],
            ),
        ];
        for (at, (edit, gone, new)) in table.iter().enumerate() {
            let difference = change(*edit);
            assert_eq!(difference.0, *gone, "row {at}");
            assert_eq!(difference.1, *new, "row {at}");
        }
    }

    #[test]
    fn doubles_commas_in_values() {
        let options = Options::of("a,b").with("file", "x,y=z");
        assert_eq!(options.text, "a,,b,file=x,,y=z");
    }
}
