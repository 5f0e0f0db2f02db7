//! Cuts the byte stream of a connection into messages, and finds out to which of them received
//! file descriptors belong.
//!
//! Descriptors ride on the first byte of a `sendmsg`, and a client sends each message with one
//! `sendmsg` of its own. The kernel ends a `recvmsg` after the piece that descriptors came with. So
//! those of a received chunk belong to the last message that begins in it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::message::{BadSize, HEADER_BYTES, Header, MAX_MESSAGE_BYTES};

/// Bytes that a chunk may have at most.
const CHUNK_BYTES: usize = 1 << 16;
/// Chunks with descriptors that may wait for their message to be complete. A client that sends each
/// message by one call needs two.
const WAITING_CHUNKS: usize = 8;
/// Room for an incomplete message and a chunk.
const BUFFER_BYTES: usize = MAX_MESSAGE_BYTES + CHUNK_BYTES;

/// A message and its descriptors.
#[derive(Debug)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    /// What follows the header.
    pub payload: &'a [u8],
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// The stream so far, from the first byte that was not handed out.
#[derive(Debug)]
pub struct Framing {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Stream position of `start`.
    position: u64,
    /// Chunks that came with descriptors: stream positions of their first byte and behind their
    /// last.
    fds: VecDeque<(u64, u64, Vec<OwnedFd>)>,
}

impl Framing {
    /// An empty stream.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            position: 0,
            fds: VecDeque::new(),
        }
    }

    /// Room for the next chunk; never empty once all complete messages were taken.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < CHUNK_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = &mut self.buffer[self.end..];
        let length = room.len().min(CHUNK_BYTES);
        &mut room[..length]
    }

    /// Takes note of a chunk of `bytes` that was put at the start of [`Framing::room`]. Descriptors of a
    /// client that cuts its messages to pieces, each with some, are closed.
    pub fn received(&mut self, bytes: usize, fds: Vec<OwnedFd>) {
        let from = self.position + (self.end - self.start) as u64;
        self.end = (self.end + bytes).min(self.buffer.len());
        if fds.is_empty() {
            return;
        }
        if self.fds.len() == WAITING_CHUNKS {
            log::debug!("{} descriptors too many were closed", fds.len());
        } else {
            self.fds.push_back((from, from + bytes as u64, fds));
        }
    }

    /// The next complete message.
    ///
    /// # Errors
    /// [`BadSize`]: the stream cannot be followed any further.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, BadSize> {
        let waiting = &self.buffer[self.start..self.end];
        let Some(first) = waiting.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(first)?;
        let size = header.size as usize;
        if waiting.len() < size {
            return Ok(None);
        }
        let (from, to) = (self.position, self.position + size as u64);
        let payload = self.start + HEADER_BYTES..self.start + size;
        self.start += size;
        self.position = to;
        Ok(Some(Message {
            header,
            payload: &self.buffer[payload],
            fds: take_fds(&mut self.fds, from, to),
        }))
    }
}

impl Default for Framing {
    fn default() -> Self {
        Self::new()
    }
}

