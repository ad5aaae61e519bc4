//! The properties of TCP connections, and of datagrams. What each one does stands beside its name in `main`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// The port that the test forwards.
const PORT: u16 = 9000;

/// Where QEMU's user network has its host.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
}

/// Accepts a connection on [`PORT`]. The listener goes.
pub fn accept() -> TcpStream {
    listen(PORT).accept().unwrap().0
}

pub fn local_address(port: u16) {
    println!("{}", listen(port).local_addr().unwrap());
}

pub fn no_delay() {
    let stream = accept();
    let first = stream.nodelay().unwrap();
    let [set, unset] = [true, false].map(|value| {
        stream.set_nodelay(value).unwrap();
        stream.nodelay().unwrap()
    });
    println!("at first {first}, then {set}, then {unset}");
}

pub fn answer_all() {
    let mut stream = accept();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    stream.write_all(&received).unwrap();
}

pub fn half_close() {
    let mut stream = accept();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    println!("{received}");
}

pub fn close() {
    let mut stream = accept();
    stream.write_all(b"hello").unwrap();
    drop(stream);
    println!("closed");
}

pub fn last_words(length: u64) {
    let mut stream = accept();
    let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    stream.write_all(&bytes).unwrap();
    process::exit(0);
}

pub fn read_timeout() {
    const TIME: Duration = Duration::from_millis(300);
    let mut stream = accept();
    let before = stream.read_timeout().unwrap();
    stream.set_read_timeout(Some(TIME)).unwrap();
    let set = stream.read_timeout().unwrap();
    println!("at first {before:?}, then {set:?}");
    let begin = Instant::now();
    let error = stream.read(&mut [0; 8]).unwrap_err();
    let kept = begin.elapsed() >= TIME;
    println!(
        "{:?}, {}",
        error.kind(),
        if kept { "in time" } else { "too early" }
    );
}

pub fn reset() {
    let mut stream = accept();
    stream.write_all(b"unread").unwrap();
    let mut received = Vec::new();
    println!(
        "{:?}",
        stream.read_to_end(&mut received).map_err(|error| error.kind())
    );
}

pub fn echo_all() {
    let listener = listen(PORT);
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    }
}

pub fn echo_datagrams() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], from).unwrap();
    }
}

pub fn ask_by_datagram(port: u16) {
    // More than there are ports for those that ask for none in particular.
    for _ in 0..17_000 {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert!(socket.local_addr().unwrap().port() >= 49152);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((HOST, port)).unwrap();
    socket.send(b"question").unwrap();
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    println!("{}", buffer[..length].escape_ascii());
}

pub fn connect(port: u16) {
    match TcpStream::connect((HOST, port)) {
        Ok(stream) => println!("{}", stream.local_addr().unwrap().ip()),
        Err(error) => println!("{:?}", error.kind()),
    }
}

pub fn resolve(name: &str) {
    match (name, 80).to_socket_addrs() {
        Ok(mut addresses) => println!("{}", addresses.next().unwrap()),
        Err(_) => println!("no such name"),
    }
}

/// Connects to another guest, as soon as this one has an address and the other one listens: of neither is there an
/// event here.
pub fn reach(address: &str) -> TcpStream {
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

pub fn call(address: &str, word: &str) {
    let mut stream = reach(address);
    stream.write_all(word.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    println!("{} was answered: {answer}", stream.local_addr().unwrap().ip());
}

pub fn open_sockets() {
    const ANY: u16 = 7000;
    // On the core that the network card does not interrupt: the first thread that is started.
    thread::spawn(|| {
        loop {
            drop(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ANY)).unwrap());
        }
    });
    let mut stream = accept();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() > 0 {
        stream.write_all(&byte).unwrap();
    }
}
