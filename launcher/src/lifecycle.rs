//! The life of an instance in the process that supervises it: from its start to its end, restarts included.
//!
//! ```text
//! supervise() -> Supervised -- wait() --> GuestExit
//!      |             |
//!      |             +- stop(), kill(): from this process, or through the instance's socket from others
//!      +- fails: an instance that never ran is removed, another one has ended
//! ```
//!
//! One thread owns the [`Instance`], and its machines one after the other; it writes down what happens. When it is done,
//! the lock is free, and those who wait are told.
//!
//! Failures: QEMU is killed (the run ends as lost, the restart policy decides), this process is killed (QEMU dies with it;
//! [`State::now`](crate::instance::State) tells), the host's disk is full (the guest stands still until there is room; its
//! log has a gap; the state on disk may be older than the truth), an instance cannot be started again (that is a failed
//! run, and the policy decides).

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::console::Outputs;
use crate::error::Error;
use crate::exit::GuestExit;
use crate::instance::{Instance, Phase, Restarts};
use crate::launch::Launch;
use crate::machine::{Machine, Stopped};
use crate::process::ProcessId;
use crate::service::Service;
use crate::spec::MachineSpec;
use crate::supervisor::{News, Refusal};
use crate::units::InstanceName;
use crate::usage::Traffic;

/// How often the disk is looked at that was full.
const ROOM_PERIOD: Duration = Duration::from_secs(1);

/// Room on the disk with which a guest goes on that stood still without: some clusters of its overlay (64 KiB each), so
/// that it does not stop again at once.
const ROOM: u64 = 1 << 20;

/// An instance that this process supervises.
#[derive(Debug)]
pub struct Supervised {
    control: Arc<Control>,
    spec: MachineSpec,
    service: Service,
    owner: JoinHandle<()>,
}

/// What is shared between the thread that owns the instance and those who want something of it.
#[derive(Debug)]
pub(crate) struct Control {
    status: Mutex<Status>,
    changed: Condvar,
    pub(crate) outputs: Arc<Outputs>,
}

#[derive(Debug, Default)]
struct Status {
    machine: Option<Arc<Machine>>,
    /// Somebody wants it to end: it is not started again.
    asked: bool,
    /// Others want it to have another name, which its owner gives it.
    renames: Vec<Rename>,
    end: Option<GuestExit>,
}

/// A name that is wanted, and where to say whether it was given. Nothing is said of one that has ended.
#[derive(Debug)]
struct Rename {
    to: InstanceName,
    done: SyncSender<Result<(), Error>>,
}

/// Starts `instance` by `launch`, its own plan, and supervises it. Its console goes to `front`, too.
///
/// When this returns, the guest runs.
///
/// # Errors
/// It cannot be started: see [`Launch::start`].
pub fn supervise(
    mut instance: Instance,
    launch: Launch,
    front: impl Write + Send + 'static,
) -> Result<Supervised, Error> {
    let options = instance.record().options;
    let outputs = Outputs::new(instance.folder(), options.log, Box::new(front));
    let control = Arc::new(Control {
        status: Mutex::default(),
        changed: Condvar::new(),
        outputs,
    });
    let started = boot(&mut instance, launch, &control);
    let (machine, service) = match started {
        Ok(started) => started,
        Err(error) => {
            give_up(instance, &error);
            return Err(error);
        }
    };
    let spec = machine.spec().clone();
    control.change(|status| status.machine = Some(Arc::clone(&machine)));
    let service = service.serve(&control);
    let owner = {
        let control = Arc::clone(&control);
        thread::spawn(move || own(instance, machine, &control))
    };
    Ok(Supervised {
        control,
        spec,
        service,
        owner,
    })
}

/// Plans and starts an instance: see [`supervise`].
///
/// # Errors
/// Those of [`Instance::plan`] and [`supervise`].
pub fn start(instance: Instance, front: impl Write + Send + 'static) -> Result<Supervised, Error> {
    match instance.plan() {
        Ok(launch) => supervise(instance, launch, front),
        Err(error) => {
            give_up(instance, &error);
            Err(error)
        }
    }
}

