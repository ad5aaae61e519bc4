//! The yardstick: Debian's cloud kernel with busybox's web server in an initramfs, the smallest Linux that anyone
//! can put together from packages.
//!
//! Kernel and initramfs are made once, in the cache, from packages that are downloaded and unpacked, not installed.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use builder::cache::Cache;
use builder::environment::Environment;
use cpio::newc::{Builder, ModeFileType, trailer};
use hermitage_boot::Record;

use super::probe;
use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;

/// Goes up when [`init`], [`MODULES`] or [`HTTPD`] change: an older one in the cache is made anew.
const RECIPE: u32 = 4;

/// The kernel's file.
const KERNEL: &str = "vmlinuz";

/// The package that depends on the newest cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The package of the web server, and of the shell that starts it.
const BUSYBOX: &str = "busybox-static";

/// Port of the web server in the guest.
const PORT: u16 = 9000;

/// Modules that a virtio network card or disk needs, each after those that it depends on.
const MODULES: [&str; 10] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/virtio/virtio_mmio.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
    "drivers/block/virtio_blk.ko",
];

/// The web server for load: busybox's starts a process for each connection, and keeps none.
const HTTPD: &str = include_str!("run/httpd.c");

/// What the kernel runs: modules of the machine's bus (`BUS` comes from the kernel's command line), the address
/// that QEMU's user network gives its first guest, the server. Each server says [`LISTENING`].
fn init(server: Server) -> String {
    let server = match server {
        Server::Busybox => format!("{CARD}httpd -p {PORT} -h /www\necho {LISTENING}\nexec sleep 1000000"),
        Server::Epoll => format!("{CARD}exec httpd {PORT}"),
        // What is measured is in an archive of its own, which the kernel unpacks over this one.
        Server::Disk => format!("{DISK}exec /{MEASURE}"),
    };
    format!("{MODULES_OF_BUS}{server}\n")
}

const MODULES_OF_BUS: &str = "#!/bin/sh
cd /modules
insmod virtio_ring.ko
insmod virtio.ko
case $BUS in
pci)
    insmod virtio_pci_legacy_dev.ko
    insmod virtio_pci_modern_dev.ko
    insmod virtio_pci.ko ;;
mmio)
    insmod virtio_mmio.ko ;;
esac
";

const CARD: &str = "insmod failover.ko
insmod net_failover.ko
insmod virtio_net.ko
ifconfig eth0 10.0.2.15 netmask 255.255.255.0
";

const DISK: &str = "insmod virtio_blk.ko
mount -t devtmpfs none /dev
ln -s /dev/vda /www/bench.raw
export HERMITAGE_VOLUMES=/www
";

/// The program that measures a disk, in the initramfs.
pub(super) const MEASURE: &str = "bin/measure";

/// The line with which it says that the server listens.
const LISTENING: &str = "listening";

/// What it serves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// Busybox's: all from packages.
    Busybox,
    /// [`HTTPD`].
    Epoll,
    /// None: it measures its disk.
    Disk,
}

impl Server {
    /// The name of its initramfs.
    pub(super) fn initramfs(self) -> &'static str {
        match self {
            Self::Busybox => "initramfs",
            Self::Epoll => "initramfs-epoll",
            Self::Disk => "initramfs-disk",
        }
    }
}

/// The machines that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// QEMU's `pc`, which our guests run on.
    Pc,
    /// QEMU's `microvm`: no PCI, no BIOS worth the name, made for a fast boot of Linux.
    Microvm,
}

/// Kernel and initramfs.
pub(super) struct Linux {
    pub(super) folder: PathBuf,
    /// The package that the kernel is from.
    pub(super) package: String,
}

impl Linux {
    /// Finds the yardstick in the cache, or makes it there.
    pub(super) fn provide(printer: &Printer) -> Result<Self, Failure> {
        let cache = Cache::new(&Environment::read()).map_err(|error| Failure::Failed(error.to_string()))?;
        let package = resolve()?;
        let folder = cache.path(format!("bench/{package}-{RECIPE}"));
        if !folder.is_dir() {
            printer.note(&format!(
                "making the yardstick from {package} and {BUSYBOX}, once"
            ));
            make(&folder, &package, printer)?;
        }
        Ok(Self { folder, package })
    }

    /// Bytes on disk: kernel and initramfs.
    pub(super) fn size(&self) -> u64 {
        let size = |name: &str| {
            let metadata = self.folder.join(name).metadata();
            metadata.map_or(0, |metadata| metadata.len())
        };
        size(KERNEL) + size(Server::Busybox.initramfs())
    }

