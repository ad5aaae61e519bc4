//! The load: clients that ask a server for `/`, each as fast as it is answered.
//!
//! Each client is a thread with one connection at a time. Every answer is compared, byte for byte, with the first;
//! anything else than that answer is an error, and so is silence.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client waits for an answer or a connection: a retransmission comes after one second, and must show.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stack of a client. It needs less than a page of it.
const STACK: usize = 64 * 1024;

/// Most bytes of an answer, twice the head that a server of ours sends.
const MAX_ANSWER: usize = 1024;

/// How clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// How many there are at a time.
    pub(super) connections: u32,
    /// Whether they keep their connection; otherwise each request has its own.
    pub(super) keep_alive: bool,
}

/// What they saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// From the start of each request, or its connection, to the end of its answer.
    pub(super) latencies: Vec<Duration>,
    /// What went wrong, one line for each.
    pub(super) errors: Vec<String>,
    /// Whether the server answered nobody afterwards.
    pub(super) stalled: bool,
}

/// Whether a server answers one client after the other.
pub(super) fn answers(server: SocketAddr) -> bool {
    Expected::of(server).is_ok()
}

/// Loads `server` for `warm_up`, which does not count, and then for `time`. It ends soon after, whatever the server does.
pub(super) fn run(server: SocketAddr, load: Load, warm_up: Duration, time: Duration) -> io::Result<Seen> {
    let expected = match Expected::of(server) {
        Ok(expected) => expected,
        Err(error) => {
            return Ok(Seen {
                errors: vec![format!("not even one client is answered: {error}")],
                ..Seen::default()
            });
        }
    };
    let count_from = Instant::now() + warm_up;
    let end = count_from + time;
    let door = Arc::new(Mutex::new(()));
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        let (expected, door) = (expected.clone(), door.clone());
        let client = move || client(server, load.keep_alive, &expected, &door, count_from, end);
        clients.push(thread::Builder::new().stack_size(STACK).spawn(client)?);
    }
    let mut all = Seen::default();
    for client in clients {
        let seen = client
            .join()
            .map_err(|_| io::Error::other("a client has panicked"))?;
        all.latencies.extend(seen.latencies);
        all.errors.extend(seen.errors);
    }
    Ok(all)
}

/// Clients that keep their connection come in one by one: QEMU's user network has room for one that it has not
/// accepted yet, and Linux lets the next ones wait for a second. Those who come for each request take that as it is.
fn client(
    server: SocketAddr,
    keep_alive: bool,
    expected: &Expected,
    door: &Mutex<()>,
    count_from: Instant,
    end: Instant,
) -> Seen {
    let mut seen = Seen::default();
    let mut connection = None;
    if keep_alive {
        let _inside = door.lock().unwrap_or_else(PoisonError::into_inner);
        // Those before waited for a server that stalls.
        if Instant::now() >= end {
            return seen;
        }
        let first = connect(server).and_then(|mut stream| {
            ask(&mut stream, keep_alive, expected)?;
            Ok(stream)
        });
        match first {
            Ok(stream) => connection = Some(stream),
            Err(error) => seen.errors.push(error.to_string()),
        }
    }
    loop {
        let begin = Instant::now();
        if begin >= end {
            return seen;
        }
        let answered = (|| {
            let mut stream = match connection.take() {
                Some(stream) => stream,
                None => connect(server)?,
            };
            ask(&mut stream, keep_alive, expected)?;
            connection = keep_alive.then_some(stream);
            io::Result::Ok(())
        })();
        match answered {
            Ok(()) if begin >= count_from => seen.latencies.push(begin.elapsed()),
            Ok(()) => {}
            Err(error) => seen.errors.push(error.to_string()),
        }
    }
}

/// The answers, with the connection kept and with its end.
#[derive(Clone)]
struct Expected {
    kept: Vec<u8>,
    last: Vec<u8>,
}

