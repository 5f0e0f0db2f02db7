//! The way in: from the wire through the filters to a receive queue's buffers (7.1).

use ixgbe_spec::register::{Eicr, Hlreg0, Rxcsum, Rxdctl, Srrctl, maxfrs_mfs, psrtype};
use ixgbe_spec::{RssType, RxError, RxRead, RxStatus};

use super::checksum;
use super::counters::Counters;
use super::flow_director::FlowMatch;
use super::header_split::Split;
use super::interrupts::InterruptSink;
use super::parse::Parsed;
use super::ring::Ring;
use super::rss::Steering;
use super::state::State;
use super::statistics::{Counter, Destination};
use super::write_back::WriteBack;
use super::{FCS_BYTES, HEADER_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES, Model};
use crate::memory::{DmaError, GuestMemory};
use crate::wire::{Direction, Wire, WireError};

/// Frames taken from the wire, and from the packet buffer, in one step.
const BATCH: usize = 64;
/// Longest frame with FCS while HLREG0.JUMBOEN is clear; a tag may make it longer.
const STANDARD_FRAME_BYTES: usize = 1518;
const TAG_BYTES: usize = 4;

/// A receive queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RxQueue {
    pub(super) ring: Ring,
    pub(super) srrctl: u32,
    /// RXDCTL without ENABLE, which is the ring's.
    pub(super) rxdctl: u32,
    pub(super) dca_rxctrl: u32,
    pub(super) rscctl: u32,
}

/// What one step received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) frames: usize,
    pub(super) more: bool,
}

/// What the first frame of the packet buffer waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    queue: usize,
    descriptors: u32,
}

/// What became of a frame that was to be written to memory.
enum Delivery {
    /// It is written, or dropped and counted.
    Done,
    /// It has to wait.
    Blocked(Blocked),
}

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// Takes a batch of frames from the wire.
    pub(super) fn receive(&mut self) -> Received {
        let mut more = self.empty_packet_buffer();
        let mut frames = 0;
        while !self.paused() {
            if frames == BATCH {
                more = true;
                break;
            }
            match self.next_frame() {
                Ok(Some(length)) => {
                    frames += 1;
                    self.arrive(length);
                }
                Ok(None) => break,
                Err(error) => {
                    self.counters.rx_wire_errors += 1;
                    log::debug!("receiving a frame: {error}");
                    break;
                }
            }
        }
        Received { frames, more }
    }

    /// Puts the next frame into `frame`: from the wire, or one of our own that comes back.
    fn next_frame(&mut self) -> Result<Option<usize>, WireError> {
        let room = &mut self.frame[..MAX_FRAME_BYTES - FCS_BYTES];
        if let Some(frame) = self.state.looped.pop_front() {
            room[..frame.len()].copy_from_slice(&frame);
            return Ok(Some(frame.len()));
        }
        if self.state.hlreg0 & Hlreg0::LPBK.bits() != 0 {
            return Ok(None);
        }
        self.wire.receive(room)
    }

    /// Whether frames stay on the wire for want of room.
    pub(super) fn paused(&self) -> bool {
        self.config.pause_wire && !self.state.packet_buffer_has_room(MAX_FRAME_BYTES)
    }

    /// A frame came from the wire, where somebody may want to know what becomes of it.
    fn arrive(&mut self, length: usize) {
        if !self.wire.is_observed() {
            return self.take_in(length);
        }
        let before = self.counters;
        self.take_in(length);
        if let Some(reason) = self.counters.drop_since(&before) {
            self.wire
                .dropped(Direction::Inbound, &self.frame[..length], reason);
        }
    }

    fn take_in(&mut self, length: usize) {
        if !(self.state.receive_enabled() && self.pci.may_master()) {
            self.counters.rx_disabled += 1;
            return;
        }
        let mut inbound = Inbound {
            state: &mut self.state,
            memory: &self.memory,
            counters: &mut self.counters,
        };
        inbound.arrive(&mut self.frame, length);
    }

    /// Moves waiting frames to memory, up to a batch. Returns whether there is more to do.
    fn empty_packet_buffer(&mut self) -> bool {
        for _ in 0..BATCH {
            if self.state.still_blocked() || !self.pci.may_master() {
                return false;
            }
            let Some(length) = self.state.packet_buffer.first(&mut self.frame[..]) else {
                return false;
            };
            let mut inbound = Inbound {
                state: &mut self.state,
                memory: &self.memory,
                counters: &mut self.counters,
            };
            match inbound.deliver(&mut self.frame, length) {
                Delivery::Done => {
                    self.state.blocked = None;
                    self.state.packet_buffer.remove_first();
                }
                Delivery::Blocked(blocked) => {
                    self.state.blocked = Some(blocked);
                    return false;
                }
            }
        }
        !self.state.packet_buffer.is_empty()
    }
}

