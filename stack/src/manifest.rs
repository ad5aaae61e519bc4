//! What a stack is: `stack.yaml`. `docs/stacks.md` tells of it.
//!
//! [`check`] turns the file, in which every value has its place, into a [`Stack`], which is always valid.

mod check;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hermitage_network::NetworkName;
use hermitage_yaml::Diagnostic;
use launcher::instance::RestartPolicy;
use launcher::volume::{Volume, VolumeName};
use launcher::{Cpus, Forward, Memory, Variable};

/// The file's name, in a package's folder.
pub const FILE: &str = "stack.yaml";

/// Most bytes of a `stack.yaml`: a real one has a thousand, and it is read into memory.
const MAX_MANIFEST: u64 = 256 << 10;

/// Most instances of one service: a network has 253 addresses by default.
pub const MAX_REPLICAS: u16 = 250;

/// How long a service may take to be ready, if nobody says otherwise: 100 times what one takes on a quiet machine.
pub const READY_PATIENCE: Duration = Duration::from_secs(60);

/// An application of several services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its name, which is also its package's.
    pub name: NetworkName,
    /// Its file.
    pub path: PathBuf,
    /// The image that its instances run, by name; its package's if `None`.
    pub image: Option<String>,
    /// The network that its instances are on; one of its own, of its name, if `None`.
    pub network: Option<NetworkName>,
    /// Volumes of its own, which are made when they are missing.
    pub volumes: Vec<OwnVolume>,
    /// Its services: each after those that it depends on.
    pub services: Vec<Service>,
}

/// A volume of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnVolume {
    /// Its name, which begins with the stack's. Guests find it by what stands behind that.
    pub name: VolumeName,
    /// Bytes, for when it is made.
    pub size: u64,
}

/// A service of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, by which the others find it.
    pub name: String,
    /// What its instances run: a role of the image and its arguments.
    pub command: String,
    /// How many instances it has.
    pub replicas: u16,
    /// Memory of each.
    pub memory: Memory,
    /// Virtual CPUs of each.
    pub cpus: Cpus,
    /// Variables.
    pub environment: Vec<Variable>,
    /// Ports of the host that lead to it.
    pub ports: Vec<Forward>,
    /// Disks that outlive its instances.
    pub volumes: Vec<Volume>,
    /// The services that have to be ready before.
    pub depends_on: Vec<String>,
    /// How it is asked whether it is ready; that it runs is enough if `None`.
    pub ready: Option<Ready>,
    /// When its instances are started again by themselves.
    pub restart: RestartPolicy,
}

/// How a service is asked whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The guest's TCP port.
    pub port: u16,
    /// A path that is answered with a status of 200 to 299; if `None`, it is enough that the port takes connections.
    pub path: Option<String>,
    /// How long it may take.
    pub patience: Duration,
}

/// Why a stack is none, or none that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is far larger than any stack.
    #[error("`{}` has {size} bytes; a stack has at most {MAX_MANIFEST}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// A stack's name is also its network's.
    #[error(transparent)]
    Name(#[from] hermitage_network::store::InvalidName),
    /// Something in it is wrong.
    #[error("{0}")]
    Wrong(Box<Diagnostic>),
    /// There is no such service.
    #[error("stack `{stack}` has no service `{service}`")]
    NoService {
        /// The stack.
        stack: String,
        /// What was asked for.
        service: String,
        /// The services that it has.
        known: Vec<String>,
    },
    /// A number of instances that a service cannot have.
    #[error("service `{service}` cannot have {replicas} instances: {reason}")]
    Replicas {
        /// The service.
        service: String,
        /// What was asked for.
        replicas: u16,
        /// Why not.
        reason: String,
    },
}

impl StackError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Wrong(diagnostic) => diagnostic.hint.clone(),
            Self::Read { path, source } if source.kind() == io::ErrorKind::NotFound => Some(format!(
                "a stack is a package with a `{FILE}`; none is at `{}`",
                path.display()
            )),
            _ => None,
        }
    }
}

impl Stack {
    /// Reads and checks the `stack.yaml` at `path`, of the stack that is called `name`.
    ///
    /// # Errors
    /// It cannot be read, or something in it is unknown or wrong.
    pub fn read(path: &Path, name: &str) -> Result<Self, StackError> {
        let unreadable = |source| StackError::Read {
            path: path.to_owned(),
            source,
        };
        let size = fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_MANIFEST {
            return Err(StackError::TooLarge {
                path: path.to_owned(),
                size,
            });
        }
        Self::parse(path, fs::read_to_string(path).map_err(unreadable)?, name)
    }

    /// Checks the text of a `stack.yaml` that lies at `path`.
    ///
    /// # Errors
    /// Something in it is unknown or wrong.
    pub fn parse(path: &Path, text: String, name: &str) -> Result<Self, StackError> {
        check::check(path, text, name.parse()?)
    }

    /// The network that its instances are on.
    #[must_use]
    pub fn network(&self) -> &NetworkName {
        self.network.as_ref().unwrap_or(&self.name)
    }

    /// Gives a service another number of instances.
    ///
    /// # Errors
    /// There is no such service, or it cannot have so many.
    pub fn scale(&mut self, service: &str, replicas: u16) -> Result<(), StackError> {
        let found = self.services.iter_mut().find(|known| known.name == service);
        let Some(found) = found else {
            return Err(self.no_service(service));
        };
        if let Err(reason) = found.check_replicas(replicas) {
            let service = service.to_owned();
            return Err(StackError::Replicas {
                service,
                replicas,
                reason,
            });
        }
        found.replicas = replicas;
        Ok(())
    }

    /// A service by its name.
    ///
    /// # Errors
    /// There is no such service.
    pub fn service(&self, name: &str) -> Result<&Service, StackError> {
        let found = self.services.iter().find(|service| service.name == name);
        found.ok_or_else(|| self.no_service(name))
    }

    fn no_service(&self, name: &str) -> StackError {
        StackError::NoService {
            stack: self.name.to_string(),
            service: name.to_owned(),
            known: self.services.iter().map(|service| service.name.clone()).collect(),
        }
    }
}

impl Service {
    /// Whether it can have so many instances, and why not.
    fn check_replicas(&self, replicas: u16) -> Result<(), String> {
        if replicas > MAX_REPLICAS {
            return Err(format!("{MAX_REPLICAS} at most"));
        }
        if replicas <= 1 {
            return Ok(());
        }
        if let Some(forward) = self.ports.iter().find(|forward| forward.host.port() != 0) {
            return Err(format!("the host's port of `{forward}` is one; 0 takes any"));
        }
        match self.volumes.iter().find(|volume| !volume.is_read_only()) {
            Some(volume) => Err(format!(
                "the volume `{volume}` is one guest's; `:ro` is all guests'"
            )),
            None => Ok(()),
        }
    }
}
