//! Frames in one readable line each, with the numbers of a connection counted from its beginning.

use crate::packet::Packet;
use crate::seq::Seq;
use crate::tcp::options::Options;
use crate::wire::{ETHERTYPE_ARP, PROTOCOL_TCP, Segment, be16, control};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

const BITS: [(u8, char); 7] = [
    (control::SYN, 'S'),
    (control::FIN, 'F'),
    (control::RST, 'R'),
    (control::PSH, 'P'),
    (control::ACK, '.'),
    (control::ECE, 'E'),
    (control::CWR, 'W'),
];

/// Describes the frames of two stations.
#[derive(Default)]
pub struct Tracer {
    /// The number of the last SYN, by its source and destination port.
    initial: BTreeMap<(u16, u16), Seq>,
}

impl Tracer {
    /// A frame in one line; nothing for ARP and neighbour discovery.
    pub fn text(&mut self, frame: &[u8]) -> String {
        if frame.len() >= 14 && be16(frame, 12) == ETHERTYPE_ARP {
            return String::new();
        }
        let Some(packet) = Packet::in_frame(frame) else {
            return format!("{} bytes, not IP", frame.len());
        };
        if packet.is_ipv6() && packet.protocol != PROTOCOL_TCP {
            return String::new();
        }
        match Segment::parse(frame, &packet) {
            Some(segment) => self.segment_text(&segment),
            None => format!("{} bytes, protocol {}", frame.len(), packet.protocol),
        }
    }

    fn segment_text(&mut self, segment: &Segment<'_>) -> String {
        // The key is as the receiver sees it.
        let (from, to) = (segment.key.remote_port(), segment.key.local_port());
        if segment.has(control::SYN) {
            self.initial.insert((from, to), segment.seq);
        }
        let sent = self.start((from, to));
        let received = self.start((to, from));
        let bits = BITS.iter().filter(|(bit, _)| segment.has(*bit));
        let bits: String = bits.map(|(_, name)| *name).collect();
        let mut text = format!("{from} > {to} {bits} seq {}", segment.seq - sent);
        if segment.len != 0 {
            text += &format!(" len {}", segment.len);
        }
        if segment.has(control::ACK) {
            text += &format!(" ack {}", segment.ack - received);
        }
        text += &format!(" win {}", segment.window);
        if segment.is_marked() {
            text += " ce";
        }
        text + &options_text(&Options::parse(segment.options), received)
    }

    fn start(&self, ports: (u16, u16)) -> Seq {
        self.initial.get(&ports).copied().unwrap_or_default()
    }
}

fn options_text(options: &Options, received: Seq) -> String {
    let mut text = String::new();
    if let Some(mss) = options.mss {
        text += &format!(" mss {mss}");
    }
    if let Some(scale) = options.window_scale {
        text += &format!(" ws {scale}");
    }
    if options.sack_permitted {
        text += " sackok";
    }
    if let Some((value, echo)) = options.timestamps {
        text += &format!(" ts {value} {echo}");
    }
    for (left, right) in options.sack() {
        text += &format!(" sack {}-{}", *left - received, *right - received);
    }
    text
}
