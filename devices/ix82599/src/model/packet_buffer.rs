//! The receive packet buffer (4.6.11.3): frames that were accepted but have no descriptor yet, in
//! order of arrival.

use std::collections::VecDeque;

/// Frames in a bounded number of bytes.
#[derive(Debug, Default)]
pub(super) struct PacketBuffer {
    bytes: VecDeque<u8>,
    lengths: VecDeque<u16>,
}

impl PacketBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Whether `bytes` more fit into `capacity`.
    pub(super) fn has_room(&self, bytes: usize, capacity: usize) -> bool {
        self.bytes.len() + bytes <= capacity
    }

    /// Appends a frame of at most 65535 bytes.
    pub(super) fn push(&mut self, frame: &[u8]) {
        self.lengths.push_back(frame.len() as u16);
        self.bytes.extend(frame);
    }

    /// Copies the first frame out without removing it; `None` if there is none or it is longer
    /// than `into`.
    pub(super) fn first(&self, into: &mut [u8]) -> Option<usize> {
        let length = usize::from(*self.lengths.front()?);
        let into = into.get_mut(..length)?;
        let (front, back) = self.bytes.as_slices();
        let split = front.len().min(length);
        into[..split].copy_from_slice(&front[..split]);
        into[split..].copy_from_slice(&back[..length - split]);
        Some(length)
    }

    /// Removes the first frame.
    pub(super) fn remove_first(&mut self) {
        if let Some(length) = self.lengths.pop_front() {
            self.bytes.drain(..usize::from(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut buffer = PacketBuffer::default();
        let mut frame = [0; 2000];
        // Enough rounds for the contents to wrap around in the deque.
        for round in 0..200u16 {
            let length = 60 + usize::from(round) * 7;
            buffer.push(&vec![round as u8; length]);
            if round % 3 != 0 {
                let expected = buffer.lengths[0];
                let got = buffer.first(&mut frame).unwrap();
                assert_eq!(got, usize::from(expected));
                assert!(frame[..got].iter().all(|byte| *byte == frame[0]));
                buffer.remove_first();
            }
        }
        assert!(!buffer.is_empty());
        while buffer.first(&mut frame).is_some() {
            buffer.remove_first();
        }
        assert!(buffer.is_empty() && buffer.bytes.is_empty());
    }

    #[test]
    fn room_is_counted_in_bytes() {
        let mut buffer = PacketBuffer::default();
        buffer.push(&[0; 100]);
        assert!(buffer.has_room(28, 128));
        assert!(!buffer.has_room(29, 128));
    }
}
