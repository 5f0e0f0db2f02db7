//! IPv6 headers (RFC 8200): the fixed one, and the way through those behind it. Pure reading; what
//! follows from it is in `input`.

use crate::address::IpAddress;
use crate::wire::{ETHERNET, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, be16, be32, be64};

/// Bytes of the fixed header.
pub(crate) const IPV6: usize = 40;
/// Bytes of a fragment header.
pub(crate) const FRAGMENT: usize = 8;
/// The smallest MTU that a link for IPv6 may have (RFC 8200 5).
pub(crate) const LEAST_MTU: u16 = 1280;

/// Most extension headers of a packet that are walked through, and most options of one of them
/// (RFC 8504 5.3 lets a host draw such lines).
const MOST_HEADERS: usize = 8;
const MOST_OPTIONS: usize = 16;

/// Values of Next Header.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT_HEADER: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// The fixed header of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv6Header {
    /// What follows it.
    pub next_header: u8,
    /// Where in the frame it ends.
    pub payload: usize,
    /// Where in the frame the packet ends.
    pub end: usize,
    /// Sender.
    pub source: IpAddress,
    /// Receiver.
    pub destination: IpAddress,
}

impl Ipv6Header {
    /// Reads the header; `None` if it is malformed. An IPv4 address in its mapped form never comes
    /// over the wire (RFC 4291 2.5.5.2), so that a peer cannot pass for one of the other family.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let header = frame.get(ETHERNET..)?.first_chunk::<IPV6>()?;
        let payload = ETHERNET + IPV6;
        let end = payload + usize::from(be16(header, 4));
        let source = IpAddress::from_words(be64(header, 8), be64(header, 16));
        let destination = IpAddress::from_words(be64(header, 24), be64(header, 32));
        let is_sound = header[0] >> 4 == 6
            && end <= frame.len()
            && source.ipv4().is_none()
            && destination.ipv4().is_none();
        is_sound.then_some(Self {
            next_header: header[6],
            payload,
            end,
            source,
            destination,
        })
    }
}

/// What the headers behind the fixed one lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The header of a protocol spoken here.
    Upper {
        protocol: u8,
        /// Where it starts in the frame.
        at: usize,
    },
    /// A part of a packet.
    Fragment(Fragment),
    /// A header that is malformed or unknown.
    Problem(Trouble),
    /// Nothing that anybody is to be told of.
    Discard,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub code: Problem,
    /// Where in the packet the offending byte is.
    pub pointer: usize,
    /// Whether the sender is told even if the packet was for a multicast group.
    pub even_multicast: bool,
}

/// The code of a parameter problem message (RFC 4443 3.4, RFC 7112 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A field has a wrong value.
    Field = 0,
    /// The next header is unknown.
    NextHeader = 1,
    /// An option is unknown that may not be.
    Option = 2,
    /// The first fragment does not hold all headers.
    IncompleteChain = 3,
}

/// A part of a packet: what follows its fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Identification.
    pub identification: u32,
    /// What the part at offset 0 begins with.
    pub next_header: u8,
    /// Where the part starts in the frame.
    pub at: usize,
    /// Where it belongs, in bytes.
    pub offset: u16,
    /// Whether no other follows it.
    pub is_last: bool,
}

/// Where a walk through the headers begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Type of the header.
    pub next_header: u8,
    /// Where it starts in the frame.
    pub at: usize,
    /// Where in the frame the packet ends.
    pub end: usize,
    /// Where in the frame the byte is that gives the type.
    pub named_at: usize,
}

impl Start {
    /// Behind the fixed header.
    pub fn of(header: &Ipv6Header) -> Self {
        Self {
            next_header: header.next_header,
            at: header.payload,
            end: header.end,
            named_at: ETHERNET + 6,
        }
    }
}

/// Walks through the extension headers from a place on. An atomic fragment is a whole packet (RFC
/// 6946).
pub(crate) fn walk(frame: &[u8], start: Start) -> Path {
    let Start {
        mut next_header,
        mut at,
        end,
        mut named_at,
    } = start;
    let frame = &frame[..end];
    for _ in 0..MOST_HEADERS {
        let is_first = named_at == ETHERNET + 6;
        let len = match next_header {
            PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6 => {
                return Path::Upper {
                    protocol: next_header,
                    at,
                };
            }
            NO_NEXT_HEADER => return Path::Discard,
            HOP_BY_HOP if is_first => options_len(frame, at),
            DESTINATION_OPTIONS => options_len(frame, at),
            ROUTING => routing_len(frame, at),
            FRAGMENT_HEADER => match fragment(frame, at) {
                Some(part) if part.offset == 0 && part.is_last => Ok(FRAGMENT),
                Some(part) => return Path::Fragment(part),
                None => Err(Path::Discard),
            },
            // Hop-by-hop options come first or not at all (RFC 8200 4.3).
            _ => Err(problem(Problem::NextHeader, named_at)),
        };
        match len {
            Ok(len) => {
                next_header = frame[at];
                named_at = at;
                at += len;
            }
            Err(path) => return path,
        }
    }
    Path::Discard
}

