//! How many clients may wait at a forwarded port of QEMU's user network.
//!
//! QEMU takes one connection after the other, and lets one wait (`tcpx_listen` of libslirp 4.7: `listen(s, 1)`). Of a
//! burst of clients the kernel drops what the others send, and each tries again after twice the time, up to half a minute
//! later. How many may wait can be said again at any time, by whoever has the socket: this process asks the kernel for
//! QEMU's.

use std::io;

use rustix::net::{listen, sockopt};

use crate::process::Handle;

/// What servers commonly ask for. The kernel gives no more than `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Lets more clients wait at every port that a process listens at.
///
/// # Errors
/// The system lets nobody look into a process (`ptrace`'s rights are needed): then it stays as it is.
pub(crate) fn widen(process: &Handle, pid: u32) -> io::Result<()> {
    for socket in process.sockets(pid)? {
        if sockopt::socket_acceptconn(&socket)? {
            listen(&socket, BACKLOG)?;
        }
    }
    Ok(())
}
