//! The way out: from a transmit queue's descriptors to the wire (7.2).

use std::collections::VecDeque;

use ixgbe_spec::register::Hlreg0;
use ixgbe_spec::{
    LegacyCommand, TxCommand, TxContext, TxData, TxDescriptor, TxLegacy, TxOptions, TxSegment,
    TxWriteBack,
};

use super::counters::Counters;
use super::interrupts::InterruptSink;
use super::offload::{self, Fault, FlagMasks, Segmenter};
use super::receive::ring_fault;
use super::ring::Ring;
use super::statistics::{Destination, Statistics};
use super::{FCS_BYTES, HEADER_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES, Model};
use crate::memory::GuestMemory;
use crate::wire::{Direction, Wire};

/// Descriptors taken from one queue in one step.
const BATCH: usize = 1024;
/// Frames sent from one queue in one step; the segments of the last large frame may come on top.
const FRAME_BATCH: usize = 1024;
/// Most bytes that the descriptors of one frame may name: PAYLEN of a large frame and headers.
const MAX_GATHER_BYTES: usize = (1 << 18) + 1024;

/// Frames under way in the MAC's loopback; more are lost.
const LOOPED_FRAMES: usize = 1024;

/// A transmit queue.
#[derive(Debug, Default)]
pub(super) struct TxQueue {
    pub(super) ring: Ring,
    /// TXDCTL without ENABLE, which is the ring's.
    pub(super) txdctl: u32,
    pub(super) dca_txctrl: u32,
    /// Head write-back is not modelled: drivers of this house and Linux poll DD.
    pub(super) tdwbal: u32,
    pub(super) tdwbah: u32,
    contexts: [Option<TxContext>; 2],
    /// The frame gathered so far; its end may come with a later doorbell.
    frame: Vec<u8>,
    open: Option<Open>,
}

/// A frame of which some descriptors were taken.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The first data descriptor, whose options count for the whole frame.
    first: Option<TxData>,
    fault: Option<Drop>,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drop {
    Length,
    Unreadable,
    Offload(Fault),
}

impl Drop {
    /// For people.
    fn reason(self) -> &'static str {
        match self {
            Self::Length => "out: dropped for length",
            Self::Unreadable => "out: dropped for unreadable data",
            Self::Offload(Fault::BadContext) => "out: dropped for context",
            Self::Offload(Fault::Unsupported) => "out: dropped for unsupported offload",
        }
    }
}

impl From<Fault> for Drop {
    fn from(fault: Fault) -> Self {
        Self::Offload(fault)
    }
}

/// What one step transmitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transmitted {
    pub(super) descriptors: usize,
    pub(super) more: bool,
}

impl TxQueue {
    /// Forgets what only makes sense while the queue runs.
    pub(super) fn stop(&mut self) {
        self.contexts = [None; 2];
        self.frame.clear();
        self.open = None;
    }
}

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// Sends what the queues with a rung doorbell have, a batch of each.
    pub(super) fn transmit(&mut self) -> Transmitted {
        let mut result = Transmitted {
            descriptors: 0,
            more: false,
        };
        if !(self.state.transmit_enabled() && self.pci.may_master()) {
            return result;
        }
        let mut ready = std::mem::take(&mut self.state.tx_ready);
        while ready != 0 {
            let queue = ready.trailing_zeros() as usize;
            ready &= ready - 1;
            let taken = self.transmit_queue(queue);
            result.descriptors += taken;
            if taken > 0 && self.state.tx[queue].ring.available() > 0 {
                self.state.tx_ready |= 1 << queue;
                result.more = true;
            }
        }
        result
    }

    fn transmit_queue(&mut self, number: usize) -> usize {
        let state = &mut self.state;
        let queue = &mut state.tx[number];
        let mut port = Port {
            wire: &mut self.wire,
            statistics: &mut state.statistics,
            counters: &mut self.counters,
            number,
            must_check_context: self.config.virtual_function.is_some(),
            pad: state.hlreg0 & Hlreg0::TXPADEN.bits() != 0,
            masks: FlagMasks {
                low: state.dtxtcpflgl,
                high: state.dtxtcpflgh,
            },
            segment: &mut state.tx_segment,
            looped: (state.hlreg0 & Hlreg0::LPBK.bits() != 0).then_some(&mut state.looped),
            frames: 0,
        };
        let mut reported = false;
        let mut taken = 0;
        while taken < BATCH && port.frames < FRAME_BATCH && queue.ring.available() > 0 {
            let at = queue.ring.head_address();
            let words = match self.memory.load_descriptor(at) {
                Ok(words) => words,
                Err(error) => {
                    ring_fault(&mut queue.ring, error, port.counters);
                    break;
                }
            };
            taken += 1;
            queue.ring.advance();
            if queue.take(words, &self.memory, &mut port) {
                reported = true;
                let done = [words[0], words[1] | TxWriteBack::DD];
                if self.memory.store_descriptor(at, done).is_err() {
                    port.counters.write_faults += 1;
                }
            }
        }
        if reported {
            state.interrupts.raise_tx(number);
        }
        taken
    }
}

