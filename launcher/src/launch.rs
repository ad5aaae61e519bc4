//! From a request to a machine: [`plan`] decides and changes nothing, [`Launch::start`] carries it out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use hermitage_disk::Access;
use hermitage_disk::lock::{self, Lock};

use crate::accelerator::{self, NoKvm};
use crate::command_line::{CommandLine, Descriptors, file};
use crate::cpu::HostCpu;
use crate::environment;
use crate::error::Error;
use crate::forward::{self, Forward};
use crate::instance::Instance;
use crate::machine::{self, Machine};
use crate::network::host::{HostNetwork, NoVhost};
use crate::network::{Link, TapSource, tap};
use crate::qemu::Qemu;
use crate::spec::{Entry, Host, MachineSpec, RunRequest, own_config};
use crate::volume;

/// A machine that can be started.
#[derive(Debug)]
pub struct Launch {
    image: PathBuf,
    /// Nobody changes the image from here on: it keeps the loader that was read.
    lock: Lock,
    loader: Vec<u8>,
    qemu: Qemu,
    spec: MachineSpec,
    fallback: Option<NoKvm>,
}

/// Plans a machine: finds QEMU, reads the image, decides what the machine is.
///
/// # Errors
/// No usable QEMU, no usable image, a request that does not fit together.
pub fn plan(request: &RunRequest) -> Result<Launch, Error> {
    let (accelerator, fallback) = accelerator::choose(request.accelerator, &accelerator::detect())?;
    let qemu = Qemu::find()?;
    if let Some(model) = &request.cpu_model {
        qemu.check_cpu_model(model)?;
    }
    // Absolute, because the overlay that refers to it lies elsewhere.
    let image = std::path::absolute(&request.image).map_err(Error::io("find", &request.image))?;
    if !image.exists() {
        return Err(Error::NoImage(request.image.clone()));
    }
    let lock = lock::share(&image)?;
    let disk = hermitage_disk::open_image(&image)?;
    let own = own_config(request, disk.boot_config()?, disk.boot_sets()?)?;
    let host = Host {
        accelerator,
        cpu: HostCpu::detect(),
        has_qboot: qemu.has_qboot,
        network: HostNetwork::detect(request),
    };
    let volumes = volume::find(&request.volumes, environment::root().as_deref())?;
    let spec = MachineSpec::new(request, own.as_ref(), volumes, &host)?;
    let loader = match spec.entry {
        Entry::Direct => disk.loader()?,
        Entry::Disk => Vec::new(),
    };
    Ok(Launch {
        image,
        lock,
        loader,
        qemu,
        spec,
        fallback,
    })
}

impl Launch {
    /// What the machine will be.
    #[must_use]
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// The QEMU that will be run.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.qemu.program
    }

    /// Why the guest runs without KVM, where the user left the choice.
    #[must_use]
    pub fn fallback(&self) -> Option<&NoKvm> {
        self.fallback.as_ref()
    }

    /// Why QEMU moves the guest's frames where the host's kernel was to do it.
    #[must_use]
    pub fn no_vhost(&self) -> Option<&NoVhost> {
        self.spec.link.no_vhost()
    }

    /// QEMU's command line, as far as it is known before the start: the numbers of descriptors are examples.
    #[must_use]
    pub fn command_line(&self) -> CommandLine {
        CommandLine::new(&self.spec, Descriptors::EXAMPLES)
    }

    /// Starts the machine as an instance below `root`. What the guest writes to its console goes to `console`.
    ///
    /// # Errors
    /// A port or the instance's name is taken; files cannot be written; QEMU cannot be started.
    pub fn start(self, root: &Path, console: impl Write + Send + 'static) -> Result<Machine, Error> {
        let mut spec = self.spec;
        let instance = Instance::create(root, &spec.name)?;
        let claimed: Result<Vec<_>, _> = spec.forwards.into_iter().map(Forward::claim).collect();
        spec.forwards = claimed?;
        spec.gdb_port = spec.gdb_port.map(forward::claim_gdb_port).transpose()?;
        let tap = match &spec.link {
            Link::Tap {
                source: TapSource::Launcher { device, bridge },
                ..
            } => Some(tap::open(device.as_ref(), bridge.as_ref(), spec.mac)?),
            Link::Tap { .. } | Link::User(_) => None,
        };

        let disk = instance.folder().join(file::DISK);
        hermitage_disk::create_overlay(&self.image, &disk)?;
        match spec.entry {
            Entry::Direct => {
                write(&instance.folder().join(file::LOADER), &self.loader)?;
                write(&instance.folder().join(file::BOOT_CONFIG), &spec.boot.encode()?)?;
            }
            Entry::Disk => hermitage_disk::open_overlay(&disk, Access::Write)?.set_boot_config(&spec.boot)?,
        }
        machine::start(
            self.qemu.program,
            spec,
            instance,
            self.lock,
            tap,
            Box::new(console),
        )
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}
