//! When a server answers for the first time.
//!
//! QEMU's user network accepts a connection before the guest is up, and loses the guest's side of it: one patient
//! client would wait for a retransmission and measure that. So the first client comes when the guest has said that
//! it listens. (Many short-lived clients from the start of QEMU on were tried: the connections that pile up are work
//! for the guest, and on a busy machine they were what was measured.)

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Another client comes this often, should the first have been lost.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time of the first `200`; `None` if there is none before the deadline, or `over` says that none will come.
pub(super) fn first_answer(
    server: SocketAddr,
    deadline: Instant,
    mut over: impl FnMut() -> bool,
) -> Option<Instant> {
    let (sender, receiver) = channel();
    let mut next = Instant::now();
    while Instant::now() < deadline && !over() {
        let sender = sender.clone();
        thread::spawn(move || ask(server, &sender));
        next += INTERVAL;
        match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(at) => return Some(at),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    None
}

/// One client: asks for `/`, and reports an answer.
fn ask(server: SocketAddr, sender: &Sender<Instant>) {
    let answered = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: guest\r\nconnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/1.1 200" || &start == b"HTTP/1.0 200")
    };
    if answered().unwrap_or(false) {
        // Nobody listens any more when another client was first.
        let _ = sender.send(Instant::now());
    }
}
