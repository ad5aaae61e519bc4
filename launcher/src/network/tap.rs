//! Tap devices: network cards of this host whose other end is a file descriptor.
//!
//! A device that we make is not persistent: it lives as long as a process holds its descriptor. QEMU gets it, and the
//! launcher keeps none, so the kernel removes the device when QEMU ends, however that comes.
//!
//! The kernel's interface is `Documentation/networking/tuntap.rst` and netdevice(7).

use std::ffi::c_short;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::NetworkError;
use crate::units::{InterfaceName, MacAddress};

/// Where tap devices are made.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// How ours are called; the kernel puts the lowest free number in.
const NAME_TEMPLATE: &str = "hermit%d";

/// Bytes of an interface's name, its NUL included (`linux/if.h`).
const NAME_SIZE: usize = 16;

// linux/if_tun.h
const TUNSETIFF: Opcode = opcode::write::<std::ffi::c_int>(b'T', 202);
const IFF_TAP: c_short = 0x0002;
/// Frames, without four bytes of packet information before each.
const IFF_NO_PI: c_short = 0x1000;
/// A header before each frame that says which sums are still to be computed: what QEMU wants, so that guests on one
/// host need not.
const IFF_VNET_HDR: c_short = 0x4000;

// linux/sockios.h
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCSIFHWADDR: Opcode = 0x8924;
const SIOCBRADDIF: Opcode = 0x89a2;

// linux/if.h, linux/if_arp.h
const IFF_UP: c_short = 1;
const ARPHRD_ETHER: u16 = 1;

/// First octet of our end's address. A bridge takes the lowest address of its ports for its own; with the highest
/// first octet that a card can have, no guest's coming and going changes a bridge's address (libvirt does the same).
const HIGHEST_OCTET: u8 = 0xfe;

/// `struct ifreq` of `linux/if.h`.
#[repr(C)]
struct Request {
    name: [u8; NAME_SIZE],
    value: Value,
}

/// The union in it, of which each call reads or writes one field.
#[repr(C)]
union Value {
    flags: c_short,
    index: i32,
    hardware: HardwareAddress,
    /// What makes it as large as the kernel's, whose largest member is `struct ifmap`.
    all: [u64; 3],
}

/// `struct sockaddr` with an Ethernet address.
#[derive(Clone, Copy)]
#[repr(C)]
struct HardwareAddress {
    family: u16,
    octets: [u8; 14],
}

impl Request {
    fn new(name: &str) -> Self {
        let mut bytes = [0; NAME_SIZE];
        // `InterfaceName` and the template leave room for the NUL.
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Self {
            name: bytes,
            value: Value { all: [0; 3] },
        }
    }

    fn name(&self) -> String {
        let name = self.name.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Makes one call with this request.
    fn call<const OPCODE: Opcode>(&mut self, fd: impl AsFd) -> Result<(), Errno> {
        // SAFETY: each opcode of this module takes a `struct ifreq`, which `Request` is, and no pointer within it.
        unsafe { ioctl(fd, Updater::<OPCODE, Self>::new(self)) }
    }
}

/// Opens a tap device, makes it a port of a bridge, brings it up.
///
/// # Errors
/// No rights; a device that is another's, or in use; no such bridge.
pub(crate) fn open(
    device: Option<&InterfaceName>,
    bridge: Option<&InterfaceName>,
    mac: MacAddress,
) -> Result<OwnedFd, NetworkError> {
    let file = OpenOptions::new().read(true).write(true).open(CLONE_DEVICE);
    let file = file.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => no_rights(bridge),
        _ => failed("open `/dev/net/tun`")(source),
    })?;
    let mut request = Request::new(device.map_or(NAME_TEMPLATE, InterfaceName::as_str));
    request.value.flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    request.call::<TUNSETIFF>(&file).map_err(|errno| match device {
        None if errno == Errno::PERM => no_rights(bridge),
        // Of an existing one this says that it is another's; one that does not exist we may not make.
        Some(device) if errno == Errno::PERM && !exists(device) => no_rights(bridge),
        Some(device) => NetworkError::Device {
            device: device.clone(),
            source: errno.into(),
        },
        None => failed("make a tap device")(errno.into()),
    })?;
    let name = request.name();
    let socket = control_socket()?;
    if device.is_none() {
        set_address(&socket, &name, mac)
            .map_err(|errno| failed("set the tap device's address")(errno.into()))?;
    }
    if let Some(bridge) = bridge {
        join(&socket, &name, bridge)?;
    }
    bring_up(&socket, &name).map_err(|errno| match errno {
        Errno::PERM => no_rights(bridge),
        _ => failed("bring the tap device up")(errno.into()),
    })?;
    Ok(File::into(file))
}

/// Makes a device a port of a bridge.
fn join(socket: &OwnedFd, name: &str, bridge: &InterfaceName) -> Result<(), NetworkError> {
    let index = netdevice::name_to_index(socket, name)
        .map_err(|errno| failed("find the tap device")(errno.into()))?;
    let mut request = Request::new(bridge.as_str());
    request.value.index = index.cast_signed();
    request.call::<SIOCBRADDIF>(socket).map_err(|errno| match errno {
        Errno::BUSY => NetworkError::PortAlready {
            device: name.to_owned(),
        },
        Errno::PERM => no_rights(Some(bridge)),
        Errno::NODEV => NetworkError::NoSuchBridge {
            bridge: bridge.clone(),
        },
        Errno::OPNOTSUPP | Errno::INVAL => NetworkError::NotABridge {
            bridge: bridge.clone(),
        },
        _ => failed("make the tap device a port of the bridge")(errno.into()),
    })
}

/// Gives our end of the device the guest's address with another first octet.
fn set_address(socket: &OwnedFd, name: &str, mac: MacAddress) -> Result<(), Errno> {
    let mut octets = [0; 14];
    octets[..6].copy_from_slice(&mac.octets());
    octets[0] = HIGHEST_OCTET;
    let mut request = Request::new(name);
    request.value.hardware = HardwareAddress {
        family: ARPHRD_ETHER,
        octets,
    };
    request.call::<SIOCSIFHWADDR>(socket)
}

/// Brings a device up; one that is up already needs no rights for it.
fn bring_up(socket: &OwnedFd, name: &str) -> Result<(), Errno> {
    let mut request = Request::new(name);
    request.call::<SIOCGIFFLAGS>(socket)?;
    // SAFETY: the kernel has just written the flags.
    let flags = unsafe { request.value.flags };
    if flags & IFF_UP != 0 {
        return Ok(());
    }
    request.value.flags = flags | IFF_UP;
    request.call::<SIOCSIFFLAGS>(socket)
}

fn exists(device: &InterfaceName) -> bool {
    control_socket().is_ok_and(|socket| netdevice::name_to_index(socket, device.as_str()).is_ok())
}

/// Any socket: what asks for network devices is addressed to one.
fn control_socket() -> Result<OwnedFd, NetworkError> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("make a socket")(errno.into()))
}

fn no_rights(bridge: Option<&InterfaceName>) -> NetworkError {
    NetworkError::NoRights {
        bridge: bridge.cloned(),
    }
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Step { step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_large_as_the_kernels() {
        assert_eq!(size_of::<Request>(), 40);
    }

    #[test]
    fn a_name_is_read_back() {
        for name in ["a", "fifteen-letters"] {
            assert_eq!(Request::new(name).name(), name);
        }
    }
}
