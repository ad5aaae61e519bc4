//! The loader's pure half: what needs no bare machine, and is tested on the host.
//!
//! - [`memory`]: the memory map that firmware gives, made sorted and disjoint;
//! - [`mmio`]: where devices are that cannot be found by asking;
//! - [`disk`]: byte reads on a disk of sectors, and [`gpt`], which finds the partitions on it;
//! - [`command`]: which boot configuration counts, and the role in it;
//! - [`program`]: reads a role's program from the file system and judges it;
//! - [`device_tree`]: what the kernel is told;
//! - [`error`]: why a boot fails, in words.
//!
//! The other half, `main.rs` and `machine/`, touches ports, page tables and devices. Start reading there.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod command;
pub mod device_tree;
pub mod disk;
pub mod error;
pub mod gpt;
/// The partitions of an image: plain constants of `hermitage-disk`, which as a whole needs `std`.
#[path = "../../../formats/disk/src/layout.rs"]
pub mod layout;
pub mod memory;
pub mod mmio;
pub mod program;
