//! What lies between Linux and the other end of its wire, beside the harm that [`Impairment`] does: a
//! distance, a switch that marks instead of dropping, a link that silently eats what is too long.

use super::too_big;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use ix_net::testing::Random;
use ix82599::wire::{Impaired, Impairment, MAX_FRAME_BYTES, Tap, Wire, WireError};

const ETHERNET: usize = 14;
/// Congestion experienced, in the traffic class.
const MARKED: u8 = 3;

/// A path, the same in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Path {
    /// What it loses, reorders and duplicates.
    pub impairment: Impairment,
    /// How long a frame is under way.
    pub delay: Duration,
    /// How many of 1000 packets that are ECN-capable are marked.
    pub marks: u32,
    /// The longest IP packet that passes; any length if 0.
    pub longest: usize,
    /// Whether the sender of a longer one over IPv6 is told (RFC 4443 3.2).
    pub says_too_big: bool,
}

impl Path {
    /// A path that loses that share of the frames, others for each seed.
    pub fn lossy(loss: f64, seed: u64) -> Self {
        Self {
            impairment: Impairment {
                loss,
                seed,
                ..Impairment::default()
            },
            ..Self::default()
        }
    }
}

/// A TAP at the end of a [`Path`].
pub struct Distant {
    tap: Impaired<Tap>,
    path: Path,
    dice: Random,
    now_ns: u64,
    /// Frames under way, by when they arrive.
    there: VecDeque<(u64, Vec<u8>)>,
    back: VecDeque<(u64, Vec<u8>)>,
    scratch: Vec<u8>,
    /// Packets that were marked.
    pub marked: u64,
    /// Packets that were too long.
    pub eaten: u64,
}

impl Distant {
    pub(crate) fn new(tap: Tap, path: Path) -> Self {
        Self {
            tap: Impaired::new(tap, path.impairment),
            dice: Random::new(path.impairment.seed),
            path,
            now_ns: 0,
            there: VecDeque::new(),
            back: VecDeque::new(),
            scratch: vec![0; MAX_FRAME_BYTES],
            marked: 0,
            eaten: 0,
        }
    }

    /// What the network does to a frame; `false` if it is not heard of again.
    fn travels(&mut self, frame: &mut [u8]) -> bool {
        let is_ipv6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
        if !is_ipv6 && frame.get(12..14) != Some(&[8, 0]) {
            return true;
        }
        if self.path.longest != 0 && frame.len() > ETHERNET + self.path.longest {
            self.eaten += 1;
            return false;
        }
        let is_capable = !is_ipv6 && matches!(frame[15] & MARKED, 1 | 2);
        if is_capable && self.path.marks != 0 && self.dice.chance(self.path.marks) {
            self.marked += 1;
            mark(&mut frame[ETHERNET..]);
        }
        true
    }

    fn is_direct(&self) -> bool {
        let Path { impairment, .. } = self.path;
        self.path
            == Path {
                impairment,
                ..Path::default()
            }
    }
}

/// Sets the mark of a packet, and its checksum right (RFC 1624).
fn mark(packet: &mut [u8]) {
    let before = u16::from_be_bytes([packet[0], packet[1]]);
    packet[1] |= MARKED;
    let after = u16::from_be_bytes([packet[0], packet[1]]);
    let checksum = u16::from_be_bytes([packet[10], packet[11]]);
    let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

impl Wire for Distant {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        if self.is_direct() {
            return self.tap.send(frame);
        }
        let mut frame = frame.to_vec();
        let at = self.now_ns + self.path.delay.as_nanos() as u64;
        if self.travels(&mut frame) {
            self.there.push_back((at, frame));
        } else if self.path.says_too_big {
            let answer = too_big::answer(&frame, self.path.longest);
            self.back.extend(answer.map(|frame| (at, frame)));
        }
        Ok(())
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Option<usize>, WireError> {
        if self.is_direct() {
            return self.tap.receive(room);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(len) = self.tap.receive(&mut scratch)? {
            let mut frame = scratch[..len].to_vec();
            let at = self.now_ns + self.path.delay.as_nanos() as u64;
            if self.travels(&mut frame) {
                self.back.push_back((at, frame));
            } else if self.path.says_too_big {
                let answer = too_big::answer(&frame, self.path.longest);
                self.there.extend(answer.map(|frame| (at, frame)));
            }
        }
        self.scratch = scratch;
        let is_due = |(at, _): &mut (u64, Vec<u8>)| *at <= self.now_ns;
        Ok(self.back.pop_front_if(is_due).map(|(_, frame)| {
            room[..frame.len()].copy_from_slice(&frame);
            frame.len()
        }))
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.tap.advance(now_ns);
        while let Some((_, frame)) = self.there.pop_front_if(|(at, _)| *at <= now_ns) {
            // A full queue loses the frame, as a switch does.
            let _ = self.tap.send(&frame);
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let first = |lane: &VecDeque<(u64, Vec<u8>)>| lane.front().map(|(at, _)| *at);
        let due = [first(&self.there), first(&self.back)];
        due.into_iter()
            .flatten()
            .chain(self.tap.deadline_ns())
            .min()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.tap.readiness()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_packet_keeps_a_right_checksum() {
        let sum = |packet: &[u8]| {
            let words = packet.chunks(2).map(|pair| [pair[0], pair[1]]);
            let sum: u32 = words.map(u16::from_be_bytes).map(u32::from).sum();
            (sum & 0xffff) + (sum >> 16)
        };
        let mut packet = [
            0x45, 2, 0, 40, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
        ];
        let checksum = !(sum(&packet) as u16);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(sum(&packet), 0xffff);
        mark(&mut packet);
        assert_eq!((packet[1], sum(&packet)), (3, 0xffff));
    }
}
