//! The host's side of a connection: how it is made, and how bytes go between it and the guest's.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use smoltcp::socket::tcp;

use super::Connection;

/// From the host into the network.
pub(super) fn carry_in(connection: &mut Connection, socket: &mut tcp::Socket<'_>) -> io::Result<bool> {
    let mut moved = false;
    while !connection.host_ended && socket.can_send() {
        let host = &connection.host;
        let read = socket.send(|room| match rustix::net::recv(host, room, RecvFlags::DONTWAIT) {
            Ok((_, length)) => (length, Ok(length)),
            Err(errno) => (0, Err(io::Error::from(errno))),
        });
        match read.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))? {
            Ok(0) => {
                connection.host_ended = true;
                socket.close();
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        moved = true;
    }
    Ok(moved)
}

/// Out of the network to the host.
pub(super) fn carry_out(connection: &mut Connection, socket: &mut tcp::Socket<'_>) -> io::Result<bool> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut moved = false;
    while socket.can_recv() {
        let host = &connection.host;
        let written = socket.recv(|bytes| match rustix::net::send(host, bytes, flags) {
            Ok(length) => (length, Ok(length)),
            Err(errno) => (0, Err(io::Error::from(errno))),
        });
        match written.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))? {
            Ok(_) => moved = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // Only a guest that said so has ended: a connection that is not yet made receives nothing either.
    let said_so = matches!(
        socket.state(),
        tcp::State::CloseWait | tcp::State::LastAck | tcp::State::Closing | tcp::State::TimeWait
    );
    if said_so && !connection.guest_ended {
        connection.guest_ended = true;
        // The host may be gone already.
        let _ = rustix::net::shutdown(&connection.host, Shutdown::Write);
        moved = true;
    }
    Ok(moved)
}

/// A connection that is being made.
pub(super) fn start_connecting(to: SocketAddrV4) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends small pieces at once.
pub(super) fn nodelay(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}
