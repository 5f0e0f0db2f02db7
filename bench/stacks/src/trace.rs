//! A trace: frames of a peer with many connections, in steps. What is in it does not depend on the
//! stack that it is played to, but for two numbers that the stack chooses and says in its SYN-ACK. A
//! trace counts from 0 instead, and the player adds them: acknowledgement numbers count from the
//! stack's initial sequence number, timestamp echoes from the timestamp of its SYN-ACK. Checksums hold
//! zero; the players do as if a NIC had checked them, or fill them in.
//!
//! All numbers are little-endian. The header is [`MAGIC`], the number of connections, and how many of
//! them are open at most. A step is a kind ([`Kind`]), a count of frames (u8), and for each the
//! connection (u32), the length (u16) and the bytes.

use anyhow::{Context, Result, bail};

/// First bytes of a trace.
pub const MAGIC: &[u8; 8] = b"IXTRACE1";

/// Bytes in front of the TCP header: Ethernet, and IPv4 or IPv6.
fn tcp_at(frame: &[u8]) -> usize {
    if is_ipv6(frame) { 54 } else { 34 }
}

/// Whether a frame is of IPv6.
fn is_ipv6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Establishes the connections.
    Setup = 0,
    /// Counted.
    Counted = 1,
    /// Nothing happens, for as long as Linux delays an acknowledgement.
    Silence = 2,
}

/// A frame of the peer.
pub struct Frame<'a> {
    /// Number of its connection.
    pub connection: usize,
    /// The whole Ethernet frame.
    pub bytes: &'a [u8],
}

/// Frames that arrive together.
pub struct Step<'a> {
    /// What it is for.
    pub kind: Kind,
    /// The frames.
    pub frames: Vec<Frame<'a>>,
}

/// A whole trace.
pub struct Trace<'a> {
    /// Number of connections in it.
    pub connections: usize,
    /// Most connections open at once.
    pub open: usize,
    /// What happens, in order.
    pub steps: Vec<Step<'a>>,
}

impl<'a> Trace<'a> {
    /// Reads a trace.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            bail!("this is no trace");
        }
        let (connections, open) = (reader.u32()?, reader.u32()?);
        let mut steps = Vec::new();
        while !reader.0.is_empty() {
            let kind = match reader.u8()? {
                0 => Kind::Setup,
                1 => Kind::Counted,
                2 => Kind::Silence,
                other => bail!("a trace has no steps of kind {other}"),
            };
            let mut frames = Vec::new();
            for _ in 0..reader.u8()? {
                let connection = reader.u32()?;
                let len = reader.u16()?;
                let bytes = reader.take(len)?;
                if connection >= connections || len < 34 + 20 || len < tcp_at(bytes) + 20 {
                    bail!("a frame of the trace is out of range");
                }
                frames.push(Frame { connection, bytes });
            }
            steps.push(Step { kind, frames });
        }
        Ok(Self {
            connections,
            open,
            steps,
        })
    }

    /// Whether it is over IPv6.
    pub fn is_ipv6(&self) -> bool {
        let mut frames = self.steps.iter().flat_map(|step| &step.frames);
        frames.next().is_some_and(|frame| is_ipv6(frame.bytes))
    }
}

