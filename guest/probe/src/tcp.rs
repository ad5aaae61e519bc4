//! The properties of TCP connections. What each one does stands beside its name in `main`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

/// The port that the test forwards.
const PORT: u16 = 9000;

fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
}

/// Accepts a connection on [`PORT`]. The listener goes.
fn accept() -> TcpStream {
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
