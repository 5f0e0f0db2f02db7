//! What a router with a narrow link behind it answers over IPv6 (RFC 4443 3.2).

const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const PACKET_TOO_BIG: u8 = 2;
const ICMP_HEADER: usize = 8;
/// As much of the packet as fits the least MTU.
const QUOTE: usize = 1280 - IPV6_HEADER - ICMP_HEADER;

/// "Packet too big" to the sender of an IPv6 frame, from a router with the receiver's MAC address and
/// an address of its own; `None` for other frames.
pub fn answer(frame: &[u8], mtu: usize) -> Option<Vec<u8>> {
    if frame.get(12..14)? != [0x86, 0xdd] {
        return None;
    }
    let packet = frame.get(ETHERNET..)?;
    let quote = &packet[..packet.len().min(QUOTE)];
    let mut message = vec![PACKET_TOO_BIG, 0, 0, 0];
    message.extend((mtu as u32).to_be_bytes());
    message.extend(quote);
    let sender = packet.get(8..24)?;
    let mut router = [0; 16];
    router.copy_from_slice(sender);
    router[15] = 0xfe;
    let length = message.len() as u16;
    let mut pseudo = [&router, sender].concat();
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, ICMPV6]);
    let checksum = !sum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut answer = [&frame[6..12], &frame[..6], &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    answer.extend(length.to_be_bytes());
    answer.extend([ICMPV6, 64]);
    answer.extend(router);
    answer.extend(sender);
    answer.extend(message);
    Some(answer)
}

/// One's complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
