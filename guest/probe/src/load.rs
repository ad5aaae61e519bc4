//! Load between two guests, for `cargo xtask bench lan`: one serves, the other one measures and says what it saw.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::tcp::reach;

const PORT: u16 = 9000;

/// First byte of a connection on which all that follows comes back.
const ECHO: u8 = b'e';

/// First byte of a connection on which the number of bytes that followed comes back, at its end.
const COUNT: u8 = b'c';

/// Bytes that are written and read at a time.
const CHUNK: usize = 64 * 1024;

/// Bytes of a request, and of its answer.
const REQUEST: usize = 128;

/// Clients that ask at a time.
const CLIENTS: usize = 8;

/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(2);

pub fn serve() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
    for stream in listener.incoming().flatten() {
        // A client that goes away ends its own connection alone.
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let mut buffer = vec![0; CHUNK];
    let mut count = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length if kind == [ECHO] => stream.write_all(&buffer[..length])?,
            length => count += length as u64,
        }
    }
    stream.write_all(&count.to_le_bytes())
}

/// Measures a guest that serves: the median round trip of a byte, requests per second, and bytes per second.
pub fn measure(address: &str) {
    println!("round-trip-ns {}", round_trip(address).as_nanos());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| connect(address, ECHO))
        .map(|stream| thread::spawn(move || requests(stream)))
        .collect();
    let total: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("requests-per-second {}", total as u64 / TIME.as_secs());
    println!("bytes-per-second {}", throughput(address));
}

fn connect(address: &str, kind: u8) -> TcpStream {
    let mut stream = reach(address);
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[kind]).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, bytes: &mut [u8]) -> Duration {
    let start = Instant::now();
    stream.write_all(bytes).unwrap();
    stream.read_exact(bytes).unwrap();
    start.elapsed()
}

fn round_trip(address: &str) -> Duration {
    let mut stream = connect(address, ECHO);
    let mut times = Vec::new();
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        times.push(exchange(&mut stream, &mut [0]));
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn requests(mut stream: TcpStream) -> usize {
    let end = Instant::now() + TIME;
    let mut count = 0;
    while Instant::now() < end {
        exchange(&mut stream, &mut [0; REQUEST]);
        count += 1;
    }
    count
}

fn throughput(address: &str) -> u64 {
    let mut stream = connect(address, COUNT);
    let chunk = vec![0; CHUNK];
    let start = Instant::now();
    while start.elapsed() < TIME {
        stream.write_all(&chunk).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut count = [0; 8];
    stream.read_exact(&mut count).unwrap();
    (u64::from_le_bytes(count) as f64 / start.elapsed().as_secs_f64()) as u64
}
