//! From a manifest to an image.
//!
//! `package.yaml -> Manifest -> Resolution -> ServiceBinary -> Tree -> Image`: each arrow is a module, and data
//! flows one way through plain values. The library never prints and never exits: it tells an
//! [`event::Observer`] what happens, and returns values and errors; an error's advice is its `hint()`.
//!
//! - [`manifest`]: `package.yaml`, checked; [`resolve`]: what it requires, in order; [`package`]: all stages of a package;
//! - [`toolchain`]: the Rust 1.85.0 that compiles guests, found or provided on first use;
//! - [`libhermit`] (from the source that [`kernel`] prepares), [`loader`], [`service`]: the compile stages, each made
//!   again only when a digest of its inputs changes; [`sources`] and [`cargo`] are how they build, [`patch`] is how the
//!   kernel and, in [`library`], Rust's `std` are mended;
//! - [`gather`], [`ignore`], [`tree`], [`image`], [`compose`]: what is in an image, where it lies on the disk, and how it gets there;
//! - [`update`]: changes an image that is there, with the help of an index beside it;
//! - [`images`]: removes and renames images, with what lies beside them;
//! - [`inspect`]: composed images, looked at without booting;
//! - [`archive`], [`repository`]: packages as files, and where the user keeps them;
//! - [`session`], [`environment`], [`event`], [`cache`], [`process`]: what all of them stand on.
//!
//! It does not own how an image is run; that is the launcher's. Start reading at [`package`].

pub mod archive;
pub mod cache;
pub mod cargo;
pub mod compose;
mod digest;
pub mod environment;
pub mod event;
mod folder;
pub mod gather;
pub mod ignore;
pub mod image;
pub mod images;
mod index;
pub mod inspect;
pub mod kernel;
pub mod libhermit;
mod library;
pub mod loader;
pub mod manifest;
pub mod package;
mod patch;
pub mod process;
pub mod repository;
pub mod resolve;
pub mod service;
pub mod session;
pub mod sources;
pub mod suggest;
pub mod toolchain;
pub mod tree;
pub mod update;
