//! What a guest's frame is, where it goes, and whether its sender may send it.
//!
//! Each guest has one MAC address and one IPv4 address, known before its first frame. A frame that claims another of
//! either is refused: so no guest can take another's place, and the switch has nothing to learn. Protocols: Ethernet II
//! (IEEE 802.3), ARP (RFC 826), IPv4 (RFC 791); all else is refused.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IPV4_HEADER_LEN,
    IpAddress, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket,
};

use crate::subnet::{GATEWAY_MAC, Subnet};

/// Most bytes of a frame: an MTU of 1500 and the header. No VLAN tags, no jumbo frames.
pub const MAX_FRAME: usize = 1514;

/// Port of DHCP servers (RFC 2131, section 4.1).
pub(crate) const DHCP_SERVER: u16 = 67;

/// Port of DHCP clients.
pub(crate) const DHCP_CLIENT: u16 = 68;

/// A MAC address as people write it, `a2:13:15:00:80:02`.
pub(crate) fn mac_text(mac: EthernetAddress) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}

/// Who a guest is on its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its MAC address.
    pub mac: EthernetAddress,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the gateway alone.
    Gateway,
    /// To the station with this MAC address.
    Station(EthernetAddress),
    /// To all other stations.
    Others,
}

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too short, too long, or its lengths contradict each other.
    Malformed,
    /// Its source is another's MAC address.
    ForeignMac,
    /// Its source is another's IPv4 address.
    ForeignAddress,
    /// Neither ARP nor IPv4.
    Protocol,
    /// A guest that plays the DHCP server.
    RogueDhcp,
}

/// Judges a frame that `sender` sent.
///
/// # Errors
/// The frame is not one that `sender` may send.
pub fn judge(frame: &[u8], sender: &Station, subnet: Subnet) -> Result<Destination, Refusal> {
    if frame.len() > MAX_FRAME {
        return Err(Refusal::Malformed);
    }
    let frame = EthernetFrame::new_checked(frame).map_err(|_| Refusal::Malformed)?;
    if frame.src_addr() != sender.mac {
        return Err(Refusal::ForeignMac);
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => arp(&frame, sender, subnet),
        EthernetProtocol::Ipv4 => ipv4(&frame, sender),
        _ => Err(Refusal::Protocol),
    }
}

/// Writes the sums of TCP or UDP that a guest has left to its card, over whatever is there: that of the pseudo-header, or
/// nothing. What is neither, or a fragment of it, stays as it is.
pub(crate) fn sum(frame: &mut [u8]) {
    let Ok(mut frame) = EthernetFrame::new_checked(frame) else {
        return;
    };
    let Ok(mut packet) = Ipv4Packet::new_checked(frame.payload_mut()) else {
        return;
    };
    let (from, to) = (
        IpAddress::Ipv4(packet.src_addr()),
        IpAddress::Ipv4(packet.dst_addr()),
    );
    if packet.more_frags() || packet.frag_offset() != 0 {
        return;
    }
    match packet.next_header() {
        IpProtocol::Tcp => {
            if let Ok(mut segment) = TcpPacket::new_checked(packet.payload_mut()) {
                segment.fill_checksum(&from, &to);
            }
        }
        IpProtocol::Udp => {
            if let Ok(mut datagram) = UdpPacket::new_checked(packet.payload_mut()) {
                datagram.fill_checksum(&from, &to);
            }
        }
        _ => {}
    }
}

fn arp(frame: &EthernetFrame<&[u8]>, sender: &Station, subnet: Subnet) -> Result<Destination, Refusal> {
    let packet = ArpPacket::new_checked(frame.payload()).map_err(|_| Refusal::Malformed)?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).map_err(|_| Refusal::Malformed)?
    else {
        return Err(Refusal::Malformed);
    };
    if source_hardware_addr != sender.mac {
        return Err(Refusal::ForeignMac);
    }
    // Unspecified: an ARP probe (RFC 5227).
    let probe = source_protocol_addr.is_unspecified() && operation == ArpOperation::Request;
    if source_protocol_addr != sender.address && !probe {
        return Err(Refusal::ForeignAddress);
    }
    if target_protocol_addr == subnet.gateway() {
        return Ok(Destination::Gateway);
    }
    Ok(destination(frame.dst_addr()))
}

fn ipv4(frame: &EthernetFrame<&[u8]>, sender: &Station) -> Result<Destination, Refusal> {
    let packet = Ipv4Packet::new_checked(frame.payload()).map_err(|_| Refusal::Malformed)?;
    if packet.version() != 4 || usize::from(packet.header_len()) < IPV4_HEADER_LEN {
        return Err(Refusal::Malformed);
    }
    // A later fragment has no ports.
    let udp = (packet.next_header() == IpProtocol::Udp && packet.frag_offset() == 0)
        .then(|| UdpPacket::new_checked(packet.payload()).map_err(|_| Refusal::Malformed))
        .transpose()?;
    let from = |port| udp.as_ref().is_some_and(|udp| udp.src_port() == port);
    let to = |port| udp.as_ref().is_some_and(|udp| udp.dst_port() == port);
    if from(DHCP_SERVER) || (to(DHCP_CLIENT) && !from(DHCP_CLIENT)) {
        return Err(Refusal::RogueDhcp);
    }
    let asks_for_address = from(DHCP_CLIENT) && to(DHCP_SERVER);
    if packet.src_addr() != sender.address && !(packet.src_addr().is_unspecified() && asks_for_address) {
        return Err(Refusal::ForeignAddress);
    }
    if asks_for_address {
        return Ok(Destination::Gateway);
    }
    Ok(destination(frame.dst_addr()))
}

fn destination(mac: EthernetAddress) -> Destination {
    if mac == GATEWAY_MAC {
        Destination::Gateway
    } else if mac.is_unicast() {
        Destination::Station(mac)
    } else {
        Destination::Others
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;
    use crate::gateway::packet::{Datagram, udp};

    const GUEST: Station = Station {
        mac: EthernetAddress([2, 0, 0, 0, 0, 2]),
        address: Ipv4Addr::new(10, 89, 0, 2),
    };

    #[test]
    fn sums_that_a_guest_has_left_out_are_those_that_it_would_have_written() {
        let datagram = Datagram {
            from: SocketAddrV4::new(Ipv4Addr::new(10, 89, 0, 1), 53),
            to: SocketAddrV4::new(GUEST.address, 1000),
            payload: b"odd",
        };
        let whole = udp(&datagram, &GUEST).unwrap();
        // The sum of UDP, behind the headers of Ethernet and IPv4 and six bytes of its own.
        let place = 14 + IPV4_HEADER_LEN + 6;
        let mut frame = whole.clone();
        // Nothing, or what the device is to add to (virtio 1.2, section 5.1.6.2), which it need not.
        for left in [[0, 0], [0xca, 0xfe]] {
            frame[place..place + 2].copy_from_slice(&left);
            assert_ne!(frame, whole);
            sum(&mut frame);
            assert_eq!(frame, whole);
        }
        // Of a fragment nobody knows the sum; and what is cut off anywhere is no frame.
        let mut fragment = frame.clone();
        fragment[14 + 6] |= 0x20;
        fragment[place..place + 2].fill(0);
        let before = fragment.clone();
        sum(&mut fragment);
        assert_eq!(fragment, before);
        (0..whole.len()).for_each(|length| sum(&mut whole.clone()[..length]));
    }
}