impl TxQueue {
    /// Does what a descriptor says. Returns whether its completion is to be reported.
    fn take(
        &mut self,
        words: [u64; 2],
        memory: &GuestMemory,
        port: &mut Port<'_, impl Wire>,
    ) -> bool {
        let descriptor = match TxDescriptor::decode(words) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                port.counters.tx_bad_descriptor += 1;
                log::debug!("transmit queue {}: {error}", port.number);
                return false;
            }
        };
        if let TxDescriptor::Context(context) = descriptor {
            self.contexts[usize::from(context.index & 1)] = Some(context);
        }
        let Some(segment) = descriptor.segment() else {
            return false;
        };
        self.gather(descriptor, segment, memory);
        if segment.end_of_packet {
            let open = self.open.take();
            let result = match open.and_then(|open| open.fault) {
                Some(fault) => Err(fault),
                None => self.finish(descriptor, open.and_then(|open| open.first), port),
            };
            if let Err(fault) = result {
                port.count(fault);
                if port.wire.is_observed() {
                    let reason = fault.reason();
                    port.wire.dropped(Direction::Outbound, &self.frame, reason);
                }
            }
            self.frame.clear();
        }
        segment.report_status
    }

    /// Appends the data that a descriptor names. After a fault the rest is skipped.
    fn gather(&mut self, descriptor: TxDescriptor, segment: TxSegment, memory: &GuestMemory) {
        let open = self.open.get_or_insert(Open {
            first: match descriptor {
                TxDescriptor::Data(data) => Some(data),
                TxDescriptor::Legacy(_) | TxDescriptor::Context(_) => None,
            },
            fault: None,
        });
        let start = self.frame.len();
        let end = start + usize::from(segment.length);
        if open.fault.is_some() {
            return;
        }
        if end > MAX_GATHER_BYTES {
            open.fault = Some(Drop::Length);
            return;
        }
        self.frame.resize(end, 0);
        if let Err(error) = memory.read(segment.address, &mut self.frame[start..]) {
            log::debug!("transmit data: {error}");
            open.fault = Some(Drop::Unreadable);
        }
    }

    /// The frame is complete: apply the offloads and send it.
    fn finish(
        &mut self,
        last: TxDescriptor,
        first: Option<TxData>,
        port: &mut Port<'_, impl Wire>,
    ) -> Result<(), Drop> {
        if self.frame.len() < HEADER_BYTES {
            return Err(Drop::Length);
        }
        match (first, last) {
            (Some(data), _) => self.finish_advanced(data, port),
            (None, TxDescriptor::Legacy(legacy)) => self.finish_legacy(legacy, port),
            // A legacy descriptor first and an advanced one last: no offload applies.
            (None, TxDescriptor::Data(_) | TxDescriptor::Context(_)) => port.send(&mut self.frame),
        }
    }

    /// Checksum and tag as the last legacy descriptor says (7.2.3.2.2).
    fn finish_legacy(
        &mut self,
        legacy: TxLegacy,
        port: &mut Port<'_, impl Wire>,
    ) -> Result<(), Drop> {
        if legacy.command.contains(LegacyCommand::IC) {
            let start = usize::from(legacy.checksum_start);
            let field = usize::from(legacy.checksum_offset);
            offload::insert_sum(&mut self.frame, start, field)?;
        }
        if legacy.command.contains(LegacyCommand::VLE) {
            offload::insert_vlan(&mut self.frame, legacy.vlan);
        }
        port.send(&mut self.frame)
    }

    /// Checksums, segmentation and tag as the first data descriptor and its context say
    /// (7.2.3.2.4).
    fn finish_advanced(
        &mut self,
        data: TxData,
        port: &mut Port<'_, impl Wire>,
    ) -> Result<(), Drop> {
        if port.must_check_context && !data.check_context {
            return Err(Fault::BadContext.into());
        }
        let segmentation = data.command.contains(TxCommand::TSE);
        let tag = data.command.contains(TxCommand::VLE);
        let checksums = data.options & (TxOptions::IXSM | TxOptions::TXSM | TxOptions::IPSEC);
        if !(segmentation || tag || data.check_context) && checksums.is_empty() {
            return port.send(&mut self.frame);
        }
        let context = self
            .contexts
            .get(usize::from(data.context))
            .copied()
            .flatten()
            .ok_or(Fault::BadContext)?;
        let tag = tag.then_some(context.vlan);
        if segmentation {
            return port.send_segments(&self.frame, &context, checksums, tag);
        }
        offload::insert_checksums(&mut self.frame, &context, checksums)?;
        if let Some(tag) = tag {
            offload::insert_vlan(&mut self.frame, tag);
        }
        port.send(&mut self.frame)
    }
}

