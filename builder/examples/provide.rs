//! Provides the guest toolchain and says what happens: `cargo run -p hermitage-builder --example provide`.

use std::process::ExitCode;

use builder::environment::Environment;
use builder::event::Event;
use builder::session::Session;
use builder::toolchain::{GuestToolchain, probe};

fn main() -> ExitCode {
    let observer = |event: &Event| eprintln!("{event:?}");
    let session = Session {
        workspace: std::env::current_dir().unwrap_or_default(),
        environment: Environment::read(),
        observer: &observer,
    };
    println!("{:?}", probe(&session));
    match GuestToolchain::provide(&session) {
        Ok(toolchain) => {
            println!(
                "{} {}\n{}",
                toolchain.origin(),
                toolchain.sysroot().display(),
                toolchain.verbose_version()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}\nhint: {:?}", error.hint());
            ExitCode::FAILURE
        }
    }
}
