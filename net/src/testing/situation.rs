//! Which case of RFC 9293 3.10.7 a segment is: the state that it finds, what it is, and where it lies.
//! Packet scripts are counted by it, so that a case without a script shows.

use crate::Engine;
use crate::packet::Packet;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, State};
use crate::tcp::time_wait::TIME_WAIT;
use crate::wire::{Segment, control};
use alloc::vec::Vec;

/// States with a receive window.
const WINDOWED: [&str; 9] = [
    "KNOCKING",
    "SYN-RECEIVED",
    "ESTABLISHED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "CLOSE-WAIT",
    "CLOSING",
    "LAST-ACK",
    "TIME-WAIT",
];
const KINDS: [&str; 5] = ["SYN", "FIN", "RST", "ACK", "data"];
/// Where SEG.SEQ lies: below RCV.NXT, at it, in the window, at its last number, above it.
const PLACES: [&str; 5] = ["before", "first", "inside", "last", "beyond"];
/// What there is to say of a segment where there is no window.
const STRANGER_PLACES: [&str; 2] = ["no ACK", "with ACK"];
/// Where SEG.ACK lies in SYN-SENT; only ISS+1 is acceptable.
const SYN_SENT_PLACES: [&str; 4] = ["no ACK", "ISS", "ISS+1", "unsent"];
/// States in which the ACK field decides; with what can be acknowledged in them.
const ACKED: [(&str, &[&str]); 7] = [
    ("SYN-RECEIVED", &["below", "UNA", "NXT", "unsent"]),
    ("ESTABLISHED", &["below", "UNA", "partial", "NXT", "unsent"]),
    ("FIN-WAIT-1", &["below", "UNA", "partial", "NXT", "unsent"]),
    // Nothing is outstanding any more.
    ("FIN-WAIT-2", &["below", "NXT", "unsent"]),
    ("CLOSE-WAIT", &["below", "UNA", "partial", "NXT", "unsent"]),
    ("CLOSING", &["below", "UNA", "partial", "NXT", "unsent"]),
    ("LAST-ACK", &["below", "UNA", "partial", "NXT", "unsent"]),
];

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Situation {
    /// The state, by its RFC name; KNOCKING is SYN-RECEIVED before the application has answered.
    pub state: &'static str,
    /// What the segment is, or `SEG.ACK` for the case of its ACK field.
    pub kind: &'static str,
    /// Where its numbers lie.
    pub place: &'static str,
}

impl Situation {
    /// Every case that there is.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |state, kind, places: &[&'static str]| {
            all.extend(places.iter().map(|place| Self { state, kind, place }));
        };
        for kind in KINDS {
            // An ACK without ACK is none.
            let least = usize::from(kind == "ACK");
            add("CLOSED", kind, &STRANGER_PLACES[least..]);
            add("LISTEN", kind, &STRANGER_PLACES[least..]);
            add("SYN-SENT", kind, &SYN_SENT_PLACES[least..]);
            for state in WINDOWED {
                add(state, kind, &PLACES);
            }
        }
        for (state, places) in ACKED {
            add(state, "SEG.ACK", places);
        }
        all
    }
}

impl Engine {
    /// Which cases a frame would be if it came now: none if it is no segment, two if its ACK field
    /// counts too.
    pub fn situations(&self, frame: &[u8]) -> Vec<Situation> {
        let Some(packet) = Packet::in_frame(frame) else {
            return Vec::new();
        };
        let Some(segment) = Segment::parse(frame, &packet) else {
            return Vec::new();
        };
        let Some(kind) = kind_of(&segment) else {
            return Vec::new();
        };
        let (state, place) = match self.lookup(&segment.key) {
            None if self.is_listening(segment.key.local_port()) => {
                ("LISTEN", Some(stranger_place(&segment)))
            }
            None => ("CLOSED", Some(stranger_place(&segment))),
            Some(value) if value & TIME_WAIT != 0 => {
                let start = self.time_waits.rcv_nxt(value);
                let edge = start + self.local.rx_window;
                ("TIME-WAIT", window_place(&segment, start, edge))
            }
            Some(index) => {
                let connection = &self.connections[index];
                let start = connection.rcv_nxt;
                match connection.state {
                    State::SynSent => ("SYN-SENT", Some(syn_sent_place(&segment, connection))),
                    State::Knocking => {
                        let edge = start + self.local.rx_window.min(0xffff);
                        ("KNOCKING", window_place(&segment, start, edge))
                    }
                    state => (
                        name(state),
                        window_place(&segment, start, connection.rcv_edge()),
                    ),
                }
            }
        };
        let by_sequence = place.map(|place| Situation { state, kind, place });
        let by_acknowledgement = self.acknowledgement_place(&segment).map(|place| Situation {
            state,
            kind: "SEG.ACK",
            place,
        });
        by_sequence.into_iter().chain(by_acknowledgement).collect()
    }

    fn acknowledgement_place(&self, segment: &Segment<'_>) -> Option<&'static str> {
        let index = self.lookup(&segment.key)?;
        if index & TIME_WAIT != 0 || kind_of(segment) != Some("ACK") {
            return None;
        }
        let connection = &self.connections[index];
        if connection.state < State::SynReceived {
            return None;
        }
        let (una, nxt) = (connection.snd_una, connection.snd_nxt);
        Some(match segment.ack {
            ack if ack.gt(nxt) => "unsent",
            ack if ack == nxt => "NXT",
            ack if ack == una => "UNA",
            ack if ack.gt(una) => "partial",
            _ => "below",
        })
    }
}

/// What a segment is first of all; nothing if it has neither control bits nor payload.
fn kind_of(segment: &Segment<'_>) -> Option<&'static str> {
    let bits = [
        (control::RST, "RST"),
        (control::SYN, "SYN"),
        (control::FIN, "FIN"),
    ];
    let by_bit = bits.into_iter().find(|(bit, _)| segment.has(*bit));
    match by_bit {
        Some((_, kind)) => Some(kind),
        None if segment.len != 0 => Some("data"),
        None => segment.has(control::ACK).then_some("ACK"),
    }
}

fn stranger_place(segment: &Segment<'_>) -> &'static str {
    STRANGER_PLACES[usize::from(segment.has(control::ACK))]
}

fn syn_sent_place(segment: &Segment<'_>, connection: &Connection) -> &'static str {
    match segment.ack {
        _ if !segment.has(control::ACK) => "no ACK",
        ack if ack.le(connection.iss) => "ISS",
        ack if ack.le(connection.snd_nxt) => "ISS+1",
        _ => "unsent",
    }
}

/// Nothing for a segment that reaches into the window from below.
fn window_place(segment: &Segment<'_>, start: Seq, edge: Seq) -> Option<&'static str> {
    let seq = segment.seq;
    if seq.lt(start) {
        let is_old = (seq + segment.sequence_len()).le(start);
        return is_old.then_some("before");
    }
    Some(match seq {
        seq if seq == start => "first",
        seq if seq.ge(edge) => "beyond",
        seq if seq + 1 == edge => "last",
        _ => "inside",
    })
}

fn name(state: State) -> &'static str {
    match state {
        // No segment finds these two: they are not in the flow table.
        State::Free | State::Dead => "CLOSED",
        State::Knocking => "KNOCKING",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
    }
}
