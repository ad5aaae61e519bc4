//! What the launcher, and people, learn of the network card.

use core::fmt::Write;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, Ordering};

use hermitage_boot::Record;
use hermitage_boot::address::Ipv4Cidr;

use crate::port::Uart;
use crate::{control, trace};

/// The kernel has given the network card an address.
#[unsafe(no_mangle)]
fn hermitage_address(address: Ipv4Addr, prefix: u8) {
    // What is no address of a host, which a strange server may lease, is nothing that the launcher could show.
    if let Ok(cidr) = Ipv4Cidr::new(address, prefix) {
        control::tell(&Record::Address(cidr));
    }
    trace::has_address();
}

/// The program asked for a socket where there is no network card.
#[unsafe(no_mangle)]
fn hermitage_no_network() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        let _never_fails = writeln!(
            Uart::console(),
            "kernel: this machine has no virtio network card, so there are no sockets"
        );
    }
}

/// The launcher asks what went over the network card.
pub(crate) fn say_traffic() {
    let (received, sent) = hermit::network_traffic();
    control::tell(&Record::Traffic { received, sent });
}