impl Expected {
    /// Asks once each.
    fn of(server: SocketAddr) -> io::Result<Self> {
        let mut stream = connect(server)?;
        stream.write_all(request(false))?;
        let mut last = Vec::new();
        stream.read_to_end(&mut last)?;
        let mut stream = connect(server)?;
        stream.write_all(request(true))?;
        let mut kept = Vec::new();
        while !is_whole(&kept) {
            let mut buffer = [0; MAX_ANSWER];
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => kept.extend_from_slice(&buffer[..read]),
            }
        }
        Ok(Self { kept, last })
    }
}

/// Whether an answer has as many bytes behind its head as the head says.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse().ok());
    length.is_none_or(|length| body.len() >= length)
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(keep_alive: bool) -> &'static [u8] {
    if keep_alive {
        b"GET / HTTP/1.1\r\nhost: guest\r\n\r\n"
    } else {
        b"GET / HTTP/1.1\r\nhost: guest\r\nconnection: close\r\n\r\n"
    }
}

/// One request on `stream`. A connection that is not kept must also end, without a byte more.
fn ask(stream: &mut TcpStream, keep_alive: bool, expected: &Expected) -> io::Result<()> {
    let expected = if keep_alive {
        &expected.kept
    } else {
        &expected.last
    };
    stream.write_all(request(keep_alive))?;
    let mut buffer = [0; MAX_ANSWER];
    let mut length = 0;
    while length < expected.len() || !keep_alive {
        match stream.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    if buffer[..length] == expected[..] {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "another answer, of {length} bytes: {}",
        buffer[..length].escape_ascii()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Serves `connections` connections, each by `serve`.
    fn server(connections: usize, serve: fn(TcpStream)) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().take(connections).flatten() {
                serve(stream);
            }
        });
        address
    }

    fn answer_once(mut stream: TcpStream) {
        let mut request = [0; 256];
        if stream.read(&mut request).unwrap_or(0) > 0 {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    }

    const A_MOMENT: Duration = Duration::from_millis(50);

    #[test]
    fn counts_the_answers_of_new_connections() {
        let load = Load {
            connections: 2,
            keep_alive: false,
        };
        let seen = run(server(usize::MAX, answer_once), load, Duration::ZERO, A_MOMENT).unwrap();
        assert_eq!(seen.errors, [""; 0]);
        assert!(!seen.latencies.is_empty());
    }

    #[test]
    fn a_server_that_is_gone_is_told_and_not_loaded() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!answers(gone));
        let load = Load {
            connections: 2,
            keep_alive: false,
        };
        let seen = run(gone, load, Duration::ZERO, A_MOMENT).unwrap();
        assert_eq!((seen.latencies.len(), seen.errors.len()), (0, 1), "{seen:?}");
        assert!(seen.errors[0].contains("not even one client"), "{seen:?}");
    }

    #[test]
    fn clients_do_not_wait_one_after_the_other_for_a_server_that_stalls() {
        // It answers the two that look what it answers, and then nobody.
        static SERVED: AtomicUsize = AtomicUsize::new(0);
        let stalling = |stream: TcpStream| match SERVED.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => answer_once(stream),
            // Kept open for ever.
            _ => std::mem::forget(stream),
        };
        let load = Load {
            connections: 3,
            keep_alive: true,
        };
        let begin = Instant::now();
        let seen = run(server(usize::MAX, stalling), load, Duration::ZERO, A_MOMENT).unwrap();
        assert!(!seen.errors.is_empty() && seen.latencies.is_empty(), "{seen:?}");
        assert!(begin.elapsed() < 2 * PATIENCE, "{:?}", begin.elapsed());
    }

    #[test]
    fn a_connection_that_is_not_kept_is_an_error() {
        let load = Load {
            connections: 1,
            keep_alive: true,
        };
        let seen = run(server(usize::MAX, answer_once), load, Duration::ZERO, A_MOMENT).unwrap();
        assert!(!seen.errors.is_empty());
    }
}
