//! One thread's view of the control page ([`ix_abi::control`]): the commands that the control plane
//! leaves there, and what the thread says of itself.
//!
//! The page is an allegation, like everything that comes from outside of the kernel: a command is
//! copied once, decoded, and refused when it makes no sense. Looking for one costs a load of a cache
//! line that nobody writes in the meantime; a report is written once in about a millisecond.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ix_abi::control::{self, Opcode, ThreadState, command, thread};
use ix_abi::{Error, THREADS_MAX};
use ix_hal::Instant;

use crate::moving::Command;
use crate::telemetry::{Averages, Report};

/// One thread's part of the control page.
pub struct Control {
    page: &'static [AtomicU64; control::WORDS],
    thread: usize,
    /// Number of the last command for it.
    posted: &'static AtomicU64,
    /// Number of the last command that was taken.
    taken: u64,
    /// Number of the last command that was answered.
    answered: u64,
    /// The flow groups that it gives away, and to whom.
    giving: Option<(u128, u32)>,
}

impl Control {
    /// Writes what the control plane needs to know before the first thread runs. To be called once,
    /// by the boot CPU, for a zeroed page. `owners` are the threads of the flow groups.
    ///
    /// # Panics
    /// If the page is shorter than the ABI says.
    pub fn initialize(page: &'static [AtomicU64], threads: usize, owners: &[u8]) {
        let page = whole(page);
        for (word, &owner) in page[control::GROUPS..].iter().zip(owners) {
            word.store(u64::from(owner), Relaxed);
        }
        let groups = owners.len().min(control::GROUPS_MAX);
        page[control::THREAD_COUNT].store(threads as u64, Relaxed);
        page[control::GROUP_COUNT].store(groups as u64, Relaxed);
        page[control::VERSION_WORD].store(control::VERSION, Relaxed);
        page[control::MAGIC_WORD].store(control::MAGIC, Release);
    }

    /// The view of thread number `thread`. Commands that are there already are not executed.
    ///
    /// # Panics
    /// If the page is shorter than the ABI says, or there can be no such thread.
    pub fn new(page: &'static [AtomicU64], thread: usize) -> Self {
        assert!(thread < THREADS_MAX);
        let page = whole(page);
        let posted = &page[control::COMMANDS + thread * command::WORDS + command::SEQUENCE];
        let taken = posted.load(Acquire);
        let control = Self {
            page,
            thread,
            posted,
            taken,
            answered: taken,
            giving: None,
        };
        control.word(thread::ACKNOWLEDGED).store(taken, Relaxed);
        control
    }

    /// Whether there is a command that was not taken yet, or was not answered.
    #[inline]
    pub fn needs_attention(&self) -> bool {
        self.posted.load(Relaxed) != self.answered
    }

    /// Whether a command that was taken was not answered yet.
    pub fn owes_answer(&self) -> bool {
        self.answered != self.taken
    }

    /// Takes the command that is there, if there is a new one and the one before was answered. `Err`
    /// for one that makes no sense, which is to be answered as well.
    pub fn take_command(&mut self) -> Option<Result<Command, Error>> {
        // Acquire: the words of the command were written before.
        let posted = self.posted.load(Acquire);
        if self.owes_answer() || posted == self.taken {
            return None;
        }
        self.taken = posted;
        let command = self.decode();
        if let Ok(Command::Give { groups, to }) = command {
            self.giving = Some((groups, to));
        }
        Some(command)
    }

    fn decode(&self) -> Result<Command, Error> {
        let argument = |index: usize| self.command_word(command::ARGUMENTS + index).load(Relaxed);
        let to = |index| thread_number(argument(index));
        match Opcode::from_raw(self.command_word(command::OPCODE).load(Relaxed)) {
            Some(Opcode::Give) => Ok(Command::Give {
                groups: u128::from(argument(0)) | u128::from(argument(1)) << 64,
                to: to(2)?,
            }),
            Some(Opcode::Park) => Ok(Command::Park { to: to(0)? }),
            Some(Opcode::Run) => Ok(Command::Run),
            None => Err(Error::Invalid),
        }
    }

