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
//! It never prints and never exits. Start reading at [`launch::plan`].

pub mod accelerator;
pub mod command_line;
pub mod cpu;
pub mod environment;
pub mod error;
pub mod exit;
pub mod forward;
mod instance;
pub mod launch;
pub mod machine;
mod monitor;
pub mod network;
mod process;
pub mod qemu;
pub mod spec;
mod supervisor;
pub mod units;
pub mod volume;

pub use accelerator::AcceleratorChoice;
pub use error::Error;
pub use exit::GuestExit;
pub use forward::Forward;
pub use instance::{Users, instances_on};
pub use launch::{Launch, plan};
pub use machine::Machine;
pub use network::Network;
pub use spec::{Entry, Firmware, MachineSpec, MachineType, RunRequest};
pub use units::{Cpus, InstanceName, MacAddress, Memory, Variable};