fn boot(
    instance: &mut Instance,
    launch: Launch,
    control: &Control,
) -> Result<(Arc<Machine>, crate::service::Listener), Error> {
    // Before QEMU: an instance that is seen to run can be talked to.
    let service = Service::listen(instance.folder())?;
    let _volumes = launch.hold_volumes(instance)?;
    let machine = launch.boot(instance, &control.outputs)?;
    let supervisor = ProcessId::own().ok();
    let started = instance.change(|state| {
        state.restarts = 0;
        state.supervisor = supervisor;
        state.start(machine.process(), machine.spec());
    });
    started?;
    instance.reserve();
    Ok((Arc::new(machine), service))
}

/// An instance could not be started. Without a first run there is nothing to keep.
fn give_up(mut instance: Instance, error: &Error) {
    // That it could not be started is what the user must know, whatever else fails here.
    let _ = if instance.state().phase == Phase::Created {
        instance.remove()
    } else {
        instance.change(|state| state.finish(Phase::Exited, &GuestExit::not_started(error)))
    };
}

/// Owns the instance to its end.
fn own(mut instance: Instance, mut machine: Arc<Machine>, control: &Control) {
    let mut restarts = Restarts::default();
    let exit = loop {
        let exit = watch(&mut instance, &machine, control);
        let time = machine.started().elapsed();
        control.change(|status| status.machine = None);
        // Those who stop it hold it a moment longer; its files are its own until then.
        drop(machine);
        match start_again(&mut instance, control, &mut restarts, exit, time) {
            Ok(started) => machine = started,
            Err(exit) => break exit,
        }
    };
    let _ = if instance.record().options.remove {
        let _ = Service::remove_socket(instance.folder());
        instance.remove()
    } else {
        // The end before the socket goes: who finds no socket finds the end.
        let changed = instance.change(|state| state.finish(Phase::Exited, &exit));
        let _ = Service::remove_socket(instance.folder());
        // With its lock, before anybody is told: who waited may start it again.
        drop(instance);
        changed
    };
    control.outputs.detach_all();
    control.change(|status| {
        status.renames.clear();
        status.end = Some(exit);
    });
}

/// Gives the instance the names that are wanted.
fn rename(instance: &mut Instance, control: &Control) {
    let renames = std::mem::take(&mut control.status().renames);
    for Rename { to, done } in renames {
        let renamed = instance.rename(&to);
        control.outputs.moved(instance.folder());
        // Who wanted it waits for it, or has gone away.
        let _ = done.send(renamed);
    }
}

/// Follows a run to its end, and writes down what changes.
fn watch(instance: &mut Instance, machine: &Machine, control: &Control) -> GuestExit {
    let mut known = News::default();
    loop {
        rename(instance, control);
        let deadline = known.disk_full.then(|| Instant::now() + ROOM_PERIOD);
        let news = machine.shared().wait_until(deadline, |state| {
            let is_new = state.news != known || state.exit.is_some() || !control.status().renames.is_empty();
            is_new.then(|| (state.news.clone(), state.exit.clone()))
        });
        match news {
            Some((_, Some(exit))) => return exit,
            Some((news, None)) => {
                // Without room even for this, it is tried again when the guest goes on.
                let _ = instance.change(|state| state.update(&news));
                if !news.disk_full {
                    instance.reserve();
                }
                known = news;
            }
            None if has_room(instance.folder()) => machine.shared().go_on(),
            None => {}
        }
    }
}

/// Starts the instance again, if its policy says so and nobody wants it to end. Otherwise gives how it ended.
fn start_again(
    instance: &mut Instance,
    control: &Control,
    restarts: &mut Restarts,
    mut exit: GuestExit,
    mut time: Duration,
) -> Result<Arc<Machine>, GuestExit> {
    loop {
        let asked = control.status().asked;
        let pause = restarts.pause(instance.record().options.restart, &exit, time);
        let Some(pause) = pause.filter(|_| !asked) else {
            return Err(exit);
        };
        let _ = instance.change(|state| state.finish(Phase::Restarting, &exit));
        let end = Instant::now() + pause;
        while control.wants_name_until(end) {
            rename(instance, control);
        }
        if control.status().asked {
            return Err(exit);
        }
        let begin = Instant::now();
        let started = instance.plan().and_then(|launch| {
            let volumes = launch.hold_volumes(instance)?;
            Ok((launch.boot(instance, &control.outputs)?, volumes))
        });
        match started {
            Ok((machine, volumes)) => {
                let _ = instance.change(|state| {
                    state.restarts = state.restarts.saturating_add(1);
                    state.start(machine.process(), machine.spec());
                });
                drop(volumes);
                let machine = Arc::new(machine);
                // One who wants it to end meanwhile has found no machine to stop.
                let asked = {
                    let mut status = control.status();
                    status.machine = Some(Arc::clone(&machine));
                    status.asked
                };
                control.changed.notify_all();
                if asked {
                    machine.stop();
                }
                return Ok(machine);
            }
            Err(error) => {
                exit = GuestExit::not_started(&error);
                time = begin.elapsed();
            }
        }
    }
}