    /// Answers the command taken last.
    pub fn acknowledge(&mut self, result: Result<(), Error>) {
        self.answered = self.taken;
        if let Some((groups, to)) = self.giving.take()
            && result.is_ok()
        {
            self.hand_over(groups, to);
        }
        let result = result.map_or_else(Error::to_result, |()| 0);
        self.word(thread::RESULT).store(result as u64, Relaxed);
        self.word(thread::ACKNOWLEDGED).store(self.taken, Release);
    }

    /// Says whose flow groups are that were this thread's, as the last who writes so for it: whoever
    /// sees the answer sees the new owner, which counts from its next report on.
    fn hand_over(&self, groups: u128, to: u32) {
        let words = &self.page[control::GROUPS..];
        for (group, word) in words.iter().enumerate() {
            if groups >> group & 1 == 1 {
                word.store(u64::from(to), Relaxed);
            }
        }
    }

    /// Says what the thread does.
    pub fn set_state(&self, state: ThreadState) {
        self.word(thread::STATE).store(state as u64, Relaxed);
    }

    /// Says that this thread owns a flow group, and how many frames of it have come.
    #[inline]
    pub fn set_group(&self, group: usize, frames: u64) {
        if group < control::GROUPS_MAX {
            let word = self.thread as u64 | frames << 8;
            self.page[control::GROUPS + group].store(word, Relaxed);
        }
    }

    /// Writes the thread's report.
    pub(crate) fn publish(&self, now: Instant, report: &Report, averages: &Averages) {
        let Report {
            times, thread, nic, ..
        } = report;
        let words = [
            (thread::NOW_NS, now.0),
            (thread::CYCLES, thread.cycles),
            (thread::BUSY_CYCLES, thread.busy_cycles),
            (thread::ROUNDS, thread.rounds),
            (thread::EVENTS, thread.events),
            (thread::CALLS, thread.calls),
            (thread::RX_FRAMES, nic.rx_frames),
            (thread::RX_BYTES, nic.rx_bytes),
            (thread::TX_FRAMES, nic.tx_frames),
            (thread::TX_BYTES, nic.tx_bytes),
            (thread::CONNECTIONS, report.connections),
            (thread::MBUFS_FREE, report.mbufs_free),
            (thread::IDLE_NS, times.idle_ns),
            (thread::USER_NS, times.user_ns),
            (thread::RX_MISSED, nic.rx_missed),
            (thread::RX_ERRORS, nic.rx_errors + report.bad_checksums),
            (thread::RX_NO_BUFFERS, report.no_buffers),
            (thread::TX_DROPS, nic.tx_drops),
            (thread::RETRANSMITS, report.retransmits),
            (thread::MIGRATED_IN, report.moved_in),
            (thread::MIGRATED_OUT, report.moved_out),
            (thread::PARKED_FRAMES, thread.frames_kept),
            (thread::REFUSED, report.refused),
            (thread::OVERSTAYS, thread.overstays),
            (thread::ABSENT, u64::from(report.is_absent)),
        ];
        for (offset, value) in words {
            self.word(offset).store(value, Relaxed);
        }
        for (offset, horizons) in [
            (thread::BATCH, averages.batch.horizons()),
            (thread::QUEUE_DEPTH, averages.queue_depth.horizons()),
            (thread::LOOP_NS, averages.loop_ns.horizons()),
        ] {
            for (horizon, value) in horizons.into_iter().enumerate() {
                self.word(offset + horizon).store(value, Relaxed);
            }
        }
    }

    #[inline]
    fn command_word(&self, offset: usize) -> &AtomicU64 {
        &self.page[control::COMMANDS + self.thread * command::WORDS + offset]
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.page[control::THREADS + self.thread * thread::WORDS + offset]
    }
}

