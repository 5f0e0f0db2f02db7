//! The way out: from a transmit queue's descriptors to the wire (7.2).

mod port;

use ixgbe_spec::register::Hlreg0;
use ixgbe_spec::{
    LegacyCommand, QUEUES, TxCommand, TxContext, TxData, TxDescriptor, TxLegacy, TxOptions,
    TxSegment, TxWriteBack,
};

use super::interrupts::InterruptSink;
use super::offload::{self, Fault, FlagMasks, Segmenter};
use super::receive::ring_fault;
use super::ring::Ring;
use super::{HEADER_BYTES, Model};
use crate::memory::GuestMemory;
use crate::wire::Wire;
use port::Port;

/// Descriptors taken from one queue in one step.
const BATCH: usize = 1024;
/// What all queues together may do in one step, in bytes read and written, so that other functions of
/// the same process have their turn: about two milliseconds.
const STEP_WORK: usize = 4 << 20;
/// What a descriptor or a frame costs beyond its bytes.
const FIXED_WORK: usize = 256;
/// Most bytes that the descriptors of one frame may name: PAYLEN of a large frame and headers.
const MAX_GATHER_BYTES: usize = (1 << 18) + 1024;

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
    /// The frame is complete, and was cut in part.
    cut: Option<Cut>,
}

/// A large frame of which some segments have left.
#[derive(Clone, Copy, Debug)]
struct Cut {
    segmenter: Segmenter,
    tag: Option<u16>,
    /// The frame's last descriptor, for when all have left.
    completed: Completed,
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
        self.cut = None;
    }

    /// Whether there is something to do.
    fn is_pending(&self) -> bool {
        self.cut.is_some() || self.ring.available() > 0
    }
}

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// Sends what the queues with a rung doorbell have, a batch of each, as far as a step's work goes.
    pub(super) fn transmit(&mut self) -> Transmitted {
        let mut result = Transmitted {
            descriptors: 0,
            more: false,
        };
        if !(self.state.transmit_enabled() && self.pci.may_master()) {
            return result;
        }
        let mut work = STEP_WORK;
        let first = self.state.tx_first;
        let mut ready = std::mem::take(&mut self.state.tx_ready).rotate_right(first);
        while ready != 0 {
            let queue = (first + ready.trailing_zeros()) % QUEUES;
            ready &= ready - 1;
            let (descriptors, is_pending) = self.transmit_queue(queue as usize, &mut work);
            result.descriptors += descriptors;
            self.state.tx_ready |= u128::from(is_pending) << queue;
            if work == 0 {
                // The next step begins with whoever had no turn in this one.
                self.state.tx_first = (queue + 1) % QUEUES;
                self.state.tx_ready |= ready.rotate_left(first);
                break;
            }
        }
        result.more = self.state.tx_ready != 0;
        result
    }

    /// A batch of one queue: descriptors taken, and whether there are more.
    fn transmit_queue(&mut self, number: usize, work: &mut usize) -> (usize, bool) {
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
            work,
        };
        let mut reported = false;
        let mut taken = 0;
        while taken < BATCH && *port.work > 0 && queue.is_pending() {
            let completed = if let Some(cut) = queue.cut.take() {
                queue.go_on(cut, &mut port)
            } else {
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
                queue.take((at, words), &self.memory, &mut port)
            };
            if let Some((at, words)) = completed {
                reported = true;
                let done = [words[0], words[1] | TxWriteBack::DD];
                if self.memory.store_descriptor(at, done).is_err() {
                    port.counters.write_faults += 1;
                }
            }
        }
        let is_pending = queue.is_pending();
        if reported {
            state.interrupts.raise_tx(number);
        }
        (taken, is_pending)
    }
}

/// How a large frame is cut, and the tag of its segments.
type ToCut = Option<(Segmenter, Option<u16>)>;

/// A descriptor whose completion is to be reported: where it is, and its words.
type Completed = Option<(u64, [u64; 2])>;

impl TxQueue {
    /// Does what a descriptor says.
    fn take(
        &mut self,
        (at, words): (u64, [u64; 2]),
        memory: &GuestMemory,
        port: &mut Port<'_, impl Wire>,
    ) -> Completed {
        port.spend(0);
        let descriptor = match TxDescriptor::decode(words) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                port.counters.tx_bad_descriptor += 1;
                log::debug!("transmit queue {}: {error}", port.number);
                return None;
            }
        };
        if let TxDescriptor::Context(context) = descriptor {
            self.contexts[usize::from(context.index & 1)] = Some(context);
        }
        let segment = descriptor.segment()?;
        port.spend(usize::from(segment.length));
        self.gather(descriptor, segment, memory);
        let completed = segment.report_status.then_some((at, words));
        if !segment.end_of_packet {
            return completed;
        }
        let open = self.open.take();
        let result = match open.and_then(|open| open.fault) {
            Some(fault) => Err(fault),
            None => self.finish(descriptor, open.and_then(|open| open.first), port),
        };
        match result {
            Ok(None) => {}
            Ok(Some((segmenter, tag))) => {
                let cut = Cut {
                    segmenter,
                    tag,
                    completed,
                };
                return self.go_on(cut, port);
            }
            Err(fault) => port.drop_frame(&self.frame, fault),
        }
        self.frame.clear();
        completed
    }

    /// Sends segments of a large frame, as many as the step has work left for.
    fn go_on(&mut self, mut cut: Cut, port: &mut Port<'_, impl Wire>) -> Completed {
        match port.send_segments(&self.frame, &mut cut.segmenter, cut.tag) {
            Ok(true) => {}
            Ok(false) => {
                self.cut = Some(cut);
                return None;
            }
            Err(fault) => port.drop_frame(&self.frame, fault),
        }
        self.frame.clear();
        cut.completed
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

    /// The frame is complete: apply the offloads and send it, unless it is to be cut.
    fn finish(
        &mut self,
        last: TxDescriptor,
        first: Option<TxData>,
        port: &mut Port<'_, impl Wire>,
    ) -> Result<ToCut, Drop> {
        if self.frame.len() < HEADER_BYTES {
            return Err(Drop::Length);
        }
        match (first, last) {
            (Some(data), _) => self.finish_advanced(data, port),
            (None, TxDescriptor::Legacy(legacy)) => self.finish_legacy(legacy, port).map(|()| None),
            // A legacy descriptor first and an advanced one last: no offload applies.
            (None, TxDescriptor::Data(_) | TxDescriptor::Context(_)) => {
                port.send(&mut self.frame).map(|()| None)
            }
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
    ) -> Result<ToCut, Drop> {
        if port.must_check_context && !data.check_context {
            return Err(Fault::BadContext.into());
        }
        let segmentation = data.command.contains(TxCommand::TSE);
        let tag = data.command.contains(TxCommand::VLE);
        let checksums = data.options & (TxOptions::IXSM | TxOptions::TXSM | TxOptions::IPSEC);
        if !(segmentation || tag || data.check_context) && checksums.is_empty() {
            return port.send(&mut self.frame).map(|()| None);
        }
        let context = self
            .contexts
            .get(usize::from(data.context))
            .copied()
            .flatten()
            .ok_or(Fault::BadContext)?;
        let tag = tag.then_some(context.vlan);
        if segmentation {
            let segmenter = Segmenter::new(&self.frame, context, checksums, port.masks)?;
            return Ok(Some((segmenter, tag)));
        }
        offload::insert_checksums(&mut self.frame, &context, checksums)?;
        if let Some(tag) = tag {
            offload::insert_vlan(&mut self.frame, tag);
        }
        port.send(&mut self.frame).map(|()| None)
    }
}