impl State {
    /// Whether the first waiting frame still has too few descriptors.
    fn still_blocked(&self) -> bool {
        self.blocked.is_some_and(|blocked| {
            let ring = &self.rx[blocked.queue].ring;
            ring.enabled() && ring.available() < blocked.descriptors
        })
    }
}

/// The parts of the model that a frame on its way in meets.
struct Inbound<'a> {
    state: &'a mut State,
    memory: &'a GuestMemory,
    counters: &'a mut Counters,
}

impl Inbound<'_> {
    /// A frame came from the wire: filter it, then write it to memory or keep it.
    fn arrive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES], mut length: usize) {
        if length < HEADER_BYTES {
            self.counters.rx_bad_length += 1;
            self.state.statistics.count(Counter::Ruc);
            return;
        }
        if length < MIN_FRAME_BYTES {
            // Software ends of a wire do not pad; on a real one the sender's MAC has.
            frame[length..MIN_FRAME_BYTES].fill(0);
            length = MIN_FRAME_BYTES;
        }
        let wire_bytes = length + FCS_BYTES;
        self.state.statistics.received_any(wire_bytes);
        let [a, b, c, d, e, f, ..] = *frame;
        let mac = [a, b, c, d, e, f];
        let tag =
            (frame[12..14] == [0x81, 0x00]).then(|| u16::from_be_bytes([frame[14], frame[15]]));
        let longest = self.longest() + tag.map_or(0, |_| TAG_BYTES);
        if wire_bytes > longest {
            self.counters.rx_bad_length += 1;
            self.state.statistics.count(Counter::Roc);
            return;
        }
        let destination = Destination::of(mac);
        if !self.state.filters.accept(mac, destination, tag) {
            self.counters.rx_filtered += 1;
            return;
        }
        self.state.statistics.received_good(destination, wire_bytes);
        if !self.state.packet_buffer.is_empty() {
            self.keep(&frame[..length]);
        } else if let Delivery::Blocked(blocked) = self.deliver(frame, length) {
            self.state.blocked = Some(blocked);
            self.keep(&frame[..length]);
        }
    }

    /// MAXFRS counts with HLREG0.JUMBOEN only (8.2.3.22.13).
    fn longest(&self) -> usize {
        let hlreg0 = Hlreg0::from_bits_retain(self.state.hlreg0);
        if hlreg0.contains(Hlreg0::JUMBOEN) {
            maxfrs_mfs(self.state.maxfrs) as usize
        } else {
            STANDARD_FRAME_BYTES
        }
    }

    /// Puts a frame into the packet buffer, or misses it.
    fn keep(&mut self, frame: &[u8]) {
        if self.state.packet_buffer_has_room(frame.len()) {
            self.state.packet_buffer.push(frame);
        } else {
            self.counters.rx_missed += 1;
            self.state.statistics.count(Counter::Rxmpc0);
            self.state.interrupts.raise_other(Eicr::RX_MISS);
        }
    }

    /// Chooses the queue and writes the frame to its buffers. The frame is changed only if it is
    /// written.
    fn deliver(&mut self, frame: &mut [u8; MAX_FRAME_BYTES], length: usize) -> Delivery {
        let parsed = Parsed::new(&frame[..length]);
        let steering = self.state.steer(&parsed, &frame[..length]);
        let delivery = self.deliver_to(steering, &parsed, frame, length);
        if matches!(delivery, Delivery::Done) {
            self.state.flow_director.count(steering.flow);
        }
        delivery
    }

    fn deliver_to(
        &mut self,
        steering: Steering,
        parsed: &Parsed,
        frame: &mut [u8; MAX_FRAME_BYTES],
        length: usize,
    ) -> Delivery {
        let queue = self.state.rx[steering.queue];
        if !queue.ring.enabled() {
            self.counters.rx_queue_disabled += 1;
            return Delivery::Done;
        }
        let strip_tag = queue.rxdctl & Rxdctl::VME.bits() != 0 && parsed.vlan.is_some();
        let keep_fcs = self.state.hlreg0 & Hlreg0::RXCRCSTRP.bits() == 0;
        let start = if strip_tag { TAG_BYTES } else { 0 };
        let bytes = length - start + if keep_fcs { FCS_BYTES } else { 0 };
        let srrctl = Srrctl::from_bits_retain(queue.srrctl);
        let header_end = parsed.header_end(&frame[..length], self.state.stored(psrtype(0)));
        let split = Split::new(srrctl, header_end.map(|end| end - start), bytes);
        let buffer_bytes = srrctl.bsizepacket() as usize * 1024;
        let descriptors = match buffer_bytes {
            0 => u32::MAX,
            room => (bytes - split.header_bytes).div_ceil(room).max(1) as u32,
        };
        if descriptors > queue.ring.capacity() {
            self.counters.rx_unusable_ring += 1;
            return Delivery::Done;
        }
        if queue.ring.available() < descriptors {
            return self.no_descriptor(steering.queue, queue.srrctl, descriptors);
        }
        let (mut status, mut error) = parsed.check(&frame[..length]);
        status.set(RxStatus::FLM, steering.flow == FlowMatch::Hit);
        error.set(RxError::HBO, split.overflow);
        if error.intersects(RxError::TCPE | RxError::IPE) {
            self.state.statistics.count(Counter::Xec);
        }
        if keep_fcs {
            let fcs = checksum::fcs(&frame[..length]);
            frame[length..length + FCS_BYTES].copy_from_slice(&fcs);
        }
        frame.copy_within(0..12, start);
        let last = WriteBack {
            steering: self.reported(steering),
            packet_type: parsed.packet_type,
            vlan: parsed.vlan.filter(|_| strip_tag),
            status: status | RxStatus::EOP,
            error,
        };
        let data = &frame[start..start + bytes];
        self.write(steering.queue, data, buffer_bytes, &split, &last);
        self.state
            .statistics
            .delivered(steering.queue, length + FCS_BYTES);
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += length as u64;
        self.state.interrupts.raise_rx(steering.queue);
        Delivery::Done
    }

    /// SRRCTL.Drop_En decides between dropping and blocking (8.2.3.8.7).
    fn no_descriptor(&mut self, queue: usize, srrctl: u32, descriptors: u32) -> Delivery {
        if srrctl & Srrctl::DROP_EN.bits() == 0 {
            return Delivery::Blocked(Blocked { queue, descriptors });
        }
        self.counters.rx_no_descriptor += 1;
        self.state.statistics.dropped(queue);
        Delivery::Done
    }

    /// The hash is reported in place of a packet checksum, if RXCSUM.PCSD says so (8.2.3.7.5).
    fn reported(&self, steering: Steering) -> Steering {
        if self.state.rxcsum & Rxcsum::PCSD.bits() != 0 {
            return steering;
        }
        Steering {
            hash: 0,
            rss_type: RssType::None,
            ..steering
        }
    }

    /// Writes `data` to as many buffers as it takes; the caller made sure that they are there.
    fn write(
        &mut self,
        queue: usize,
        data: &[u8],
        buffer_bytes: usize,
        split: &Split,
        last: &WriteBack,
    ) {
        let queue = &mut self.state.rx[queue];
        let legacy = Srrctl::from_bits_retain(queue.srrctl).desctype() == Srrctl::DESCTYPE_LEGACY;
        let (header, data) = data.split_at(split.header_bytes);
        let mut pieces = data.chunks(buffer_bytes);
        // Even a frame that fits into the header buffer takes a descriptor.
        let mut piece = pieces.next().unwrap_or_default();
        let mut split = Some(split);
        loop {
            let at = queue.ring.head_address();
            let words = match self.memory.load_descriptor(at) {
                Ok(words) => words,
                Err(error) => {
                    ring_fault(&mut queue.ring, error, self.counters);
                    return;
                }
            };
            let buffers = if legacy {
                RxRead {
                    packet: words[0],
                    header: 0,
                }
            } else {
                RxRead::decode(words)
            };
            let first = split.take();
            let header = if first.is_some() { header } else { &[] };
            for (buffer, bytes) in [(buffers.header, header), (buffers.packet, piece)] {
                if !bytes.is_empty() && self.memory.write(buffer, bytes).is_err() {
                    // A posted write to nowhere vanishes; the descriptor is written back all the same.
                    self.counters.write_faults += 1;
                }
            }
            let next = pieces.next();
            let write_back = if next.is_none() {
                *last
            } else {
                WriteBack::MIDDLE
            };
            let words = if legacy {
                write_back.legacy(words[0], piece.len())
            } else {
                write_back.advanced(piece.len(), first)
            };
            if self.memory.store_descriptor(at, words).is_err() {
                self.counters.write_faults += 1;
            }
            queue.ring.advance();
            match next {
                Some(next) => piece = next,
                None => return,
            }
        }
    }
}

/// The ring's memory cannot be reached: the queue stops until it is enabled anew.
pub(super) fn ring_fault(ring: &mut Ring, error: DmaError, counters: &mut Counters) {
    ring.halt();
    counters.ring_faults += 1;
    log::debug!("a queue stops: {error}");
}
