//! Asks a guest whether it is ready, through its network's process: no port of the host is needed, and a guest that is
//! not up yet is waited for there.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use hermitage_network::control::Client;

use crate::manifest::Ready;

/// How long an answer may take. A service that is slower is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the status is in `HTTP/1.1 200 OK`, with the space before it.
const STATUS: std::ops::Range<usize> = 8..12;

/// Why a guest is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Its network has no process, so that no guest is on it.
    #[error("its network does not run")]
    NoNetwork,
    /// Its port takes no connections.
    #[error("{0}")]
    Closed(#[from] hermitage_network::control::ControlError),
    /// It does not answer.
    #[error("no answer: {0}")]
    Silent(#[from] io::Error),
    /// It answers that it is not.
    #[error("it answers `{0}`")]
    Refused(String),
}

/// Asks `guest`, which is on the network in `folder`, once.
///
/// # Errors
/// It is not ready.
pub fn ask(folder: &Path, guest: &str, ready: &Ready) -> Result<(), NotReady> {
    let client = Client::connect(folder)?.ok_or(NotReady::NoNetwork)?;
    // That the port takes connections is known when this returns.
    let mut stream = client.dial(guest, ready.port)?;
    let Some(path) = &ready.path else { return Ok(()) };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {guest}\r\nconnection: close\r\n\r\n"
    )?;
    judge(&mut stream)
}

fn judge(stream: &mut impl io::Read) -> Result<(), NotReady> {
    let mut head = [0; STATUS.end];
    stream.read_exact(&mut head)?;
    match &head[STATUS] {
        [b' ', b'2', ..] => Ok(()),
        _ => Err(NotReady::Refused(String::from_utf8_lossy(&head).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_of_200_to_299_is_ready() {
        for (answer, is_ready) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 204 No Content\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\n", false),
            ("HTTP/1.1 302 Found\r\n", false),
            ("SSH-2.0-OpenSSH_9.2\r\n", false),
            ("HTTP/1.1 2", false),
            ("", false),
        ] {
            assert_eq!(judge(&mut answer.as_bytes()).is_ok(), is_ready, "{answer}");
        }
    }
}
