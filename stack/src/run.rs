//! Carries a plan out, by the launcher.
//!
//! ```text
//! up:    plan -> network -> remove, service by service -> each instance: its services are ready -> start -> is it ready?
//! down:  stop and remove, service by service -> network
//! ```
//! Failure paths: an instance cannot be started, ends before it is ready, or is not ready in time: those that wait for
//! its service are not started, what runs stays, and the next `up` goes on from there. Whoever calls is killed: the same.

mod board;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hermitage_network::store::StoreError;
use hermitage_network::{NetworkName, Settings, Store};
use launcher::detach::{self, Handover};
use launcher::instance::Options;
use launcher::machine::STOP_PATIENCE;
use launcher::volume::{VolumeError, VolumeName, Volumes};
use launcher::{Error, Instance, InstanceName, Instances, Launch, Network, service};

use self::board::Board;
use crate::manifest::{OwnVolume, Ready, Stack};
use crate::member::{Member, members};
use crate::plan::{Action, Found, Step, plan, stop_order};
use crate::ready::{self, NotReady};

/// How often a service is asked that is not ready. It answers within a millisecond.
const PERIOD: Duration = Duration::from_millis(10);

/// How long a network may still have guests that have ended.
const LETTING_GO: Duration = Duration::from_secs(5);

/// What happens, for who wants to tell it.
#[derive(Clone, Debug)]
pub enum Event {
    /// Machines are slower than they could be.
    Fallback(String),
    /// A volume was made.
    Made(VolumeName),
    /// A volume is gone.
    VolumeRemoved(VolumeName),
    /// A guest runs that did not.
    Started(String),
    /// A service of a guest is ready, so long after the start.
    Ready(String, Duration),
    /// An instance ended, since it was to.
    Stopped(String),
    /// An instance is gone.
    Removed(String),
}

/// Why a stack is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The launcher cannot do something.
    #[error(transparent)]
    Launcher(#[from] Error),
    /// The stack's network cannot be used.
    #[error(transparent)]
    Network(#[from] StoreError),
    /// An instance's name cannot be one.
    #[error(transparent)]
    Name(#[from] launcher::units::ParseError),
    /// An instance was not started; its supervisor has said why.
    #[error("`{name}` was not started")]
    NotStarted {
        /// The instance.
        name: String,
        /// Its supervisor's exit code.
        code: Option<i32>,
    },
    /// An instance ended before it was ready.
    #[error("`{name}` ended before it was ready: {end}")]
    Ended {
        /// The instance.
        name: String,
        /// How.
        end: String,
    },
    /// An instance was not ready in time.
    #[error("`{name}` is not ready after {} s", patience.as_secs())]
    NotReady {
        /// The instance.
        name: String,
        /// How long it was asked.
        patience: Duration,
        /// What it said last.
        source: NotReady,
    },
}

impl RunError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Launcher(error) => error.hint(),
            Self::Ended { name, .. } | Self::NotReady { name, .. } => {
                Some(format!("`cargo xtask logs {name}` has its console"))
            }
            _ => None,
        }
    }
}

/// Runs stacks.
pub struct Runner<'a> {
    /// The folder of the user's instances and networks.
    pub root: &'a Path,
    /// The program that supervises an instance: see [`detach::hand_over`].
    pub supervisor: &'a (dyn Fn(&InstanceName) -> Command + Sync),
    /// Who is told what happens.
    pub observer: &'a (dyn Fn(Event) + Sync),
}

/// An instance that is wanted, and what it is made from.
struct Planned {
    launch: Launch,
    options: Options,
}

