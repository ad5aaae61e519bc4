//! Passes the linker script, where the loader is built for the bare machine; its pure half is tested on the host.

fn main() {
    println!("cargo::rerun-if-changed=layout.ld");
    println!("cargo::rerun-if-changed=src/machine/entry.s");
    println!("cargo::rerun-if-changed=src/machine/interrupts.s");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{root}/layout.ld");
        println!("cargo::rustc-link-arg-bins=--no-pie");
    }
}
