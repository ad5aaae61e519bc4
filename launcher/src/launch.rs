//! From a request to a machine: [`plan`] decides and changes nothing, [`Launch::start`] carries it out.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hermitage_disk::Access;
use hermitage_disk::lock::{self, Lock};

use crate::accelerator::{self, NoKvm};
use crate::command_line::{CommandLine, Descriptors, file};
use crate::console::Outputs;
use crate::cpu::HostCpu;
use crate::environment;
use crate::error::Error;
use crate::forward::{self, Forward};
use crate::instance::{Instance, Instances, Options, Phase};
use crate::machine::{self, Machine};
use crate::network::host::{HostNetwork, NoVhost};
use crate::network::lan::Place;
use crate::network::{Link, TapSource, lan, tap};
use crate::qemu::Qemu;
use crate::spec::{Entry, Host, MachineSpec, RunRequest, own_config};
use crate::volume::{self, Guard, Volumes};

/// A machine that can be started.
#[derive(Debug)]
pub struct Launch {
    request: RunRequest,
    image: PathBuf,
    identity: String,
    /// Nobody changes the image from here on: it keeps the loader that was read.
    lock: Arc<Lock>,
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
    plan_below(request, environment::root().as_deref())
}

/// The same, with the volumes of the user whose instances are below `root`.
///
/// # Errors
/// As [`plan`].
pub fn plan_below(request: &RunRequest, root: Option<&Path>) -> Result<Launch, Error> {
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
    let lock = Arc::new(lock::share(&image)?);
    let disk = hermitage_disk::open_image(&image)?;
    let own = own_config(request, disk.boot_config()?, disk.boot_sets()?)?;
    let host = Host {
        accelerator,
        cpu: HostCpu::detect(),
        has_qboot: qemu.has_qboot,
        network: HostNetwork::detect(request),
    };
    let volumes = find_volumes(request, root)?;
    let spec = MachineSpec::new(request, own.as_ref(), volumes, &host)?;
    let loader = match spec.entry {
        Entry::Direct => disk.loader()?,
        Entry::Disk => Vec::new(),
    };
    Ok(Launch {
        request: request.clone(),
        image,
        identity: disk.identity()?,
        lock,
        loader,
        qemu,
        spec,
        fallback,
    })
}

/// The volumes of a request. One that a guest may write is nobody else's; QEMU's own lock would say so in its words, and
/// name nobody.
fn find_volumes(request: &RunRequest, root: Option<&Path>) -> Result<Vec<volume::Disk>, Error> {
    let disks = volume::find(&request.volumes, root)?;
    if let Some(volumes) = root.map(Volumes::new) {
        for disk in &disks {
            volumes.check_free(disk, &request.name)?;
        }
    }
    Ok(disks)
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

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &RunRequest {
        &self.request
    }

    /// The image's file, as an absolute path.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// What the image holds, as one word.
    #[must_use]
    pub fn image_identity(&self) -> &str {
        &self.identity
    }

    /// Starts the machine as an instance below `root` that lives no longer than the [`Machine`]. What the guest writes
    /// to its console goes to `console`.
    ///
    /// # Errors
    /// A port or the instance's name is taken; files cannot be written; QEMU cannot be started.
    pub fn start(self, root: &Path, console: impl Write + Send + 'static) -> Result<Machine, Error> {
        let options = Options {
            remove: true,
            ..Options::default()
        };
        let mut instance = Instances::below(root)?.create(&self, options)?;
        let outputs = Outputs::new(instance.folder(), options.log, Box::new(console));
        let booted = self.hold_volumes(&instance).and_then(|volumes| {
            let machine = self.boot(&instance, &outputs)?;
            Ok((machine, volumes))
        });
        match booted {
            Ok((machine, _volumes)) => {
                // For those who look; the machine runs without it.
                let _ = instance.change(|state| state.start(machine.process(), machine.spec()));
                Ok(machine.owning(instance))
            }
            Err(error) => {
                // What stays is removed by the next run of this name.
                let _ = instance.remove();
                Err(error)
            }
        }
    }

    /// Looks once more whether the volumes are free, and keeps everybody from changing that until the guard is dropped:
    /// when the machine runs, and the instance says so.
    pub(crate) fn hold_volumes(&self, instance: &Instance) -> Result<Option<Guard>, Error> {
        let wanted = &self.request.volumes;
        let guard = Volumes::new(instance.root()).lock_for_start(wanted)?;
        if guard.is_some() {
            let request = RunRequest {
                name: instance.name().clone(),
                ..self.request.clone()
            };
            find_volumes(&request, Some(instance.root()))?;
        }
        Ok(guard)
    }

    /// Starts the machine of an instance.
    pub(crate) fn boot(self, instance: &Instance, outputs: &Arc<Outputs>) -> Result<Machine, Error> {
        let mut spec = self.spec;
        spec.forwards = claim(spec.forwards, &instance.state().forwards)?;
        spec.gdb_port = spec.gdb_port.map(forward::claim_gdb_port).transpose()?;
        let folder = instance.folder();
        let disk = folder.join(file::DISK);
        // One that was never started may have half of a disk, from one who was killed.
        if instance.state().phase == Phase::Created {
            let _ = fs::remove_file(&disk);
            hermitage_disk::create_overlay(&self.image, &disk)?;
        }
        match spec.entry {
            Entry::Direct => {
                write(&folder.join(file::LOADER), &self.loader)?;
                write(&folder.join(file::BOOT_CONFIG), &spec.boot.encode()?)?;
            }
            Entry::Disk => hermitage_disk::open_overlay(&disk, Access::Write)?.set_boot_config(&spec.boot)?,
        }
        let start = |spec: &MachineSpec| {
            let link = connect(instance, spec)?;
            let (lock, outputs) = (Arc::clone(&self.lock), Arc::clone(outputs));
            machine::start(&self.qemu, spec.clone(), folder, lock, link, outputs)
        };
        let started = start(&spec);
        if let (Err(Error::NotStarted(exit)), Link::Lan(lan)) = (&started, &mut spec.link) {
            // Not asked before: QEMU takes as long to say what it has as to make a machine of it.
            if let Some(card) = lan.card.without(&exit.to_string()) {
                lan.card = card;
                return start(&spec);
            }
        }
        started
    }
}

/// Makes the other end of a machine's network card, as far as that is not QEMU's.
fn connect(instance: &Instance, spec: &MachineSpec) -> Result<(Option<OwnedFd>, Option<Place>), Error> {
    Ok(match &spec.link {
        Link::Tap {
            source: TapSource::Launcher { device, bridge },
            ..
        } => (Some(tap::open(device.as_ref(), bridge.as_ref(), spec.mac)?), None),
        Link::Lan(lan) => {
            let joined = lan::join(instance.root(), lan, spec, instance.folder())?;
            (joined.card, Some(joined.place))
        }
        Link::Tap { .. } | Link::User(_) | Link::Qemu(_) => (None, None),
    })
}

/// Checks that the ports are free, and chooses those that are to be chosen: where it is possible, the one of last time.
fn claim(forwards: Vec<Forward>, last: &[Forward]) -> Result<Vec<Forward>, Error> {
    let claim = |(place, forward): (usize, Forward)| {
        let before = last.get(place).filter(|before| forward.may_become(before));
        let kept = before.and_then(|before| before.claim().ok());
        kept.map_or_else(|| forward.claim(), Ok)
    };
    forwards.into_iter().enumerate().map(claim).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}
