//! The control page: memory that the dataplane kernel shares with the control plane on Linux (the
//! shared memory of an `ivshmem-doorbell` device), [`BYTES`] long. Commands go in, telemetry and
//! acknowledgements come out. All positions are indices of 64-bit words.
//!
//! Every word has one writer: the control plane writes [`command`] blocks and nothing else, each
//! elastic thread writes its own [`thread`] block and the [`GROUPS`] that it owns, and the boot CPU
//! wrote the header before the first thread ran. A word is read once, then checked, then used; no
//! value of a word can do more than have a command refused.
//!
//! # Commands
//! The control plane fills a thread's command block, stores the next number in
//! [`command::SEQUENCE`] last (release), and rings the thread's doorbell vector in case it halts.
//! The thread executes the command and stores that number in [`thread::ACKNOWLEDGED`], after its
//! outcome in [`thread::RESULT`]. One command a thread is under way at a time; a command that is
//! overwritten before it was acknowledged may never be executed.

use crate::THREADS_MAX;

/// Version of this layout.
pub const VERSION: u64 = 1;
/// "IXCTLPAG" in ASCII.
pub const MAGIC: u64 = u64::from_be_bytes(*b"IXCTLPAG");
/// Bytes of the control page.
pub const BYTES: usize = 64 << 10;

/// `MAGIC`, written by the kernel when everything else in the header is valid.
pub const MAGIC_WORD: usize = 0;
/// `VERSION`.
pub const VERSION_WORD: usize = 1;
/// Number of elastic threads, parked ones included.
pub const THREAD_COUNT: usize = 2;
/// Number of flow groups: entries of the NIC's redirection table in use.
pub const GROUP_COUNT: usize = 3;

/// First word of the block of thread 0; that of thread n lies [`thread::WORDS`] times n behind.
pub const THREADS: usize = 64;
/// First word of the command block of thread 0, likewise with [`command::WORDS`].
pub const COMMANDS: usize = THREADS + THREADS_MAX * thread::WORDS;
/// First word of the flow groups. Bits 0 to 7: the thread that owns it; the rest: frames of the
/// group that this owner has received, modulo 2^56.
pub const GROUPS: usize = COMMANDS + THREADS_MAX * command::WORDS;
/// Most flow groups: entries of the 82599's redirection table (RETA, 7.1.2.8.3).
pub const GROUPS_MAX: usize = 128;
/// Words that carry meaning.
pub const WORDS: usize = GROUPS + GROUPS_MAX;

const _: () = assert!(WORDS * 8 <= BYTES);
// No cache line has two writers.
const _: () =
    assert!(THREADS.is_multiple_of(8) && COMMANDS.is_multiple_of(8) && GROUPS.is_multiple_of(8));
const _: () = assert!(thread::WORDS.is_multiple_of(8) && command::WORDS.is_multiple_of(8));
const _: () = assert!(thread::ABSENT < thread::WORDS);