/// Whether the headers lead to an ICMPv6 error, whatever is wrong on the way there: nothing is ever
/// said about one (RFC 4443 2.4 e).
pub(crate) fn leads_to_error(frame: &[u8], start: Start) -> bool {
    let (mut next_header, mut at) = (start.next_header, start.at);
    let frame = &frame[..start.end];
    for _ in 0..MOST_HEADERS {
        let len = match next_header {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => extension(frame, at).map(<[u8]>::len),
            FRAGMENT_HEADER => Some(FRAGMENT),
            PROTOCOL_ICMPV6 => return frame.get(at).is_some_and(|kind| kind & 0x80 == 0),
            _ => None,
        };
        let (Some(len), Some(&named)) = (len, frame.get(at)) else {
            return false;
        };
        next_header = named;
        at += len;
    }
    false
}

fn problem(code: Problem, at: usize) -> Path {
    Path::Problem(Trouble {
        code,
        pointer: at - ETHERNET,
        even_multicast: false,
    })
}

/// The bytes of an extension header, if the packet has as many.
fn extension(frame: &[u8], at: usize) -> Option<&[u8]> {
    let len = (usize::from(*frame.get(at + 1)?) + 1) * 8;
    frame.get(at..at + len)
}

/// Length of a header of options, if none of them keeps the packet from being looked at (RFC 8200
/// 4.2).
fn options_len(frame: &[u8], at: usize) -> Result<usize, Path> {
    let header = extension(frame, at).ok_or(Path::Discard)?;
    let mut offset = 2;
    for _ in 0..MOST_OPTIONS {
        let Some(&kind) = header.get(offset) else {
            return Ok(header.len());
        };
        if kind == 0 {
            offset += 1;
            continue;
        }
        let len = header.get(offset + 1).ok_or(Path::Discard)?;
        match kind >> 6 {
            0 => {}
            1 => return Err(Path::Discard),
            action => {
                return Err(Path::Problem(Trouble {
                    code: Problem::Option,
                    pointer: at + offset - ETHERNET,
                    even_multicast: action == 2,
                }));
            }
        }
        offset += 2 + usize::from(*len);
    }
    match offset == header.len() {
        true => Ok(header.len()),
        false => Err(Path::Discard),
    }
}

/// Length of a routing header that asks for nothing. No type is known here that does; type 0 must
/// not be (RFC 5095 3).
fn routing_len(frame: &[u8], at: usize) -> Result<usize, Path> {
    let header = extension(frame, at).ok_or(Path::Discard)?;
    let segments_left = header[3];
    match segments_left {
        0 => Ok(header.len()),
        _ => Err(problem(Problem::Field, at + 2)),
    }
}