/// The parts of the model that a frame on its way out meets.
struct Port<'a, W> {
    wire: &'a mut W,
    statistics: &'a mut Statistics,
    counters: &'a mut Counters,
    /// Number of the queue.
    number: usize,
    /// Every frame has to name a context: with virtual functions the device switches by what it says
    /// (7.10.3.2.2).
    must_check_context: bool,
    /// Short frames are padded.
    pad: bool,
    masks: FlagMasks,
    /// Room for a segment.
    segment: &'a mut Vec<u8>,
    /// Where frames go instead of to the wire.
    looped: Option<&'a mut VecDeque<Vec<u8>>>,
    /// Frames sent so far, or refused by the wire.
    frames: usize,
}

impl<W: Wire> Port<'_, W> {
    fn send(&mut self, frame: &mut Vec<u8>) -> Result<(), Drop> {
        if frame.len() > MAX_FRAME_BYTES - FCS_BYTES {
            return Err(Drop::Length);
        }
        if self.pad && frame.len() < MIN_FRAME_BYTES {
            frame.resize(MIN_FRAME_BYTES, 0);
        }
        self.frames += 1;
        if let Some(looped) = &mut self.looped {
            if looped.len() == LOOPED_FRAMES {
                self.counters.tx_refused += 1;
                return Ok(());
            }
            looped.push_back(frame.clone());
        } else if let Err(error) = self.wire.send(frame) {
            self.counters.tx_refused += 1;
            log::debug!("sending a frame: {error}");
            return Ok(());
        }
        let destination = frame
            .first_chunk()
            .map_or(Destination::Unicast, |mac| Destination::of(*mac));
        self.statistics
            .sent(self.number, destination, frame.len() + FCS_BYTES);
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += frame.len() as u64;
        Ok(())
    }

    fn send_segments(
        &mut self,
        frame: &[u8],
        context: &TxContext,
        options: TxOptions,
        tag: Option<u16>,
    ) -> Result<(), Drop> {
        let mut segmenter = Segmenter::new(frame, context, options, self.masks)?;
        let mut segment = std::mem::take(self.segment);
        let result = loop {
            match segmenter.next(&mut segment) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(fault) => break Err(fault.into()),
            }
            if let Some(tag) = tag {
                offload::insert_vlan(&mut segment, tag);
            }
            if let Err(fault) = self.send(&mut segment) {
                break Err(fault);
            }
        };
        *self.segment = segment;
        result
    }

    fn count(&mut self, fault: Drop) {
        let counter = match fault {
            Drop::Length => &mut self.counters.tx_bad_length,
            Drop::Unreadable => &mut self.counters.tx_unreadable,
            Drop::Offload(Fault::BadContext) => &mut self.counters.tx_bad_context,
            Drop::Offload(Fault::Unsupported) => &mut self.counters.tx_unsupported,
        };
        *counter += 1;
    }
}