/// What a thread says of itself: words relative to its block. Counts are monotonic since boot;
/// averages are fixed-point numbers with 16 bits behind the point, over about 1 ms, 32 ms and 1 s.
pub mod thread {
    /// Words in a block: eight cache lines, none of them shared with another writer.
    pub const WORDS: usize = 64;
    /// See [`super::ThreadState`].
    pub const STATE: usize = 0;
    /// Number of the last command executed.
    pub const ACKNOWLEDGED: usize = 1;
    /// Its outcome: a value >= 0, or the negative of an [`Error`](crate::Error).
    pub const RESULT: usize = 2;
    /// When the block was last written, in nanoseconds since boot.
    pub const NOW_NS: usize = 3;
    /// Cycles.
    pub const CYCLES: usize = 4;
    /// Cycles that found frames.
    pub const BUSY_CYCLES: usize = 5;
    /// Rounds of the application.
    pub const ROUNDS: usize = 6;
    /// Events handed to the application.
    pub const EVENTS: usize = 7;
    /// Calls that it made.
    pub const CALLS: usize = 8;
    /// Frames received.
    pub const RX_FRAMES: usize = 9;
    /// Bytes in them.
    pub const RX_BYTES: usize = 10;
    /// Frames sent.
    pub const TX_FRAMES: usize = 11;
    /// Bytes in them.
    pub const TX_BYTES: usize = 12;
    /// Connections in any state but TIME-WAIT.
    pub const CONNECTIONS: usize = 13;
    /// Free frame buffers.
    pub const MBUFS_FREE: usize = 14;
    /// Nanoseconds in which there was nothing to do, halted or polling.
    pub const IDLE_NS: usize = 15;
    /// Nanoseconds in the application.
    pub const USER_NS: usize = 16;
    /// Average number of frames in a batch that had any, three horizons.
    pub const BATCH: usize = 17;
    /// Average number of frames that waited in the RX ring when it was polled, three horizons.
    pub const QUEUE_DEPTH: usize = 20;
    /// Average nanoseconds of a cycle that found frames, three horizons.
    pub const LOOP_NS: usize = 23;
    /// Frames lost for want of a descriptor.
    pub const RX_MISSED: usize = 27;
    /// Frames refused by the driver or with a bad checksum.
    pub const RX_ERRORS: usize = 28;
    /// Payload dropped because too many buffers are held.
    pub const RX_NO_BUFFERS: usize = 29;
    /// Frames not sent because the TX ring was full or the request malformed.
    pub const TX_DROPS: usize = 30;
    /// TCP segments sent again.
    pub const RETRANSMITS: usize = 31;
    /// Connections that came from another thread.
    pub const MIGRATED_IN: usize = 32;
    /// Connections that went to another thread.
    pub const MIGRATED_OUT: usize = 33;
    /// Frames that came while their flow group was on its way, and were kept.
    pub const PARKED_FRAMES: usize = 34;
    /// Requests for which SYNs or connections were refused because a table was full.
    pub const REFUSED: usize = 35;
    /// Rounds in which the application stayed in user mode longer than it may.
    pub const OVERSTAYS: usize = 36;
    /// 1 while it does, else 0.
    pub const ABSENT: usize = 37;
}

/// A command: words relative to a thread's block.
///
/// | command | [`OPCODE`](command::OPCODE) | arguments |
/// |---|---|---|
/// | give | 1 | flow groups 0 to 63 as bits, 64 to 127 as bits, receiving thread |
/// | park | 2 | thread that takes what belongs to no flow group |
/// | run | 3 | |
pub mod command {
    /// Words in a block: one cache line.
    pub const WORDS: usize = 8;
    /// Number of the command, one more than that of the command before.
    pub const SEQUENCE: usize = 0;
    /// See [`super::Opcode`].
    pub const OPCODE: usize = 1;
    /// First of five arguments.
    pub const ARGUMENTS: usize = 2;
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ThreadState {
    /// There is no such thread.
    Absent = 0,
    /// Halts until it is told to run; owns no flow group.
    Parked = 1,
    /// Serves.
    Running = 2,
}

impl ThreadState {
    /// The state of that number, if there is one.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::Absent,
            1 => Self::Parked,
            2 => Self::Running,
            _ => return None,
        })
    }
}

/// Which command (see [`command`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Opcode {
    /// Hand flow groups, with all their connections, to another running thread. Acknowledged when
    /// that thread serves them.
    Give = 1,
    /// Halt. Refused while the thread owns flow groups.
    Park = 2,
    /// Serve again.
    Run = 3,
}

impl Opcode {
    /// The command of that number, if there is one.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            1 => Self::Give,
            2 => Self::Park,
            3 => Self::Run,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_a_round_trip_and_others_are_refused() {
        for raw in 0..16 {
            assert!(ThreadState::from_raw(raw).is_none_or(|state| state as u64 == raw));
            assert!(Opcode::from_raw(raw).is_none_or(|opcode| opcode as u64 == raw));
        }
        assert_eq!(Opcode::from_raw(0), None);
        assert_eq!(ThreadState::from_raw(3), None);
    }
}