fn fragment(frame: &[u8], at: usize) -> Option<Fragment> {
    let header = frame.get(at..)?.first_chunk::<FRAGMENT>()?;
    let word = be16(header, 2);
    Some(Fragment {
        identification: be32(header, 4),
        next_header: header[0],
        at: at + FRAGMENT,
        offset: word & !7,
        is_last: word & 1 == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A frame with these bytes behind a fixed header that is followed by `next_header`.
    fn frame(next_header: u8, bytes: &[u8]) -> Vec<u8> {
        let mut frame = alloc::vec![0; ETHERNET];
        frame.extend([0x60, 0, 0, 0, 0, bytes.len() as u8, next_header, 64]);
        frame.extend([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        frame.extend(bytes);
        frame
    }

    fn path(next_header: u8, bytes: &[u8]) -> Path {
        let frame = frame(next_header, bytes);
        let header = Ipv6Header::parse(&frame).expect("a sound header");
        walk(&frame, Start::of(&header))
    }

    const UDP: [u8; 8] = [0, 1, 0, 2, 0, 8, 0, 0];

    fn upper(at: usize) -> Path {
        Path::Upper {
            protocol: PROTOCOL_UDP,
            at: ETHERNET + IPV6 + at,
        }
    }

    #[test]
    fn headers_that_ask_for_nothing_are_walked_through() {
        assert_eq!(path(PROTOCOL_UDP, &UDP), upper(0));
        // Hop-by-hop with PadN, destination options with an unknown option to skip, a spent
        // routing header, an atomic fragment.
        let chain = [
            [60, 0, 1, 4, 0, 0, 0, 0],
            [43, 0, 0x1e, 4, 9, 9, 9, 9],
            [44, 0, 0, 0, 0, 0, 0, 0],
            [PROTOCOL_UDP, 0, 0, 0, 0, 0, 0, 7],
            UDP,
        ];
        assert_eq!(path(0, chain.as_flattened()), upper(32));
    }

    #[test]
    fn unknown_headers_and_options_are_problems_where_the_standard_says_so() {
        let at = |code, pointer| {
            Path::Problem(Trouble {
                code,
                pointer,
                even_multicast: false,
            })
        };
        assert_eq!(path(51, &UDP), at(Problem::NextHeader, 6));
        let late = [[0, 0, 1, 4, 0, 0, 0, 0], [17, 0, 1, 4, 0, 0, 0, 0]];
        assert_eq!(
            path(60, late.as_flattened()),
            at(Problem::NextHeader, 40),
            "hop-by-hop options that do not come first"
        );
        let option = |kind| path(60, &[17, 0, kind, 4, 0, 0, 0, 0]);
        assert_eq!(option(0x3e), upper(8));
        assert_eq!(option(0x7e), Path::Discard);
        assert_eq!(option(0xfe), at(Problem::Option, 42));
        let told = matches!(
            option(0xbe),
            Path::Problem(Trouble {
                even_multicast: true,
                ..
            })
        );
        assert!(told);
        let source_route = [17, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(path(43, &source_route), at(Problem::Field, 42));
        assert_eq!(path(59, &UDP), Path::Discard);
    }

    #[test]
    fn errors_are_found_behind_anything() {
        let is_error = |next_header, bytes: &[u8]| {
            let frame = frame(next_header, bytes);
            let header = Ipv6Header::parse(&frame).expect("a sound header");
            leads_to_error(&frame, Start::of(&header))
        };
        let chain = |kind| {
            [
                [44, 0, 0xc1, 4, 0, 0, 0, 0],
                [58, 0, 0, 1, 0, 0, 0, 7],
                [kind, 0, 0, 0, 0, 0, 0, 0],
            ]
        };
        assert!(is_error(60, chain(1).as_flattened()));
        assert!(!is_error(60, chain(128).as_flattened()));
        assert!(!is_error(60, &chain(1).as_flattened()[..16]), "no type");
        assert!(!is_error(17, &UDP) && !is_error(60, &[60, 9]));
    }

    #[test]
    fn fragments_are_found_behind_other_headers() {
        let chain = [
            [44, 0, 1, 4, 0, 0, 0, 0],
            [17, 0, 0x05, 0xa9, 1, 2, 3, 4],
            UDP,
        ];
        let expected = Fragment {
            identification: 0x0102_0304,
            next_header: 17,
            at: ETHERNET + IPV6 + 16,
            offset: 1448,
            is_last: false,
        };
        assert_eq!(path(0, chain.as_flattened()), Path::Fragment(expected));
    }

    #[test]
    fn walk_ends_at_too_many_or_truncated_headers() {
        let padding = [60, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(path(60, [padding; 12].as_flattened()), Path::Discard);
        let whole = [
            [60, 1, 1, 4, 0, 0, 0, 0],
            [1, 6, 0, 0, 0, 0, 0, 0],
            [17, 0, 1, 4, 0, 0, 0, 0],
            UDP,
        ];
        let whole = whole.as_flattened();
        assert_eq!(path(60, whole), upper(24));
        for len in 0..23 {
            assert_eq!(path(60, &whole[..len]), Path::Discard, "{len} bytes");
        }
    }

    #[test]
    fn mapped_addresses_and_short_packets_are_refused() {
        let good = frame(PROTOCOL_UDP, &UDP);
        assert!(Ipv6Header::parse(&good).is_some());
        for len in 0..good.len() {
            assert!(Ipv6Header::parse(&good[..len]).is_none());
        }
        for at in [ETHERNET + 8, ETHERNET + 24] {
            let mut mapped = good.clone();
            mapped[at..at + 12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            assert!(Ipv6Header::parse(&mapped).is_none());
        }
    }
}