impl Runner<'_> {
    /// Makes of what runs what the stack says, on an image; of its service `only`, if there is one. Returns when all is
    /// ready, and gives what was done.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn up(&self, stack: &Stack, image: &Path, only: Option<&str>) -> Result<Vec<Step>, RunError> {
        self.make_volumes(stack)?;
        let instances = Instances::below(self.root)?;
        let concerns = |service: &str| only.is_none_or(|only| only == service);
        let mut planned = Vec::new();
        let mut names = Vec::new();
        for wanted in stack.wanted(image)? {
            if concerns(&wanted.service) {
                names.push((wanted.request.name.to_string(), wanted.service));
                let (launch, options) = (
                    launcher::plan_below(&wanted.request, Some(self.root))?,
                    wanted.options,
                );
                planned.push(Planned { launch, options });
            }
        }
        if let Some(why) = planned.first().and_then(|planned| planned.launch.fallback()) {
            (self.observer)(Event::Fallback(why.to_string()));
        }
        let there = self.members(stack.name.as_str(), &instances)?;
        let there: Vec<_> = there
            .into_iter()
            .filter(|member| concerns(&member.service))
            .collect();
        let services: Vec<_> = stack
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        let steps = plan(&names, &found(&there, &planned), &services);
        self.make_network(stack)?;
        let removed = there.into_iter().filter(|member| {
            let is_it = |step: &Step| step.name == member.seen.name.as_str();
            steps
                .iter()
                .any(|step| is_it(step) && step.action == Action::Remove)
        });
        self.end_all(&instances, removed.collect(), &services, true)?;
        let kept = steps.iter().filter(|step| step.action != Action::Remove);
        self.bring_up(stack, &instances, kept.zip(planned).collect())?;
        Ok(steps)
    }

    /// Stops all instances of a stack. `services` are in the order in which they start, as far as it is known.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn stop(&self, stack: &str, services: &[&str]) -> Result<(), RunError> {
        let instances = Instances::below(self.root)?;
        let members = self.members(stack, &instances)?;
        self.end_all(&instances, members, services, false)
    }

    /// Stops and removes all instances of a stack, and its network, if that is its own.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn down(&self, stack: &str, services: &[&str]) -> Result<(), RunError> {
        let instances = Instances::below(self.root)?;
        let members = self.members(stack, &instances)?;
        let own = members
            .iter()
            .find_map(|member| match &member.seen.record.request.network {
                Network::Lan(name) if name.as_str() == stack => Some(name.clone()),
                _ => None,
            });
        self.end_all(&instances, members, services, true)?;
        own.map_or(Ok(()), |network| self.remove_network(&network))
    }

    fn members(&self, stack: &str, instances: &Instances) -> Result<Vec<Member>, RunError> {
        let mut members = members(instances)?;
        members.retain(|member| member.stack == stack);
        Ok(members)
    }

    /// The stack's own volumes are made when they are missing.
    fn make_volumes(&self, stack: &Stack) -> Result<(), RunError> {
        let volumes = Volumes::new(self.root);
        let known = volumes.names()?;
        for OwnVolume { name, size } in &stack.volumes {
            if known.contains(name) {
                continue;
            }
            match volumes.create(name, *size) {
                Ok(_) => (self.observer)(Event::Made(name.clone())),
                // Another `up` did.
                Err(Error::Volume(VolumeError::Exists { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes volumes of a stack, those that are there, with their snapshots.
    ///
    /// # Errors
    /// An instance uses one; a file cannot be removed.
    pub fn remove_volumes(&self, names: &[VolumeName]) -> Result<(), RunError> {
        let volumes = Volumes::new(self.root);
        let known = volumes.names()?;
        for name in names.iter().filter(|name| known.contains(name)) {
            volumes.remove(name, true)?;
            (self.observer)(Event::VolumeRemoved(name.clone()));
        }
        Ok(())
    }

    /// A network that the stack does not share is made when it is missing.
    fn make_network(&self, stack: &Stack) -> Result<(), RunError> {
        let store = Store::new(self.root);
        match store.settings(stack.network()) {
            Err(StoreError::Unknown { name, .. }) if stack.network.is_none() => {
                match store.create(&name, &Settings::default()) {
                    // Another `up` did.
                    Err(StoreError::Exists(_)) => Ok(()),
                    made => Ok(made?),
                }
            }
            settings => Ok(settings.map(drop)?),
        }
    }

    fn remove_network(&self, network: &NetworkName) -> Result<(), RunError> {
        let store = Store::new(self.root);
        let begin = Instant::now();
        loop {
            match store.remove(network) {
                // Its process learns of their ends a moment later.
                Err(StoreError::InUse { .. }) if begin.elapsed() < LETTING_GO => thread::sleep(PERIOD),
                // Somebody else removed it.
                Ok(()) | Err(StoreError::Unknown { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends instances: each service before those that it depends on, the instances of one at once.
    fn end_all(
        &self,
        instances: &Instances,
        mut members: Vec<Member>,
        services: &[&str],
        remove: bool,
    ) -> Result<(), RunError> {
        let place = |member: &Member| stop_order(services, &member.service);
        members.sort_by_key(place);
        for group in members.chunk_by(|a, b| place(a) == place(b)) {
            thread::scope(|scope| {
                let end = |member| scope.spawn(move || self.end(instances, member, remove));
                let ended: Vec<_> = group.iter().map(end).collect();
                ended.into_iter().try_for_each(joined)
            })?;
        }
        Ok(())
    }

    fn end(&self, instances: &Instances, member: &Member, remove: bool) -> Result<(), RunError> {
        let name = &member.seen.name;
        match service::stop(&member.seen, STOP_PATIENCE) {
            Ok(_) if !remove => (self.observer)(Event::Stopped(name.to_string())),
            Ok(_) | Err(Error::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if remove {
            instances.make_room(name)?;
            (self.observer)(Event::Removed(name.to_string()));
        }
        Ok(())
    }

    /// Starts what is to run, each in a thread that first waits for the services that it depends on.
    fn bring_up(
        &self,
        stack: &Stack,
        instances: &Instances,
        steps: Vec<(&Step, Planned)>,
    ) -> Result<(), RunError> {
        let board = Board::new(steps.iter().map(|(step, _)| step.service.clone()));
        let failure = Mutex::new(None);
        thread::scope(|scope| {
            for (step, planned) in steps {
                let (board, failure) = (&board, &failure);
                scope.spawn(move || {
                    let Some(service) = stack.services.iter().find(|service| service.name == step.service)
                    else {
                        return;
                    };
                    if !board.wait_for(&service.depends_on) {
                        return;
                    }
                    let _guard = board.unless_done();
                    let started = self.start(instances, step, planned);
                    let ready = started.and_then(|()| {
                        let Some(ready) = &service.ready else {
                            return Ok(());
                        };
                        self.wait_ready(instances, stack.network(), &step.name, ready, board)
                    });
                    match ready {
                        Ok(()) => board.ready(&step.service),
                        Err(error) => {
                            board.fail();
                            failure
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .get_or_insert(error);
                        }
                    }
                });
            }
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), Err)
    }

    fn start(&self, instances: &Instances, step: &Step, planned: Planned) -> Result<(), RunError> {
        let name: InstanceName = step.name.parse()?;
        let create = |planned: Planned| instances.create(&planned.launch, planned.options);
        let instance = match step.action {
            Action::Keep | Action::Remove => return Ok(()),
            Action::Start => instances.open(&name)?,
            Action::Create => create(planned)?,
            Action::Replace => {
                match service::stop(&instances.see(&name)?, STOP_PATIENCE) {
                    Ok(_) | Err(Error::NotRunning { .. }) => instances.make_room(&name)?,
                    Err(error) => return Err(error.into()),
                }
                create(planned)?
            }
        };
        self.hand_over(instance)?;
        (self.observer)(Event::Started(step.name.clone()));
        Ok(())
    }

    fn hand_over(&self, instance: Instance) -> Result<(), RunError> {
        let name = instance.name().clone();
        match detach::hand_over(instance, self.root, (self.supervisor)(&name))? {
            Handover::Running => Ok(()),
            Handover::Failed(code) => {
                let name = name.to_string();
                Err(RunError::NotStarted { name, code })
            }
        }
    }

    fn wait_ready(
        &self,
        instances: &Instances,
        network: &NetworkName,
        name: &str,
        ready: &Ready,
        board: &Board,
    ) -> Result<(), RunError> {
        let folder = Store::new(self.root).folder(network);
        let instance: InstanceName = name.parse()?;
        let begin = Instant::now();
        loop {
            let Err(source) = ready::ask(&folder, name, ready) else {
                (self.observer)(Event::Ready(name.to_owned(), begin.elapsed()));
                return Ok(());
            };
            let state = instances.see(&instance)?.state;
            let name = name.to_owned();
            if !state.phase.is_supervised() {
                let end = state.end.map_or_else(String::new, |end| end.text);
                return Err(RunError::Ended { name, end });
            }
            // Where another failed, nobody waits for this one any more.
            if begin.elapsed() > ready.patience || board.has_failed() {
                let patience = ready.patience;
                return Err(RunError::NotReady {
                    name,
                    patience,
                    source,
                });
            }
            thread::sleep(PERIOD);
        }
    }
}

/// What is there, beside what is wanted.
fn found(there: &[Member], planned: &[Planned]) -> Vec<Found> {
    let is_current = |member: &Member| {
        planned.iter().any(|planned| {
            planned.launch.request().name == member.seen.name
                && member.seen.record.is_of(&planned.launch, planned.options)
        })
    };
    there
        .iter()
        .map(|member| Found {
            name: member.seen.name.to_string(),
            service: member.service.clone(),
            is_current: is_current(member),
            runs: member.seen.state.phase.is_supervised(),
        })
        .collect()
}

fn joined(thread: thread::ScopedJoinHandle<'_, Result<(), RunError>>) -> Result<(), RunError> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
