//! DHCP (RFC 2131): each guest is told the one address that it has.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};

use super::packet::{self, Datagram};
use crate::frame::{DHCP_CLIENT, DHCP_SERVER, Station};
use crate::subnet::Subnet;

/// Seconds that a lease is for: a day, though it is for ever; guests ask again at half of it.
const LEASE: u32 = 24 * 60 * 60;

/// The gateway's answer to a guest's message.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The frame to send.
    pub(crate) frame: Vec<u8>,
    /// Whether the guest has its address from now on.
    pub(crate) bound: bool,
}

/// Answers a DHCP message of a guest; `None` if it needs no answer or is none.
pub(crate) fn answer(message: &[u8], station: &Station, subnet: Subnet) -> Option<Answer> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let gateway = subnet.gateway();
    if request.client_hardware_address != station.mac
        || request.server_identifier.is_some_and(|id| id != gateway)
    {
        return None;
    }
    let wanted = request.requested_ip.unwrap_or(request.client_ip);
    let kind = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if wanted == station.address => DhcpMessageType::Ack,
        DhcpMessageType::Request => DhcpMessageType::Nak,
        DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return None,
    };
    let refused = kind == DhcpMessageType::Nak;
    // Section 4.3.5: an answer to INFORM gives no address and no lease.
    let informed = request.message_type == DhcpMessageType::Inform;
    let given = !refused && !informed;
    let reply = DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: station.mac,
        client_ip: if refused {
            Ipv4Addr::UNSPECIFIED
        } else {
            request.client_ip
        },
        your_ip: if given {
            station.address
        } else {
            Ipv4Addr::UNSPECIFIED
        },
        server_ip: gateway,
        router: (!refused).then_some(gateway),
        subnet_mask: (!refused).then_some(subnet.mask()),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(gateway),
        parameter_request_list: None,
        dns_servers: (!refused).then(|| std::iter::once(gateway).collect()),
        max_size: None,
        lease_duration: given.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut payload = vec![0; reply.buffer_len()];
    reply
        .emit(&mut DhcpPacket::new_unchecked(&mut payload[..]))
        .ok()?;
    // Section 4.1: to an address that the guest has, else to all; by its MAC address it alone hears either.
    let to = if request.client_ip.is_unspecified() || refused {
        Ipv4Addr::BROADCAST
    } else {
        request.client_ip
    };
    let frame = packet::udp(
        &Datagram {
            from: SocketAddrV4::new(gateway, DHCP_SERVER),
            to: SocketAddrV4::new(to, DHCP_CLIENT),
            payload: &payload,
        },
        station,
    )?;
    Some(Answer {
        frame,
        bound: kind == DhcpMessageType::Ack,
    })
}
