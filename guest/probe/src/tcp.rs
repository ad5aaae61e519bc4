//! The properties of TCP connections. What each one does stands beside its name in `main`.

use std::net::{Ipv4Addr, TcpListener};

fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
}

pub fn local_address(port: u16) {
    println!("{}", listen(port).local_addr().unwrap());
}
