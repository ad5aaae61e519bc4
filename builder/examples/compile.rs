//! Compiles a service for the guest and says what happens:
//! `cargo run -p hermitage-builder --example compile -- services/kv kv`.

use std::process::ExitCode;

use builder::environment::Environment;
use builder::event::Event;
use builder::libhermit::Libhermit;
use builder::loader::build_loader;
use builder::service::{ServiceSpec, build_services};
use builder::session::Session;
use builder::toolchain::GuestToolchain;

fn main() -> ExitCode {
    let observer = |event: &Event| match event {
        Event::Diagnostics(text) => eprintln!("{text}"),
        event => eprintln!("{event:?}"),
    };
    let session = Session {
        workspace: std::env::current_dir().unwrap_or_default(),
        environment: Environment::read(),
        observer: &observer,
    };
    match run(&session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  caused by: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(session: &Session<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let services: Vec<_> = arguments
        .chunks_exact(2)
        .map(|pair| ServiceSpec {
            crate_dir: pair[0].clone().into(),
            bin: pair[1].clone(),
            features: Vec::new(),
            mounts_data: false,
        })
        .collect();
    let toolchain = GuestToolchain::provide(session)?;
    let libhermit = Libhermit::build(session, &toolchain)?;
    println!("{}", libhermit.archive.display());
    println!("loader: {} bytes", build_loader(session, &toolchain)?.elf.len());
    for binary in build_services(session, &toolchain, &libhermit, &services)? {
        println!(
            "{} {} bytes, symbols {}",
            binary.path.display(),
            binary.size,
            binary.symbols.display()
        );
    }
    Ok(())
}
