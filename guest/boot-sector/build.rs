//! Passes the linker script: the boot code is a flat piece of memory, not a program of an operating system.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=layout.ld");
    println!("cargo::rustc-link-arg-bins=-T{root}/layout.ld");
    println!("cargo::rustc-link-arg-bins=--no-pie");
}
