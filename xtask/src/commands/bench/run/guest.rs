//! What serves: how each guest is started, and when it does what.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use hermitage_boot::control::mark;
use launcher::qemu::Qemu;
use launcher::{AcceleratorChoice, Forward, InstanceName, Machine, Memory, RunRequest};

use super::DEADLINE;
use crate::commands::bench::linux::{self, Linux};
use crate::commands::bench::{probe, stock};
use crate::failure::Failure;

/// Port of kv in the guest.
const KV_PORT: u16 = 9000;

/// Memory of our guests, in megabytes: the launcher's default.
const OUR_MEMORY: u32 = 64;

/// Memory of Linux and of the stock kernel, in megabytes: comfortably above the least that they need.
const THEIR_MEMORY: u32 = 128;

/// What kv says when it listens.
const LISTENING: &str = "server is listening";

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Ours,
    Stock,
    Linux(linux::Machine),
}

/// In the order in which they are measured; the first tells how fast its clock is, which the last needs to know.
pub(super) const SUBJECTS: [(Subject, &str); 4] = [
    (Subject::Ours, "kv"),
    (Subject::Stock, "kv, stock kernel"),
    (Subject::Linux(linux::Machine::Pc), "Linux, pc"),
    (Subject::Linux(linux::Machine::Microvm), "Linux, microvm"),
];

/// Where the yardstick is in [`SUBJECTS`].
pub(super) const LINUX_PC: usize = 2;

/// What is needed to start each subject.
pub(super) struct Bench {
    /// Of kv.
    pub(super) image: PathBuf,
    /// Of kv on the stock kernel, unless that is left out.
    pub(super) stock: Option<PathBuf>,
    pub(super) root: PathBuf,
    pub(super) qemu: Qemu,
    pub(super) linux: Linux,
    /// Frequency of a guest's time-stamp counter.
    pub(super) khz: Cell<Option<u32>>,
}

/// A guest that has answered.
pub(super) struct Guest {
    pub(super) server: SocketAddr,
    pub(super) times: Times,
    running: Running,
}

/// When it reached what, from its launch on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// `None` where a guest does not tell.
    pub(super) main: Option<Duration>,
    pub(super) listening: Duration,
    pub(super) answer: Duration,
}

enum Running {
    Ours(Machine),
    Stock { _machine: Machine },
    Linux { _guest: linux::Guest },
}

impl Guest {
    /// Asks the guest to end, if it can be asked; how long it took.
    pub(super) fn stop(self) -> Option<Duration> {
        match self.running {
            Running::Ours(machine) => {
                let begin = Instant::now();
                machine.stop();
                Some(begin.elapsed())
            }
            Running::Stock { .. } | Running::Linux { .. } => None,
        }
    }
}

impl Bench {
    /// Starts a guest, and waits for its first answer; `None` if it is left out.
    pub(super) fn guest(&self, subject: Subject) -> Result<Option<Guest>, Failure> {
        match (subject, &self.stock) {
            (Subject::Ours, _) => self.ours().map(Some),
            (Subject::Stock, Some(image)) => self.stock(image).map(Some),
            (Subject::Stock, None) => Ok(None),
            (Subject::Linux(machine), _) => self.linux(machine).map(Some),
        }
    }

    fn ours(&self) -> Result<Guest, Failure> {
        let machine = self.start(&format!("bench-{}", std::process::id()))?;
        let begin = machine.started();
        let main = machine.wait_mark(mark::MAIN, DEADLINE)?.at - begin;
        let listening = machine.wait_mark(mark::LISTEN, DEADLINE)?.at - begin;
        self.khz.set(linux::khz_of(&machine));
        let (server, answer) = first_answer(&machine, "kv")?;
        Ok(Guest {
            server,
            times: Times {
                main: Some(main),
                listening,
                answer,
            },
            running: Running::Ours(machine),
        })
    }

