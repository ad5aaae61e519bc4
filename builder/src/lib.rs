//! From a manifest to an image.
//!
//! `package.yaml -> Manifest -> Resolution -> ServiceBinary -> Tree -> Image`: each arrow is a module, and data
//! flows one way through plain values. The library never prints and never exits: it tells an
//! [`event::Observer`] what happens, and returns values and errors; an error's advice is its `hint()`.
//!
//! - the guest toolchain, and the compile stages that use it;
//! - composition of the image.
//!
//! It does not own how an image is run; that is the launcher's.

pub mod cache;
pub mod cargo;
pub mod compose;
mod digest;
pub mod environment;
pub mod event;
pub mod image;
pub mod kernel;
pub mod libhermit;
pub mod loader;
pub mod manifest;
pub mod package;
pub mod process;
pub mod service;
pub mod session;
pub mod sources;
pub mod toolchain;
pub mod tree;
