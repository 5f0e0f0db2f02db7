//! Looks at every frame that two stations send, and checks what must hold between them whatever the
//! wire does: nobody sends beyond the window that it was offered, nobody acknowledges what was not
//! sent, nobody takes back a window.

use crate::packet::Packet;
use crate::seq::Seq;
use crate::wire::{PROTOCOL_TCP, Segment, control};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// One direction of a connection.
#[derive(Clone, Copy, Default)]
struct Half {
    /// First sequence number, once its SYN was sent.
    initial: Option<Seq>,
    /// Window scale in its SYN.
    scale: Option<u8>,
    /// Behind everything sent so far.
    end: Seq,
    /// Behind its FIN.
    fin: Option<Seq>,
    /// End of the window that it offered, once it has acknowledged anything.
    edge: Option<Seq>,
}

/// Watches two stations.
#[derive(Default)]
pub struct Monitor {
    /// By the ports of the first and the second station.
    connections: BTreeMap<(u16, u16), [Half; 2]>,
    /// Halves whose sequence numbers went past zero.
    pub wraps: u64,
}

impl Monitor {
    /// Takes note of a frame that station `from` (0 or 1) sent; the error says what is wrong with it.
    pub fn watch(&mut self, from: usize, frame: &[u8]) -> Result<(), String> {
        let tcp = Packet::in_frame(frame).filter(|packet| packet.protocol == PROTOCOL_TCP);
        let Some(packet) = tcp else {
            return Ok(());
        };
        let Some(segment) = Segment::parse(frame, &packet) else {
            return Ok(());
        };
        // The key is as the receiver sees it.
        let mut ports = [segment.key.remote_port(), segment.key.local_port()];
        if from == 1 {
            ports.reverse();
        }
        let halves = self.connections.entry((ports[0], ports[1])).or_default();
        if segment.has(control::RST) {
            return Ok(());
        }
        if segment.has(control::SYN) {
            start(halves, from, &segment);
        }
        if halves.iter().any(|half| half.initial.is_none()) {
            return Ok(());
        }
        let before = halves[from].end;
        check_sent(halves, from, &segment)?;
        self.wraps += u64::from(halves[from].end.0 < before.0);
        match segment.has(control::ACK) {
            true => check_acknowledged(halves, from, &segment),
            false => Ok(()),
        }
    }
}

fn start(halves: &mut [Half; 2], from: usize, segment: &Segment<'_>) {
    if halves[from].initial == Some(segment.seq) {
        return;
    }
    if !segment.has(control::ACK) {
        // The first of a new connection between these ports.
        halves[1 - from] = Half::default();
    } else if halves[from].initial.is_some() {
        // An old SYN came late, and its receiver had forgotten the connection. Whatever follows may
        // belong to either: do not watch it.
        *halves = Default::default();
        return;
    }
    halves[from] = Half {
        initial: Some(segment.seq),
        scale: window_scale(segment.options),
        end: segment.seq + (u32::from(segment.len) + 1),
        fin: None,
        edge: None,
    };
}

fn check_sent(halves: &mut [Half; 2], from: usize, segment: &Segment<'_>) -> Result<(), String> {
    let end = segment.seq + u32::from(segment.len);
    if segment.len > 1
        && let Some(edge) = halves[1 - from].edge
        && edge.lt(end)
    {
        return Err(format!(
            "sent up to {} beyond the offered window, which ends at {}",
            end.0, edge.0
        ));
    }
    let room = u32::from(segment.has(control::SYN)) + u32::from(segment.has(control::FIN));
    if segment.has(control::FIN) {
        halves[from].fin = Some(end + room);
    }
    if halves[from].end.lt(end + room) {
        halves[from].end = end + room;
    }
    Ok(())
}

fn check_acknowledged(
    halves: &mut [Half; 2],
    from: usize,
    segment: &Segment<'_>,
) -> Result<(), String> {
    let other = halves[1 - from];
    if other.end.lt(segment.ack) {
        return Err(format!(
            "acknowledged {}, but only {} was sent",
            segment.ack.0, other.end.0
        ));
    }
    if other.fin == Some(segment.ack) {
        // Nothing more can come, so the window means nothing.
        return Ok(());
    }
    let scale = match (segment.has(control::SYN), halves[from].scale, other.scale) {
        (false, Some(scale), Some(_)) => scale.min(14),
        _ => 0,
    };
    let edge = segment.ack + (u32::from(segment.window) << u32::from(scale));
    let before = halves[from].edge.unwrap_or(edge);
    // A scaled window is rounded down (RFC 7323 2.4).
    let rounding = (1 << u32::from(scale)) - 1;
    if (edge + rounding).lt(before) {
        return Err(format!(
            "took the window back from {} to {}",
            before.0, edge.0
        ));
    }
    halves[from].edge = Some(edge.max(before));
    Ok(())
}

/// The window scale option among others.
fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match *options {
            [3, 3, shift, ..] => return Some(shift),
            [1, ..] => options = &options[1..],
            [kind, len, ..] if kind >= 2 && len >= 2 => {
                options = options.get(usize::from(len)..)?;
            }
            _ => return None,
        }
    }
}
