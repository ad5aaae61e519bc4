//! Frames that the gateway makes itself, and those for it taken apart.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use crate::frame::{MAX_FRAME, Station};
use crate::subnet::{GATEWAY_MAC, Subnet};

/// Bytes before the payload of a UDP datagram: Ethernet, IPv4 without options, UDP.
const UDP_HEADERS: usize = 14 + 20 + 8;

/// Most bytes of a datagram that fits into one frame.
pub(crate) const MAX_DATAGRAM: usize = MAX_FRAME - UDP_HEADERS;

/// Hops that a packet of ours may take: RFC 1700's default.
const HOP_LIMIT: u8 = 64;

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: &'a [u8],
}

/// What a frame for the gateway holds.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// `from` is unspecified in the question of one that has no address yet.
    Arp {
        from: Ipv4Addr,
    },
    Udp(Datagram<'a>),
    Tcp {
        from: SocketAddrV4,
        to: SocketAddrV4,
        starts: bool,
    },
    /// To the gateway's own address; a ping.
    Icmp,
    /// Nothing that the gateway answers or passes on.
    Other,
}

/// Takes a frame apart that the switch found good.
pub(crate) fn content(frame: &[u8], subnet: Subnet) -> Content<'_> {
    parse(frame, subnet).unwrap_or(Content::Other)
}

fn parse(frame: &[u8], subnet: Subnet) -> Option<Content<'_>> {
    // The wrapper over a borrowed slice gives out payloads that live as long as the slice.
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() == EthernetProtocol::Arp {
        let arp = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?;
        let ArpRepr::EthernetIpv4 {
            source_protocol_addr: from,
            ..
        } = arp
        else {
            return None;
        };
        return Some(Content::Arp { from });
    }
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let checks = ChecksumCapabilities::default();
    // Fragments are refused here: what is sent on has to fit.
    let header = Ipv4Repr::parse(&packet, &checks).ok()?;
    let payload = packet.payload();
    let (from, to) = (header.src_addr, header.dst_addr);
    Some(match header.next_header {
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(payload).ok()?;
            let repr = UdpRepr::parse(&udp, &IpAddress::Ipv4(from), &IpAddress::Ipv4(to), &checks).ok()?;
            Content::Udp(Datagram {
                from: SocketAddrV4::new(from, repr.src_port),
                to: SocketAddrV4::new(to, repr.dst_port),
                payload: udp.payload(),
            })
        }
        IpProtocol::Tcp => {
            let tcp = smoltcp::wire::TcpPacket::new_checked(payload).ok()?;
            Content::Tcp {
                from: SocketAddrV4::new(from, tcp.src_port()),
                to: SocketAddrV4::new(to, tcp.dst_port()),
                starts: tcp.syn() && !tcp.ack(),
            }
        }
        IpProtocol::Icmp if to == subnet.gateway() => Content::Icmp,
        _ => Content::Other,
    })
}

/// A frame with a datagram for a station; `None` if the datagram is larger than [`MAX_DATAGRAM`].
pub(crate) fn udp(datagram: &Datagram<'_>, to: &Station) -> Option<Vec<u8>> {
    let length = datagram.payload.len();
    if length > MAX_DATAGRAM {
        return None;
    }
    let checks = ChecksumCapabilities::default();
    let mut bytes = vec![0; UDP_HEADERS + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: GATEWAY_MAC,
        dst_addr: to.mac,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    let (source, destination) = (*datagram.from.ip(), *datagram.to.ip());
    Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: 8 + length,
        hop_limit: HOP_LIMIT,
    }
    .emit(&mut packet, &checks);
    UdpRepr {
        src_port: datagram.from.port(),
        dst_port: datagram.to.port(),
    }
    .emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &IpAddress::Ipv4(source),
        &IpAddress::Ipv4(destination),
        length,
        |payload| payload.copy_from_slice(datagram.payload),
        &checks,
    );
    Some(bytes)
}

/// The frame in which `station` tells the gateway who it is.
pub(crate) fn arp_of(station: &Station, gateway: Ipv4Addr) -> Vec<u8> {
    let gateway = Station {
        mac: GATEWAY_MAC,
        address: gateway,
    };
    arp(ArpOperation::Reply, station, &gateway)
}

/// The frame in which the gateway asks `station` who it is; to it alone, since it is known.
pub(crate) fn arp_question(station: &Station, gateway: Ipv4Addr) -> Vec<u8> {
    let gateway = Station {
        mac: GATEWAY_MAC,
        address: gateway,
    };
    arp(ArpOperation::Request, &gateway, station)
}

fn arp(operation: ArpOperation, from: &Station, to: &Station) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: from.mac,
        source_protocol_addr: from.address,
        target_hardware_addr: to.mac,
        target_protocol_addr: to.address,
    };
    let mut bytes = vec![0; EthernetFrame::<&[u8]>::buffer_len(arp.buffer_len())];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    EthernetRepr {
        src_addr: from.mac,
        dst_addr: to.mac,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}
