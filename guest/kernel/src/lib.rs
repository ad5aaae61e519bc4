//! Nothing: this package only names the kernel's version, see `Cargo.toml`.
#![no_std]
