//! What stands before each frame (5.1.6), and what has to be filled in for it.
//!
//! The device computes the sum of TCP or UDP behind an offset that it is told, and cuts large frames.
//! It does not touch the IPv4 header's sum, and expects a large frame to be a valid packet: with the
//! length of all of it in the IP header and in the sum of the pseudo header.

use ix_hal::TxChecksum;

/// Bytes of the header, and with the fields for a hash.
pub(crate) const HEADER: usize = 12;
pub(crate) const HEADER_WITH_HASH: usize = 20;

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;
/// CWR among the flags of TCP.
const TCP_CWR: u8 = 0x80;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;

/// Of a large frame that the device cuts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Large {
    /// Bytes of payload in each segment.
    pub segment_size: u16,
    /// Bytes of payload in all of them.
    pub payload: u32,
    /// Whether the device cuts those with CWR in a way of their own.
    pub ecn: bool,
}

/// Layer 4 of a frame: where it begins, and where in it the checksum is.
fn layer4(checksum: TxChecksum) -> Option<(usize, usize)> {
    match checksum {
        TxChecksum::None | TxChecksum::Ipv4 => None,
        TxChecksum::Ipv4Tcp => Some((ETHERNET + IPV4, 16)),
        TxChecksum::Ipv4Udp => Some((ETHERNET + IPV4, 6)),
        TxChecksum::Ipv6Tcp => Some((ETHERNET + IPV6, 16)),
        TxChecksum::Ipv6Udp => Some((ETHERNET + IPV6, 6)),
    }
}

/// Fills the header in, and in `headers`, the frame's own, what the device leaves to the driver.
/// `None` if they are too short for what is asked.
#[inline]
pub(crate) fn fill(
    header: &mut [u8; HEADER],
    headers: &mut [u8],
    checksum: TxChecksum,
) -> Option<()> {
    *header = [0; HEADER];
    if let Some((start, offset)) = layer4(checksum) {
        headers.get(start + offset + 1)?;
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&(start as u16).to_le_bytes());
        header[8..10].copy_from_slice(&(offset as u16).to_le_bytes());
    }
    if is_ipv4(checksum) {
        insert_ipv4_checksum(headers)?;
    }
    Some(())
}

/// The same for a large frame. `None` also if it is not TCP, or has nothing to be cut.
pub(crate) fn fill_large(
    header: &mut [u8; HEADER],
    headers: &mut [u8],
    checksum: TxChecksum,
    large: Large,
) -> Option<()> {
    let (start, gso) = match checksum {
        TxChecksum::Ipv4Tcp => (ETHERNET + IPV4, GSO_TCPV4),
        TxChecksum::Ipv6Tcp => (ETHERNET + IPV6, GSO_TCPV6),
        _ => return None,
    };
    let tcp_header = headers.len().checked_sub(start).filter(|it| *it >= TCP)?;
    let upper = u16::try_from(tcp_header as u32 + large.payload).ok()?;
    if gso == GSO_TCPV4 {
        let total = upper.checked_add(IPV4 as u16)?;
        headers[16..18].copy_from_slice(&total.to_be_bytes());
    } else {
        headers[18..20].copy_from_slice(&upper.to_be_bytes());
    }
    let at = start + 16;
    let pseudo = add(word(headers, at), upper);
    headers[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    fill(header, headers, checksum)?;
    let has_cwr = large.ecn && headers[start + 13] & TCP_CWR != 0;
    header[1] = gso | if has_cwr { GSO_ECN } else { 0 };
    header[2..4].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    header[4..6].copy_from_slice(&large.segment_size.to_le_bytes());
    Some(())
}

fn is_ipv4(checksum: TxChecksum) -> bool {
    matches!(
        checksum,
        TxChecksum::Ipv4 | TxChecksum::Ipv4Tcp | TxChecksum::Ipv4Udp
    )
}

/// RFC 791 3.1: the sum of a header without options, whose own field is zero.
fn insert_ipv4_checksum(headers: &mut [u8]) -> Option<()> {
    let header: &mut [u8; IPV4] = headers
        .get_mut(ETHERNET..ETHERNET + IPV4)?
        .try_into()
        .ok()?;
    header[10..12].fill(0);
    let words = header.as_chunks::<2>().0;
    let sum: u32 = words
        .iter()
        .map(|it| u32::from(u16::from_be_bytes(*it)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// One's complement sum.
fn add(left: u16, right: u16) -> u16 {
    let (sum, carry) = left.overflowing_add(right);
    sum + u16::from(carry)
}
