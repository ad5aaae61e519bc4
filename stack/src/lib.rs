//! Stacks: services that are one application, kept as their `stack.yaml` says.
//!
//! `stack.yaml -> Stack -> Wanted, Found -> Step -> instances`
//!
//! - [`manifest`]: `stack.yaml`, checked;
//! - [`member`]: an instance as a stack wants it, and how one is known to belong to a stack;
//! - [`plan`]: what is to be done so that what runs is what was asked for; a pure function;
//! - [`ready`]: asks a service whether it is ready;
//! - [`run`]: carries a plan out, by the launcher.
//!
//! What a stack is, is nowhere but in its instances: their labels say to which stack and service they belong, and their
//! records what they were made from. So a stack has no state of its own that could be wrong. It owns neither instances nor
//! images, and never prints. Start reading at [`plan`].

pub mod manifest;
pub mod member;
pub mod plan;
pub mod ready;
pub mod run;

pub use manifest::{Stack, StackError};
pub use run::{Event, RunError, Runner};