    /// Nothing in it knows the control channel, so the clock is a line on the console.
    fn stock(&self, image: &Path) -> Result<Guest, Failure> {
        let name = format!("bench-stock-{}", std::process::id());
        let request = RunRequest {
            qemu_arguments: stock::QEMU_ARGUMENTS.map(str::to_owned).to_vec(),
            ..request(image, &name, THEIR_MEMORY)?
        };
        let (heard, line) = channel();
        let machine = launcher::plan(&request)?.start(&self.root, Ear::new(heard))?;
        let begin = machine.started();
        let listening = line.recv_timeout(DEADLINE).map_err(|_| {
            let console = machine.console().unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            Failure::Failed(format!(
                "kv on the stock kernel did not listen in {DEADLINE:?}; its console:\n{console}"
            ))
        })? - begin;
        let (server, answer) = first_answer(&machine, "kv on the stock kernel")?;
        Ok(Guest {
            server,
            times: Times {
                main: None,
                listening,
                answer,
            },
            running: Running::Stock { _machine: machine },
        })
    }

    fn linux(&self, machine: linux::Machine) -> Result<Guest, Failure> {
        let mut guest = self
            .linux
            .serving(
                &self.qemu.program,
                machine,
                THEIR_MEMORY,
                self.khz.get(),
                DEADLINE,
            )?
            .ok_or_else(|| Failure::Failed(format!("Linux did not serve in {DEADLINE:?}")))?;
        let listening = guest.started.elapsed();
        let (server, begin) = (guest.server, guest.started);
        let answered = probe::first_answer(server, begin + DEADLINE, || guest.has_ended())
            .ok_or_else(|| Failure::Failed(format!("Linux did not answer in {DEADLINE:?}")))?;
        Ok(Guest {
            server,
            times: Times {
                main: None,
                listening,
                answer: answered - begin,
            },
            running: Running::Linux { _guest: guest },
        })
    }

    /// Starts kv as the launcher would.
    pub(super) fn start(&self, name: &str) -> Result<Machine, Failure> {
        let request = RunRequest {
            trace: true,
            ..request(&self.image, name, OUR_MEMORY)?
        };
        Ok(launcher::plan(&request)?.start(&self.root, io::sink())?)
    }
}

fn request(image: &Path, name: &str, megabytes: u32) -> Result<RunRequest, Failure> {
    let failed = |error: launcher::units::ParseError| Failure::Failed(error.to_string());
    let name: InstanceName = name.parse().map_err(failed)?;
    let memory: Memory = format!("{megabytes}M").parse().map_err(failed)?;
    Ok(RunRequest {
        memory,
        // Linux is measured under TCG: with KVM here the ratios would mean nothing.
        accelerator: AcceleratorChoice::Tcg,
        forwards: vec![Forward::tcp_from_any_port(KV_PORT)],
        ..RunRequest::new(image, name)
    })
}

/// The first answer of a machine that listens, and when it came, from the launch on.
fn first_answer(machine: &Machine, what: &str) -> Result<(SocketAddr, Duration), Failure> {
    let (server, begin) = (server_of(machine)?, machine.started());
    let over = || machine.wait_for(Duration::ZERO).is_some();
    let answered = probe::first_answer(server, begin + DEADLINE, over)
        .ok_or_else(|| Failure::Failed(format!("{what} did not answer in {DEADLINE:?}")))?;
    Ok((server, answered - begin))
}

pub(super) fn server_of(machine: &Machine) -> Result<SocketAddr, Failure> {
    let forward = machine.spec().forwards.first();
    forward
        .map(|forward| SocketAddr::V4(forward.host))
        .ok_or_else(|| Failure::Failed("the guest has no port".to_owned()))
}

/// A console on which a line is waited for: [`LISTENING`].
struct Ear {
    line: Vec<u8>,
    heard: Sender<Instant>,
}

impl Ear {
    fn new(heard: Sender<Instant>) -> Self {
        Self {
            line: Vec::new(),
            heard,
        }
    }
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' {
                if String::from_utf8_lossy(&self.line).contains(LISTENING) {
                    // Nobody waits for the line a second time.
                    let _ = self.heard.send(Instant::now());
                }
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yardstick_is_linux_on_a_pc() {
        assert_eq!(SUBJECTS[LINUX_PC].0, Subject::Linux(linux::Machine::Pc));
    }

    #[test]
    fn a_line_is_heard_however_it_comes() {
        let (heard, line) = channel();
        let mut ear = Ear::new(heard);
        ear.write_all(b"[0.1][INFO] up\nserver is li").unwrap();
        assert!(line.try_recv().is_err());
        ear.write_all(b"stening on 9000\r\n").unwrap();
        assert!(line.try_recv().is_ok());
    }
}
