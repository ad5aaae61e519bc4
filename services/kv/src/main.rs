//! kv: the key-value store in which the services of the example application find each other.
//!
//! `GET /:key` gives a value, `POST /:key` stores one; the newest value wins. The same source is a program of the
//! host and a role of a guest. It owns the routes ([`routes`]), what is stored ([`store`]) and the port
//! ([`settings`]); connections are `hermitage_http`'s.

mod routes;
mod settings;
mod store;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use hermitage_http::Limits;

use crate::settings::SettingsError;
use crate::store::Store;

/// Most bytes of a request's body; a value is an address, with room for its JSON.
const MAX_BODY: usize = 16 * 1024;

/// 64 connections at a time need some 15 MB in a guest (176 KiB for a thread's stacks, 64 KiB for a socket's buffers), a
/// quarter of its default memory. A smaller guest serves fewer at a time.
const MAX_CONNECTIONS: usize = 64;

/// The exit codes are those of `sysexits.h`.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("kv takes no arguments, got `{0}`\nusage: kv")]
    Usage(String),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot listen on port {port}: {source}")]
    Listen { port: u16, source: io::Error },
    #[error("cannot wait for a request to stop: {0}")]
    Stop(#[source] io::Error),
    #[error("stopped serving: {0}")]
    Serve(#[source] io::Error),
}

impl Error {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Listen { .. } => 69,
            Self::Stop(_) => 71,
            Self::Serve(_) => 74,
            Self::Settings(_) => 78,
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<(), Error> {
    if let Some(argument) = std::env::args_os().nth(1) {
        return Err(Error::Usage(argument.to_string_lossy().into_owned()));
    }
    let port = settings::port(|name| std::env::var_os(name))?;
    let listen = |source| Error::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(listen)?;
    // Port 0 takes a free one, and the line says which.
    let port = listener.local_addr().map_err(listen)?.port();
    print_line(&format!("server is listening on {port}"));

    // Whatever is acknowledged is answered in one piece, and nothing is kept: there is nothing to finish.
    hermitage_runtime::on_stop(|| {
        print_line("server is stopped");
        std::process::exit(0)
    })
    .map_err(Error::Stop)?;

    let store = Store::default();
    for (key, value) in settings::presets(|name| std::env::var_os(name)) {
        // Three values are far from what the store holds.
        let _ = store.put(key, &value);
        print_line(&format!("{key}={value}"));
    }
    let limits = Limits {
        body: MAX_BODY,
        connections: MAX_CONNECTIONS,
        silence: Duration::from_secs(30),
    };
    hermitage_http::serve(&listener, limits, move |request| routes::answer(&store, request))
        .map_err(Error::Serve)
}

/// Prints a line at once. Unlike `println!` it does not panic when stdout is closed.
fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
