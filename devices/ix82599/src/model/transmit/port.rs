//! Where a frame leaves the model: the wire or the MAC's loopback, and the counters beside it.

use std::collections::VecDeque;

use super::super::counters::Counters;
use super::super::offload::{self, Fault, FlagMasks, Segmenter};
use super::super::statistics::{Destination, Statistics};
use super::super::{FCS_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES};
use super::{Drop, FIXED_WORK};
use crate::wire::{Direction, Wire};

/// Frames under way in the MAC's loopback; more are lost.
const LOOPED_FRAMES: usize = 1024;

/// The parts of the model that a frame on its way out meets.
pub(super) struct Port<'a, W> {
    pub(super) wire: &'a mut W,
    pub(super) statistics: &'a mut Statistics,
    pub(super) counters: &'a mut Counters,
    /// Number of the queue.
    pub(super) number: usize,
    /// Every frame has to name a context: with virtual functions the device switches by what it says
    /// (7.10.3.2.2).
    pub(super) must_check_context: bool,
    /// Short frames are padded.
    pub(super) pad: bool,
    pub(super) masks: FlagMasks,
    /// Room for a segment.
    pub(super) segment: &'a mut Vec<u8>,
    /// Where frames go instead of to the wire.
    pub(super) looped: Option<&'a mut VecDeque<Vec<u8>>>,
    /// What the step may still do, in bytes.
    pub(super) work: &'a mut usize,
}

impl<W: Wire> Port<'_, W> {
    /// A descriptor or a frame of so many bytes was handled.
    pub(super) fn spend(&mut self, bytes: usize) {
        *self.work = self.work.saturating_sub(FIXED_WORK + bytes);
    }

    pub(super) fn send(&mut self, frame: &mut Vec<u8>) -> Result<(), Drop> {
        if frame.len() > MAX_FRAME_BYTES - FCS_BYTES {
            return Err(Drop::Length);
        }
        if self.pad && frame.len() < MIN_FRAME_BYTES {
            frame.resize(MIN_FRAME_BYTES, 0);
        }
        self.spend(frame.len());
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

    /// Sends segments while the step has work left. Whether that was the last.
    pub(super) fn send_segments(
        &mut self,
        frame: &[u8],
        segmenter: &mut Segmenter,
        tag: Option<u16>,
    ) -> Result<bool, Drop> {
        let mut segment = std::mem::take(self.segment);
        let result = loop {
            match segmenter.next(frame, &mut segment) {
                Ok(true) => {}
                Ok(false) => break Ok(true),
                Err(fault) => break Err(fault.into()),
            }
            if let Some(tag) = tag {
                offload::insert_vlan(&mut segment, tag);
            }
            if let Err(fault) = self.send(&mut segment) {
                break Err(fault);
            }
            if *self.work == 0 {
                break Ok(false);
            }
        };
        *self.segment = segment;
        result
    }

    /// A frame, or what is left of it, is not sent.
    pub(super) fn drop_frame(&mut self, frame: &[u8], fault: Drop) {
        let counter = match fault {
            Drop::Length => &mut self.counters.tx_bad_length,
            Drop::Unreadable => &mut self.counters.tx_unreadable,
            Drop::Offload(Fault::BadContext) => &mut self.counters.tx_bad_context,
            Drop::Offload(Fault::Unsupported) => &mut self.counters.tx_unsupported,
        };
        *counter += 1;
        if self.wire.is_observed() {
            self.wire
                .dropped(Direction::Outbound, frame, fault.reason());
        }
    }
}
