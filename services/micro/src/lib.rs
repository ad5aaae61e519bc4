//! What the services of the example application share.
//!
//! It owns how a service is told what to do ([`settings`]), how services find each other ([`directory`],
//! [`registration`], [`address`]), talk to each other ([`client`], [`form`]) what they say of a task ([`task`])
//! and how they keep what is to outlive them ([`volume`]).
//! It does not own routes nor serving: those are the services' and `hermitage_http`'s. The same source is linked into
//! programs of the host and roles of a guest.
//!
//! Start reading at [`directory`].

pub mod address;
pub mod client;
pub mod directory;
pub mod form;
pub mod registration;
pub mod service;
pub mod settings;
pub mod task;
pub mod volume;

pub use client::{Client, ClientError};
pub use directory::{Directory, LookupError, Peer};
pub use service::{ServiceError, print_line, run};
pub use settings::Settings;