fn whole(page: &'static [AtomicU64]) -> &'static [AtomicU64; control::WORDS] {
    page.first_chunk()
        .expect("control page shorter than the ABI says")
}

fn thread_number(raw: u64) -> Result<u32, Error> {
    let number = u32::try_from(raw).ok();
    number
        .filter(|&number| (number as usize) < THREADS_MAX)
        .ok_or(Error::Invalid)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn page() -> &'static [AtomicU64] {
        Vec::leak((0..control::WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn post(page: &[AtomicU64], thread: usize, words: [u64; 4]) {
        let block = control::COMMANDS + thread * command::WORDS;
        for (offset, word) in words.into_iter().enumerate() {
            page[block + command::OPCODE + offset].store(word, Relaxed);
        }
        page[block + command::SEQUENCE].fetch_add(1, Release);
    }

    fn answer(page: &[AtomicU64], thread: usize) -> (u64, i64) {
        let block = control::THREADS + thread * thread::WORDS;
        let word = |offset: usize| page[block + offset].load(Relaxed);
        (word(thread::ACKNOWLEDGED), word(thread::RESULT) as i64)
    }

    #[test]
    fn each_command_is_taken_once_and_answered() {
        let page = page();
        let mut control = Control::new(page, 3);
        assert!(!control.needs_attention());
        post(page, 2, [Opcode::Run as u64, 0, 0, 0]);
        assert!(!control.needs_attention(), "that one is another thread's");
        post(page, 3, [Opcode::Give as u64, 5, 1 << 63, 7]);
        assert!(control.needs_attention());
        let give = Command::Give {
            groups: 1 << 127 | 5,
            to: 7,
        };
        assert_eq!(control.take_command(), Some(Ok(give)));
        assert_eq!(
            (control.take_command(), control.owes_answer()),
            (None, true)
        );
        assert_eq!(answer(page, 3), (0, 0));
        post(page, 3, [Opcode::Park as u64, 1, 0, 0]);
        assert_eq!(control.take_command(), None, "one command at a time");
        control.acknowledge(Ok(()));
        assert_eq!(answer(page, 3), (1, 0));
        let owners = [0, 1, 2, 127].map(|group| page[control::GROUPS + group].load(Relaxed));
        assert_eq!(owners, [7, 0, 7, 7]);
        assert_eq!(control.take_command(), Some(Ok(Command::Park { to: 1 })));
        control.acknowledge(Err(Error::BadState));
        assert_eq!(answer(page, 3), (2, Error::BadState.to_result()));
        assert!(!control.needs_attention());
    }

    #[test]
    fn a_command_that_makes_no_sense_is_refused() {
        let page = page();
        let mut control = Control::new(page, 0);
        for words in [
            [0, 0, 0, 0],
            [4, 0, 0, 0],
            [u64::MAX, 0, 0, 0],
            [Opcode::Give as u64, 1, 0, THREADS_MAX as u64],
            [Opcode::Park as u64, u64::MAX, 0, 0],
        ] {
            post(page, 0, words);
            let taken = control.take_command();
            assert_eq!(taken, Some(Err(Error::Invalid)), "{words:?}");
            control.acknowledge(Err(Error::Invalid));
        }
    }

    #[test]
    fn commands_from_before_the_start_are_not_executed() {
        let page = page();
        post(page, 0, [Opcode::Run as u64, 0, 0, 0]);
        let control = Control::new(page, 0);
        assert!(!control.needs_attention());
        assert_eq!(answer(page, 0).0, 1);
    }

    #[test]
    fn the_header_says_how_many_threads_and_groups_there_are() {
        let page = page();
        Control::initialize(page, 2, &[0, 1, 0, 1]);
        let word = |index: usize| page[index].load(Relaxed);
        assert_eq!(word(control::MAGIC_WORD), control::MAGIC);
        assert_eq!(word(control::VERSION_WORD), control::VERSION);
        assert_eq!(
            (word(control::THREAD_COUNT), word(control::GROUP_COUNT)),
            (2, 4)
        );
        assert_eq!(word(control::GROUPS + 3), 1);
        Control::new(page, 1).set_group(3, 9);
        assert_eq!(word(control::GROUPS + 3), 9 << 8 | 1);
    }
}