fn has_room(folder: &Path) -> bool {
    let room = |disk: rustix::fs::StatVfs| disk.f_bavail.saturating_mul(disk.f_frsize);
    rustix::fs::statvfs(folder).is_ok_and(|disk| room(disk) >= ROOM)
}

impl Supervised {
    /// What its first machine is, with the ports that were chosen.
    #[must_use]
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// Stops it: see [`Machine::stop_within`]. It is not started again.
    pub fn stop(&self, patience: Duration) -> (Stopped, GuestExit) {
        self.control.stop(patience)
    }

    /// Kills QEMU. It is not started again.
    pub fn kill(&self) -> GuestExit {
        self.control.kill()
    }

    /// Waits until it has ended, and is not started again. Its lock is free then.
    #[must_use]
    pub fn wait(&self) -> GuestExit {
        self.control.wait()
    }

    /// Waits for its end, and until all who asked through its socket have their answer.
    pub fn finish(self) -> GuestExit {
        let exit = self.control.wait();
        self.service.finish();
        // It panics with us or not at all; either way it is over.
        let _ = self.owner.join();
        exit
    }
}

impl Control {
    fn status(&self) -> MutexGuard<'_, Status> {
        // No thread leaves it half changed.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status());
        self.changed.notify_all();
    }

    /// Says that it is to end; gives the machine that is to be ended, if there is one at the moment.
    fn ask(&self) -> Option<Arc<Machine>> {
        let mut machine = None;
        self.change(|status| {
            status.asked = true;
            machine.clone_from(&status.machine);
        });
        machine
    }

    pub(crate) fn stop(&self, patience: Duration) -> (Stopped, GuestExit) {
        let stopped = self
            .ask()
            .map_or(Stopped::ByItself, |machine| machine.stop_within(patience));
        (stopped, self.wait())
    }

    pub(crate) fn kill(&self) -> GuestExit {
        if let Some(machine) = self.ask() {
            machine.kill();
        }
        self.wait()
    }

    /// Does something with the machine, if there is one at the moment.
    pub(crate) fn with_machine(
        &self,
        act: impl FnOnce(&Machine) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let machine = self.status().machine.clone();
        let machine = machine.ok_or_else(|| Refusal::certain("it has no machine at the moment"))?;
        act(&machine)
    }

    /// What went over the guest's network card, as far as it says so.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        let machine = self.status().machine.clone();
        machine?.shared().ask_for_traffic()
    }

    pub(crate) fn wait(&self) -> GuestExit {
        let mut status = self.status();
        loop {
            if let Some(end) = &status.end {
                return end.clone();
            }
            status = self.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits, unless somebody wants it to end; gives whether it is to have another name first.
    fn wants_name_until(&self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.status(), left, |status| {
            !status.asked && status.renames.is_empty()
        });
        let status = waited.unwrap_or_else(PoisonError::into_inner).0;
        !status.asked && !status.renames.is_empty()
    }

    /// Has its owner give it another name; `None` if it has ended.
    pub(crate) fn rename(&self, to: InstanceName) -> Option<Result<(), Error>> {
        let (done, renamed) = sync_channel(1);
        let machine = {
            let mut status = self.status();
            if status.end.is_some() {
                return None;
            }
            status.renames.push(Rename { to, done });
            status.machine.clone()
        };
        // Its owner waits for news of the machine, or for the end of a pause.
        self.changed.notify_all();
        if let Some(machine) = machine {
            machine.shared().change(|_| ());
        }
        renamed.recv().ok()
    }
}
