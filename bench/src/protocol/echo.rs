//! Messages that come back as they are.

use super::{Fault, Protocol, Step, Tally};
use crate::pattern;

/// Messages of one size, whose bytes depend on connection and position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    pub message_bytes: u64,
}

/// The rest of a message that is on its way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    connection: u64,
    position: u64,
    end: u64,
}

impl Protocol for Echo {
    type Reply = Reply;

    fn request(&mut self, connection: u64, position: u64, out: &mut Vec<u8>) -> Reply {
        let start = out.len();
        out.resize(start + self.message_bytes as usize, 0);
        pattern::fill(&mut out[start..], connection, position);
        Reply {
            connection,
            position,
            end: position + self.message_bytes,
        }
    }

    fn consume(&mut self, reply: &mut Reply, bytes: &[u8]) -> Result<Step, Fault> {
        let left = usize::try_from(reply.end - reply.position).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(left)];
        if let Some((index, expected)) = pattern::mismatch(bytes, reply.connection, reply.position)
        {
            return Err(Fault::Mismatch {
                position: reply.position + index as u64,
                found: bytes[index],
                expected,
            });
        }
        reply.position += bytes.len() as u64;
        Ok(Step {
            used: bytes.len(),
            is_whole: reply.position == reply.end,
        })
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_continue_each_other_and_come_in_any_pieces() {
        let mut echo = Echo { message_bytes: 10 };
        let mut sent = Vec::new();
        let mut first = echo.request(3, 0, &mut sent);
        let mut second = echo.request(3, 10, &mut sent);
        let step = |used, is_whole| Ok(Step { used, is_whole });
        assert_eq!(echo.consume(&mut first, &sent[..4]), step(4, false));
        assert_eq!(echo.consume(&mut first, &sent[4..]), step(6, true));
        assert_eq!(echo.consume(&mut second, &sent[10..]), step(10, true));
    }

    #[test]
    fn a_wrong_byte_has_its_position() {
        let mut echo = Echo { message_bytes: 10 };
        let mut sent = Vec::new();
        let mut reply = echo.request(3, 20, &mut sent);
        sent[7] ^= 1;
        let fault = echo.consume(&mut reply, &sent).expect_err("a wrong byte");
        let (position, found, expected) = (27, sent[7], sent[7] ^ 1);
        assert_eq!(
            fault,
            Fault::Mismatch {
                position,
                found,
                expected
            }
        );
    }
}
