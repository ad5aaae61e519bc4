//! The rootless LAN: one process for each network, a switch and a gateway in one, for guests that see each other and
//! nobody else. It needs no rights.
//!
//! A guest's network card ends in memory that the guest shares with us (`vhost`), of which its QEMU tells whoever listens
//! on a socket, or in a datagram socket, a frame a datagram. Whoever starts the guest keeps that socket's copy and hands
//! it to the network's process ([`control`]): so a network that is killed is started again and takes the same sockets, and
//! the guests notice nothing but some lost frames.
//!
//! - [`frame`]: what a frame is, where it goes, and whether its sender may send it;
//! - [`switch`]: hands frames from guest to guest, and to the gateway;
//! - [`gateway`]: addresses (DHCP), names (DNS), ports of the host that lead to a guest, and the way out;
//! - [`settings`], [`subnet`]: what a network is made with; [`store`]: all networks of a user; [`file`](mod@file): how their files
//!   are written;
//! - [`leases`], [`names`]: who has which address, for ever; and who is called what;
//! - [`control`]: what is said between a network's process and those who use it;
//! - `vhost`: network cards in memory that is shared;
//! - [`server`]: the process's loop. Start reading there.
//!
//! All but `server` and the client in `control` do no input or output of frames: they take frames and give frames, so
//! tests and fuzzers drive them without sockets.

pub mod control;
pub mod file;
pub mod frame;
pub mod gateway;
pub mod leases;
pub mod names;
mod poller;
pub mod server;
pub mod settings;
pub mod store;
pub mod subnet;
pub mod switch;
mod vhost;

pub use settings::Settings;
pub use smoltcp::wire::EthernetAddress as Mac;
pub use store::{NetworkName, Store};
pub use subnet::Subnet;
