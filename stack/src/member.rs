//! An instance of a stack: as the stack wants it, and how one that is there is known to belong to it.

use std::path::{Path, PathBuf};

use launcher::instance::{Options, Seen};
use launcher::units::{Label, ParseError};
use launcher::{Error, InstanceName, Instances, Network, RunRequest, log};

use crate::manifest::{Service, Stack};

/// The labels by which an instance is known: its stack, its service, and the stack's file.
const STACK: &str = "hermitage/stack";
const SERVICE: &str = "hermitage/service";
const FILE: &str = "hermitage/stack-file";

/// The name of a service's instance, counted from 1.
pub(crate) fn instance_name(stack: impl std::fmt::Display, service: &str, number: u16) -> String {
    format!("{stack}-{service}-{number}")
}

/// An instance that a stack wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its service.
    pub service: String,
    /// What is run.
    pub request: RunRequest,
    /// How it is kept.
    pub options: Options,
}

impl Stack {
    /// The instances that it wants, on an image: those of a service after those of the services that it depends on.
    ///
    /// # Errors
    /// A name or label that is too long or has strange letters: the stack's path, say.
    pub fn wanted(&self, image: &Path) -> Result<Vec<Wanted>, ParseError> {
        let mut wanted = Vec::new();
        for service in &self.services {
            for number in 1..=service.replicas {
                wanted.push(self.member(service, number, image)?);
            }
        }
        Ok(wanted)
    }

    fn member(&self, service: &Service, number: u16, image: &Path) -> Result<Wanted, ParseError> {
        let name: InstanceName = instance_name(&self.name, &service.name, number).parse()?;
        let label = |key: &str, value: String| Label {
            key: key.to_owned(),
            value,
        };
        let request = RunRequest {
            memory: service.memory,
            cpus: service.cpus,
            command: Some(service.command.clone()),
            environment: service.environment.clone(),
            network: Network::Lan(self.network().clone()),
            aliases: vec![service.name.clone()],
            forwards: service.ports.clone(),
            volumes: service.volumes.clone(),
            labels: vec![
                label(STACK, self.name.to_string()),
                label(SERVICE, service.name.clone()),
                label(FILE, self.path.display().to_string()),
            ],
            ..RunRequest::new(image, name)
        };
        Ok(Wanted {
            service: service.name.clone(),
            request,
            options: Options {
                restart: service.restart,
                remove: false,
                log: log::Limits::default(),
            },
        })
    }
}

/// An instance that belongs to a stack.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its stack.
    pub stack: String,
    /// Its service.
    pub service: String,
    /// Its stack's file.
    pub file: PathBuf,
    /// What it is and does.
    pub seen: Seen,
}

impl Member {
    /// The instance as a member of a stack, if it is one.
    #[must_use]
    pub fn of(seen: Seen) -> Option<Self> {
        let label = |key| seen.record.label(key).map(str::to_owned);
        Some(Self {
            stack: label(STACK)?,
            service: label(SERVICE)?,
            file: label(FILE)?.into(),
            seen,
        })
    }
}

/// All members of all stacks, by name. What cannot be read is nobody's.
///
/// # Errors
/// The folder of instances cannot be read.
pub fn members(instances: &Instances) -> Result<Vec<Member>, Error> {
    let names = instances.names()?;
    let seen = names.iter().filter_map(|name| instances.see(name).ok());
    let mut members: Vec<_> = seen.filter_map(Member::of).collect();
    members.sort_by(|a, b| key(a.seen.name.as_str()).cmp(&key(b.seen.name.as_str())));
    Ok(members)
}

/// The 10th of a service comes after its 9th.
fn key(name: &str) -> (&str, u32) {
    let (service, number) = name.rsplit_once('-').unwrap_or((name, ""));
    (service, number.parse().unwrap_or(0))
}
