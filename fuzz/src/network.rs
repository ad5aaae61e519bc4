//! Frames that a guest sends: whatever they are, its network goes on, and what it answers is for that guest.

use hermitage_network::frame::MAX_FRAME;
use hermitage_network::gateway::alone::Alone;
use hermitage_network::subnet::GATEWAY_MAC;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Bytes of an IPv4 header without options.
const IPV4: usize = 20;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The gateway's address, in the network of [`Alone`].
const GATEWAY: [u8; 4] = [10, 89, 0, 1];

/// Frames of any bytes are answered by frames from the gateway to the guest. Each is sent as it is, and once more with the
/// sums that it would have, so that what is behind them is reached.
pub(crate) fn check(input: &[u8]) {
    let mut network = Alone::new().expect("a file descriptor");
    for frame in [input, &mended(input)] {
        for answer in network.answer(frame) {
            assert!((ETHERNET..=MAX_FRAME).contains(&answer.len()));
            // Or to all: who has the guest's address?
            assert!(answer[..6] == Alone::GUEST.mac.0 || answer[..6] == [0xff; 6]);
            assert_eq!(answer[6..12], GATEWAY_MAC.0);
        }
    }
}

/// The frame, from the guest and with right sums: of its IPv4 header, and of what is in it.
fn mended(input: &[u8]) -> Vec<u8> {
    let mut frame = input.to_vec();
    if let Some(sender) = frame.get_mut(6..12) {
        sender.copy_from_slice(&Alone::GUEST.mac.0);
    }
    let Some(packet) = frame.get_mut(ETHERNET..).filter(|packet| packet.len() >= IPV4) else {
        return frame;
    };
    let header = usize::from(packet[0] & 15) * 4;
    if header < IPV4 || header > packet.len() {
        return frame;
    }
    let (head, payload) = packet.split_at_mut(header);
    head[10..12].fill(0);
    let header_sum = sum(head.iter());
    head[10..12].copy_from_slice(&header_sum.to_be_bytes());
    let length = (payload.len() as u16).to_be_bytes();
    let pseudo = [&head[12..20], &[0, head[9]], &length].concat();
    let (place, pseudo) = match head[9] {
        ICMP => (2, &[][..]),
        TCP => (16, &pseudo[..]),
        UDP => (6, &pseudo[..]),
        _ => return frame,
    };
    if payload.len() >= place + 2 {
        payload[place..place + 2].fill(0);
        let sum = sum(pseudo.iter().chain(&*payload));
        payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// The internet checksum (RFC 1071).
fn sum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u16 {
    let weighed = bytes.zip([8, 0].into_iter().cycle());
    let mut sum: u32 = weighed.map(|(&byte, shift)| u32::from(byte) << shift).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = GATEWAY_MAC.0.to_vec();
    frame.extend(Alone::GUEST.mac.0);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(((IPV4 + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(Alone::GUEST.address.octets());
    packet.extend(GATEWAY);
    packet.extend(payload);
    mended(&ethernet(0x0800, &packet))
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram: Vec<u8> = [from, to, 8 + payload.len() as u16, 0]
        .into_iter()
        .flat_map(u16::to_be_bytes)
        .collect();
    datagram.extend(payload);
    ipv4(UDP, &datagram)
}

/// What every guest sends: who it is, for its address, for a name, for an echo, for a connection.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(Alone::GUEST.mac.0);
    arp.extend(Alone::GUEST.address.octets());
    arp.extend([0; 6]);
    arp.extend(GATEWAY);
    // BOOTP's fixed part, the magic cookie, DISCOVER and what is asked for.
    let mut dhcp = vec![0; 240];
    dhcp[..4].copy_from_slice(&[1, 1, 6, 0]);
    dhcp[28..34].copy_from_slice(&Alone::GUEST.mac.0);
    dhcp[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    dhcp.extend([53, 1, 1, 55, 3, 1, 3, 6, 255]);
    let dns = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02kv\x04fuzz\x08internal\0\0\x01\0\x01";
    let ping = [8, 0, 0, 0, 0, 1, 0, 1];
    // From port 40,001 to 80, SYN, a window, and the largest segment.
    let syn = [
        0x9c, 0x41, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4,
    ];
    vec![
        ethernet(0x0806, &arp),
        udp(68, 67, &dhcp),
        udp(5353, 53, dns),
        ipv4(ICMP, &ping),
        ipv4(TCP, &syn),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undamaged_frames_are_answered() {
        for seed in seeds() {
            // At least by a question who the guest is.
            let answers = Alone::new().unwrap().answer(&seed);
            assert!(!answers.is_empty(), "{}", seed.escape_ascii());
        }
    }
}
