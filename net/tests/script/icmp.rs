//! ICMP errors of a script: a router between the peer and the engine tells that a segment was too long.

use super::segment::{Family, Numbers};
use core::net::IpAddr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpAddress,
    IpProtocol, IpRepr,
};

const ETHERNET: usize = 14;

/// `too_long MTU seq NUMBER len LENGTH`: the segment with that number, in a packet of that length, did
/// not fit (RFC 1191 4, RFC 4443 3.2).
pub fn too_long(words: &[&str], numbers: &Numbers) -> Result<Vec<u8>, String> {
    let [mtu, "seq", seq, "len", len] = *words else {
        return Err("too_long MTU seq NUMBER len LENGTH".into());
    };
    let number = |word: &str| {
        let number = word.parse::<u32>();
        number.map_err(|_| format!("{word} is no number"))
    };
    let (mtu, seq, len) = (number(mtu)?, number(seq)?, number(len)?);
    let family = numbers.family;
    let mut message = match family {
        Family::Ipv4 => [&[3, 4, 0, 0, 0, 0][..], &(mtu as u16).to_be_bytes()].concat(),
        Family::Ipv6 => [&[2, 0, 0, 0][..], &mtu.to_be_bytes()].concat(),
    };
    let segment = numbers.first_bytes_of(seq);
    let header = ip(
        family,
        (family.local(), family.peer()),
        IpProtocol::Tcp,
        len,
    );
    let mut quote = vec![0; header.header_len()];
    header.emit(&mut quote[..], &ChecksumCapabilities::default());
    message.extend(quote);
    message.extend(segment);
    let protocol = match family {
        Family::Ipv4 => {
            Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
            IpProtocol::Icmp
        }
        Family::Ipv6 => {
            let (IpAddr::V6(source), IpAddr::V6(destination)) = (family.peer(), family.local())
            else {
                return Err("the addresses are of the other family".into());
            };
            Icmpv6Packet::new_unchecked(&mut message[..]).fill_checksum(&source, &destination);
            IpProtocol::Icmpv6
        }
    };
    Ok(frame(family, protocol, &message))
}

/// The header of a packet of `len` bytes in all.
fn ip(
    family: Family,
    (source, destination): (IpAddr, IpAddr),
    protocol: IpProtocol,
    len: u32,
) -> IpRepr {
    let header = match family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    };
    IpRepr::new(
        IpAddress::from(source),
        IpAddress::from(destination),
        protocol,
        len as usize - header,
        64,
    )
}

fn frame(family: Family, protocol: IpProtocol, message: &[u8]) -> Vec<u8> {
    let header_len = ip(family, (family.peer(), family.local()), protocol, 1280).header_len();
    let len = (header_len + message.len()) as u32;
    let header = ip(family, (family.peer(), family.local()), protocol, len);
    let mut bytes = vec![0; ETHERNET + header_len];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.set_dst_addr(EthernetAddress([2, 0, 0, 0, 0, 1]));
    ethernet.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 9]));
    ethernet.set_ethertype(match family {
        Family::Ipv4 => EthernetProtocol::Ipv4,
        Family::Ipv6 => EthernetProtocol::Ipv6,
    });
    header.emit(&mut bytes[ETHERNET..], &ChecksumCapabilities::default());
    bytes.extend_from_slice(message);
    bytes
}