impl Frame<'_> {
    /// The control bits.
    pub fn control(&self) -> u8 {
        self.bytes[tcp_at(self.bytes) + 13]
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .context("the trace is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<usize> {
        let bytes = self.take(2)?;
        Ok(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    fn u32(&mut self) -> Result<usize> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }
}

/// What a stack's SYN-ACK says.
#[derive(Clone, Copy, Default)]
pub struct Base {
    /// Initial sequence number.
    seq: u32,
    /// Timestamp, 0 if there is none.
    timestamp: u32,
}

impl Base {
    /// Reads it from a SYN-ACK.
    pub fn of(frame: &[u8]) -> Self {
        Self {
            seq: word(frame, tcp_at(frame) + 4),
            timestamp: timestamp_at(frame).map_or(0, |at| word(frame, at)),
        }
    }

    /// The frame that a peer of this connection would send.
    pub fn rebase(self, bytes: &[u8]) -> Vec<u8> {
        let mut frame = bytes.to_vec();
        let tcp = tcp_at(bytes);
        if frame[tcp + 13] & crate::record::ACK != 0 {
            add(&mut frame, tcp + 8, self.seq);
            if let Some(at) = timestamp_at(bytes) {
                add(&mut frame, at + 4, self.timestamp);
            }
        }
        frame
    }
}

/// Where the value of the timestamps option is.
fn timestamp_at(frame: &[u8]) -> Option<usize> {
    let tcp = tcp_at(frame);
    let end = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
    let mut at = tcp + 20;
    while at + 1 < end {
        match frame[at] {
            0 => return None,
            1 => at += 1,
            8 => return Some(at + 2),
            _ => at += usize::from(frame[at + 1].max(2)),
        }
    }
    None
}

fn word(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

fn add(frame: &mut [u8], at: usize, base: u32) {
    let sum = word(frame, at).wrapping_add(base);
    frame[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Plan, record};

    #[test]
    fn recorded_trace_is_read_back() {
        let bytes = record(&Plan {
            connections: 3,
            rounds: 4,
            batch: 2,
            churn: false,
            silent: false,
            timestamps: true,
            ipv6: false,
        });
        let trace = Trace::parse(&bytes).unwrap();
        assert_eq!((trace.connections, trace.open), (3, 3));
        let count = |kind| trace.steps.iter().filter(|step| step.kind == kind).count();
        assert_eq!(count(Kind::Setup), 9);
        assert_eq!(count(Kind::Counted), 4);
        assert!(trace.steps.iter().all(|step| step.frames.len() <= 2));
        assert!(Trace::parse(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn silent_peer_acknowledges_apart() {
        let bytes = record(&Plan {
            connections: 4,
            rounds: 2,
            batch: 2,
            churn: false,
            silent: true,
            timestamps: false,
            ipv6: false,
        });
        let trace = Trace::parse(&bytes).unwrap();
        let kinds = [Kind::Counted, Kind::Silence, Kind::Counted, Kind::Silence];
        let steps = &trace.steps[trace.steps.len() - 2 * kinds.len()..];
        assert!(steps.iter().map(|step| step.kind).eq(kinds.repeat(2)));
        let ends = |step: &Step<'_>| -> Vec<(usize, u8)> {
            let frames = step.frames.iter();
            frames
                .map(|frame| (frame.connection, frame.control()))
                .collect()
        };
        let (requests, acknowledgements) = (ends(&steps[0]), ends(&steps[2]));
        assert_eq!(requests.len(), 2);
        let acks: Vec<_> = requests.iter().map(|&(peer, _)| (peer, 16)).collect();
        assert_eq!(acknowledgements, acks);
        assert_eq!(word(steps[2].frames[0].bytes, 34 + 8), 1 + 2 * 64);
    }

    #[test]
    fn rebasing_adds_what_the_syn_ack_said() {
        let bytes = record(&Plan {
            connections: 1,
            rounds: 1,
            batch: 1,
            churn: false,
            silent: false,
            timestamps: true,
            ipv6: false,
        });
        let trace = Trace::parse(&bytes).unwrap();
        let ack = trace.steps[1].frames[0].bytes;
        let base = Base {
            seq: 0xffff_ffff,
            timestamp: 7,
        };
        let frame = base.rebase(ack);
        let tcp = tcp_at(ack);
        assert_eq!(word(&frame, tcp + 8), 0);
        assert_eq!(word(&frame, tcp + 28), word(ack, tcp + 28) + 7);
        let syn = trace.steps[0].frames[0].bytes;
        assert_eq!(base.rebase(syn), syn);
    }
}
