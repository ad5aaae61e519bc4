//! How a service starts, speaks and ends.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use hermitage_http::Limits;

use crate::settings::{Settings, SettingsError};

/// Stack of a thread that talks to other services; a third of it is used without optimization.
pub const STACK: usize = 256 * 1024;

/// How long a client of a service may be silent. The original's worker is, between its requests, for 5 s.
pub const SILENCE: Duration = Duration::from_secs(30);

/// The largest upload, if nobody says otherwise: twice what the original is used for.
const MAX_UPLOAD: usize = 64 * 1024 * 1024;

/// What a form adds to its picture: delimiters, headers, further fields.
const FORM: usize = 64 * 1024;

/// Why a service ends. The exit codes are those of `sysexits.h`.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It was told nonsense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its port is taken.
    #[error("cannot listen on port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// The reason.
        source: io::Error,
    },
    /// What it keeps cannot be read.
    #[error("cannot keep {what}: {reason}")]
    Keep {
        /// Tasks or pictures.
        what: &'static str,
        /// The reason.
        reason: String,
    },
    /// The listener, or a thread that is needed, failed.
    #[error("stopped serving: {0}")]
    Serve(#[source] io::Error),
}

impl ServiceError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(SettingsError::Usage { .. }) => 64,
            Self::Listen { .. } => 69,
            Self::Keep { .. } | Self::Serve(_) => 74,
            Self::Settings(SettingsError::Variable { .. }) => 78,
        }
    }
}

/// The whole of a service's `main`.
pub fn run(service: impl FnOnce() -> Result<(), ServiceError>) -> ExitCode {
    match service() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Listens on a port of all addresses; gives the port, which for 0 is a free one.
///
/// # Errors
/// The port is taken.
pub fn listen(port: u16) -> Result<(TcpListener, u16), ServiceError> {
    let failed = |source| ServiceError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

/// Prints a line at once. Unlike `println!` it does not panic when stdout is closed.
pub fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The bounds of a service that takes uploads.
///
/// # Errors
/// A variable is no number.
pub fn upload_limits(settings: &Settings, connections: usize) -> Result<Limits, SettingsError> {
    Ok(Limits {
        body: max_upload(settings)?,
        connections,
        silence: SILENCE,
    })
}

/// Most bytes of an upload, by `MICRO_MAX_UPLOAD` in MiB; the same for ui, master and storage, or the least counts.
///
/// # Errors
/// The variable is no number.
pub fn max_upload(settings: &Settings) -> Result<usize, SettingsError> {
    let picture = settings.mebibytes("MICRO_MAX_UPLOAD", MAX_UPLOAD)?;
    Ok(picture.saturating_add(FORM))
}