/// Descriptors of the message at stream positions `from` to `to`. Those of chunks in which no
/// message begins are closed.
fn take_fds(chunks: &mut VecDeque<(u64, u64, Vec<OwnedFd>)>, from: u64, to: u64) -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    while let Some((chunk_start, chunk_end, _)) = chunks.front() {
        let begins_in_chunk = (*chunk_start..*chunk_end).contains(&from);
        if begins_in_chunk && to >= *chunk_end {
            taken = chunks.pop_front().map_or(Vec::new(), |(_, _, fds)| fds);
        } else if from >= *chunk_end || (*chunk_start > from && to >= *chunk_end) {
            chunks.pop_front();
        } else {
            break;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn fd() -> OwnedFd {
        eventfd(0, EventfdFlags::empty()).unwrap()
    }

    fn message(id: u16, payload: usize) -> Vec<u8> {
        let header = Header {
            id,
            command: 2,
            size: (HEADER_BYTES + payload) as u32,
            flags: 0,
            error: 0,
        };
        let mut bytes = header.encode().to_vec();
        bytes.resize(HEADER_BYTES + payload, id as u8);
        bytes
    }

    fn push(framing: &mut Framing, bytes: &[u8], fds: Vec<OwnedFd>) {
        framing.room()[..bytes.len()].copy_from_slice(bytes);
        framing.received(bytes.len(), fds);
    }

    /// Identifiers of the complete messages and their numbers of descriptors.
    fn drain(framing: &mut Framing) -> Vec<(u16, usize)> {
        let mut drained = Vec::new();
        while let Some(message) = framing.next_message().unwrap() {
            drained.push((message.header.id, message.fds.len()));
        }
        drained
    }

    #[test]
    fn descriptors_go_to_the_last_message_that_begins_in_their_chunk() {
        let mut framing = Framing::new();
        let chunk = [message(1, 20), message(2, 32)].concat();
        push(&mut framing, &chunk, vec![fd()]);
        push(&mut framing, &message(3, 4), vec![]);
        assert_eq!(drain(&mut framing), [(1, 0), (2, 1), (3, 0)]);
    }

    #[test]
    fn a_message_cut_in_two_keeps_its_descriptors() {
        let mut framing = Framing::new();
        let (one, two) = (message(1, 20), message(2, 32));
        push(
            &mut framing,
            &[&one[..], &two[..5]].concat(),
            vec![fd(), fd()],
        );
        assert_eq!(drain(&mut framing), [(1, 0)]);
        push(
            &mut framing,
            &[&two[5..], &message(3, 0)[..]].concat(),
            vec![],
        );
        assert_eq!(drain(&mut framing), [(2, 2), (3, 0)]);
    }

    #[test]
    fn two_chunks_with_descriptors_do_not_mix() {
        let mut framing = Framing::new();
        push(&mut framing, &message(1, 32), vec![fd()]);
        push(&mut framing, &message(2, 32), vec![fd(), fd()]);
        assert_eq!(drain(&mut framing), [(1, 1), (2, 2)]);
    }

    #[test]
    fn descriptors_in_the_middle_of_a_message_are_closed() {
        let mut framing = Framing::new();
        let one = message(1, 32);
        push(&mut framing, &one[..10], vec![]);
        push(&mut framing, &one[10..], vec![fd()]);
        push(&mut framing, &message(2, 0), vec![]);
        assert_eq!(drain(&mut framing), [(1, 0), (2, 0)]);
        assert!(framing.fds.is_empty());
    }

    #[test]
    fn descriptors_on_every_byte_are_closed_in_time() {
        let mut framing = Framing::new();
        let one = message(1, 4000);
        for byte in &one[..4000] {
            push(&mut framing, &[*byte], vec![fd()]);
            assert_eq!(drain(&mut framing), []);
            assert!(framing.fds.len() <= WAITING_CHUNKS);
        }
        push(&mut framing, &one[4000..], vec![]);
        assert_eq!(drain(&mut framing), [(1, 1)]);
        push(&mut framing, &message(2, 0), vec![fd()]);
        assert_eq!(drain(&mut framing), [(2, 1)]);
    }

    #[test]
    fn a_size_that_cannot_be_ends_the_stream() {
        let mut framing = Framing::new();
        push(&mut framing, &[0xff; 16], vec![]);
        assert_eq!(
            framing.next_message().unwrap_err(),
            BadSize { size: u32::MAX }
        );
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            payloads in proptest::collection::vec(0..3000usize, 1..40),
            cuts in proptest::collection::vec(1..9000usize, 1..40),
        ) {
            let stream: Vec<u8> = payloads
                .iter()
                .enumerate()
                .flat_map(|(id, payload)| message(id as u16, *payload))
                .collect();
            let mut framing = Framing::new();
            let mut rest = &stream[..];
            let mut got = Vec::new();
            for cut in cuts.iter().cycle() {
                let (chunk, later) = rest.split_at((*cut).min(rest.len()));
                push(&mut framing, chunk, vec![]);
                got.extend(drain(&mut framing));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> = (0..payloads.len()).map(|id| (id as u16, 0)).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