    /// Starts it; the time from then to its first answer, or `None` if there is none in time.
    pub(super) fn first_answer(
        &self,
        qemu: &Path,
        machine: Machine,
        megabytes: u32,
        khz: Option<u32>,
        deadline: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let mut guest = self.start(qemu, machine, Server::Busybox, megabytes, khz)?;
        let begin = guest.started;
        if !guest.wait_for(LISTENING, begin + deadline) {
            return Ok(None);
        }
        let answer = probe::first_answer(guest.server, begin + deadline, || guest.has_ended());
        Ok(answer.map(|at| at - begin))
    }

    /// Starts it with the server for load, and waits until that listens; `None` if it does not in time.
    pub(super) fn serving(
        &self,
        qemu: &Path,
        machine: Machine,
        megabytes: u32,
        khz: Option<u32>,
        deadline: Duration,
    ) -> Result<Option<Guest>, Failure> {
        let mut guest = self.start(qemu, machine, Server::Epoll, megabytes, khz)?;
        let end = guest.started + deadline;
        Ok(guest.wait_for(LISTENING, end).then_some(guest))
    }

    fn start(
        &self,
        qemu: &Path,
        machine: Machine,
        server: Server,
        megabytes: u32,
        khz: Option<u32>,
    ) -> Result<Guest, Failure> {
        let failed = |error| Failure::Failed(format!("cannot run the yardstick: {error}"));
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = free.map_err(failed)?.port();
        let initramfs = self.folder.join(server.initramfs());
        let mut command = self.command(qemu, machine, &initramfs, megabytes, port);
        // A panic ends QEMU: the kernel reboots at once, and QEMU does not.
        let mut arguments = "console=ttyS0 quiet panic=-1".to_owned();
        match (machine, khz) {
            (Machine::Pc, _) => arguments.push_str(" BUS=pci"),
            (Machine::Microvm, None) => arguments.push_str(" BUS=mmio"),
            // Without it the kernel measures the clock, which fails on a busy machine; on the microvm it then waits
            // for ever.
            (Machine::Microvm, Some(khz)) => arguments += &format!(" BUS=mmio tsc_early_khz={khz}"),
        }
        command.args(["-append", &arguments]);
        Ok(Guest {
            started: Instant::now(),
            process: command.spawn().map_err(failed)?,
            server: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)),
        })
    }

    /// The same devices and settings as our guests have, where they apply.
    pub(super) fn command(
        &self,
        qemu: &Path,
        machine: Machine,
        initramfs: &Path,
        megabytes: u32,
        port: u16,
    ) -> Command {
        let (name, card) = match machine {
            Machine::Pc => ("pc", "virtio-net-pci,netdev=net,romfile="),
            Machine::Microvm => ("microvm", "virtio-net-device,netdev=net"),
        };
        let mut command = Command::new(qemu);
        command
            .args(["-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"])
            .args([
                "-machine",
                name,
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-smp",
                "1",
                "-m",
                &format!("{megabytes}M"),
            ])
            .args([
                "-chardev",
                "stdio,id=console,signal=off",
                "-serial",
                "chardev:console",
                "-device",
                card,
            ])
            .args([
                "-netdev",
                &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{PORT}"),
            ])
            .arg("-kernel")
            .arg(self.folder.join(KERNEL))
            .arg("-initrd")
            .arg(initramfs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }
}

/// A QEMU that is killed when it is done with.
pub(super) struct Guest {
    process: Child,
    /// When QEMU was started.
    pub(super) started: Instant,
    /// Where its server answers on this host.
    pub(super) server: SocketAddr,
}

