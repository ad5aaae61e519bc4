//! The launcher: image to running instance. It does not depend on the builder: running needs no toolchain.
//!
//! Data flows one way, through plain values:
//!
//! `RunRequest -> MachineSpec -> CommandLine -> QEMU -> GuestExit`
//!
//! - [`units`], [`forward`], [`cpu`], [`volume`]: the values that a request is made of, each checked where it is parsed;
//! - [`spec`]: what a user asks for, and what a machine is; a pure function between them;
//! - [`network`]: how it is connected;
//! - [`accelerator`], [`qemu`]: what this host has;
//! - [`command_line`]: QEMU's arguments, a pure function of the spec;
//! - [`launch`]: a plan, and carrying it out;
//! - [`machine`]: a machine that runs; [`exit`]: how it ended.
//!
//! An instance lasts longer than its machine, and than the process that started it:
//!
//! - [`instance`]: instances on disk: what each one is and does; [`log`]: their consoles;
//! - [`lifecycle`]: runs one, restarts included; [`detach`]: in a process of its own;
//! - [`service`]: how others stop it, wait for it, attach to it; [`usage`]: what it uses of this host.
//!
//! It never prints and never exits. Start reading at [`launch::plan`], then at [`instance`].

pub mod accelerator;
pub mod command_line;
mod console;
pub mod cpu;
pub mod detach;
pub mod environment;
pub mod error;
pub mod exit;
pub mod forward;
pub mod instance;
pub mod launch;
pub mod lifecycle;
pub mod log;
pub mod machine;
mod monitor;
pub mod network;
mod process;
pub mod qemu;
pub mod service;
pub mod spec;
mod supervisor;
pub mod time;
pub mod units;
pub mod usage;
pub mod volume;

pub use accelerator::AcceleratorChoice;
pub use error::Error;
pub use exit::GuestExit;
pub use forward::Forward;
pub use instance::{Instance, Instances, Users, instances_on};
pub use launch::{Launch, plan, plan_below};
pub use machine::Machine;
pub use network::Network;
pub use network::lan::CardChoice;
pub use spec::{Entry, Firmware, MachineSpec, MachineType, RunRequest};
pub use supervisor::Refusal;
pub use units::{Cpus, InstanceName, MacAddress, Memory, Variable};