impl Guest {
    /// Waits for a line of the console; `false` if the guest ends before, or the deadline passes.
    fn wait_for(&mut self, line: &'static str, deadline: Instant) -> bool {
        let Some(console) = self.process.stdout.take() else {
            return false;
        };
        let (sender, receiver) = channel();
        // Ends with QEMU, which this guest's drop kills; until then QEMU must not wait for a reader.
        thread::spawn(move || {
            for text in BufReader::new(console).lines().map_while(Result::ok) {
                if text.trim_end() == line {
                    let _ = sender.send(());
                }
            }
        });
        receiver
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Frequency of a guest's time-stamp counter, which a guest of ours tells and Linux on the microvm must be told.
pub(super) fn khz_of(machine: &launcher::Machine) -> Option<u32> {
    let records = machine.records();
    let mut told = records.iter().rev().filter_map(|received| match received.record {
        Record::Khz(khz) if khz > 0 => Some(khz),
        _ => None,
    });
    told.next()
}

/// The real package behind the meta package.
fn resolve() -> Result<String, Failure> {
    let output = Command::new("apt-cache")
        .args(["depends", "--no-recommends", META_PACKAGE])
        .stdin(Stdio::null())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let found = text.ok().and_then(|text| {
        let mut packages = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        packages
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
    });
    found.ok_or_else(|| {
        Failure::Failed(format!(
            "cannot find the package behind `{META_PACKAGE}`: the yardstick needs Debian, and `apt-get update`"
        ))
    })
}

/// Makes kernel and initramfs in `folder`, which appears when it is complete.
fn make(folder: &Path, package: &str, printer: &Printer) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("cannot make the yardstick: {error}"));
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(failed)?;
    let work = tempfile::tempdir_in(parent).map_err(failed)?;
    let run = |program: &str, arguments: &[&str]| -> Result<(), Failure> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(work.path())
            .stdin(Stdio::null());
        printer.detail(&host::shown(&command));
        let output = command.output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(Failure::Failed(format!(
            "`{program}` failed: {}\n{}",
            output.status,
            errors.trim_end()
        )))
    };
    run("apt-get", &["download", package, BUSYBOX])?;
    for entry in fs::read_dir(work.path()).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run("dpkg-deb", &["--extract", &path.to_string_lossy(), "root"])?;
        }
    }
    let version = package.trim_start_matches("linux-image-");
    let root = work.path().join("root");
    let made = work.path().join("made");
    fs::create_dir(&made).map_err(failed)?;
    fs::copy(
        root.join("boot").join(format!("vmlinuz-{version}")),
        made.join(KERNEL),
    )
    .map_err(failed)?;
    let modules = root.join("lib/modules").join(version).join("kernel");
    let source = work.path().join("httpd.c");
    fs::write(&source, HTTPD).map_err(failed)?;
    run("cc", &["-O2", "-static", "-o", "httpd", "httpd.c"])?;
    let parts = Parts {
        busybox: fs::read(root.join("bin/busybox")).map_err(failed)?,
        httpd: fs::read(work.path().join("httpd")).map_err(failed)?,
        modules: &modules,
    };
    for server in [Server::Busybox, Server::Epoll, Server::Disk] {
        let archive = File::create(made.join(server.initramfs())).map_err(failed)?;
        write_initramfs(BufWriter::new(archive), &parts, server).map_err(failed)?;
    }
    match fs::rename(&made, folder) {
        // Another run was faster; its result is the same.
        Err(_) if folder.is_dir() => Ok(()),
        result => result.map_err(failed),
    }
}

/// What an initramfs is made of.
struct Parts<'a> {
    busybox: Vec<u8>,
    httpd: Vec<u8>,
    modules: &'a Path,
}

/// The initramfs: busybox under the names that [`init`] uses, the modules, a page of two bytes or the server that
/// knows its answer.
fn write_initramfs(mut archive: impl Write, parts: &Parts<'_>, server: Server) -> io::Result<()> {
    let mut inode = 0;
    let mut entry = |name: &str, kind, mode, device: (u32, u32), data: &[u8]| -> io::Result<()> {
        inode += 1;
        let builder = Builder::new(name)
            .ino(inode)
            .nlink(1)
            .mode(mode)
            .set_mode_file_type(kind)
            .rdev_major(device.0)
            .rdev_minor(device.1);
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut writer = builder.write(&mut archive, length);
        writer.write_all(data)?;
        writer.finish()?;
        Ok(())
    };
    let none = (0, 0);
    for folder in ["bin", "dev", "modules", "www"] {
        entry(folder, ModeFileType::Directory, 0o755, none, b"")?;
    }
    entry("dev/console", ModeFileType::Char, 0o600, (5, 1), b"")?;
    entry("bin/busybox", ModeFileType::Regular, 0o755, none, &parts.busybox)?;
    let mut names = vec!["sh", "insmod", "ifconfig", "sleep", "mount", "ln"];
    match server {
        Server::Busybox => names.push("httpd"),
        Server::Epoll => entry("bin/httpd", ModeFileType::Regular, 0o755, none, &parts.httpd)?,
        Server::Disk => {}
    }
    for name in names {
        entry(
            &format!("bin/{name}"),
            ModeFileType::Symlink,
            0o777,
            none,
            b"busybox",
        )?;
    }
    for module in MODULES {
        let (_, name) = module.rsplit_once('/').unwrap_or(("", module));
        let data = fs::read(parts.modules.join(module))
            .map_err(|error| io::Error::new(error.kind(), format!("kernel module `{module}`: {error}")))?;
        entry(
            &format!("modules/{name}"),
            ModeFileType::Regular,
            0o644,
            none,
            &data,
        )?;
    }
    entry("www/index.html", ModeFileType::Regular, 0o644, none, b"ok")?;
    entry(
        "init",
        ModeFileType::Regular,
        0o755,
        none,
        init(server).as_bytes(),
    )?;
    trailer(archive)?.flush()
}
