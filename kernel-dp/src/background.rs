//! Which background thread runs when: a bounded table of threads, those that can run in the order
//! of their turns, those that sleep, and those that wait for a word. `bare/background.rs` runs them
//! as this says, on a processor of their own; any processor may start and wake threads.
//!
//! A thread that becomes able to run goes behind all others that are, so that each of `n` has its
//! turn after at most `n - 1` slices. All loops here are over the table, which is short.

use core::fmt;

use ix_abi::Error;
use ix_abi::syscall::BACKGROUND_MAX;
use ix_hal::Instant;

/// The table, and who is at turn.
#[derive(Debug)]
pub struct Scheduler {
    threads: [Thread; BACKGROUND_MAX],
    running: Option<usize>,
    queue: Queue,
    /// Whether the processor halts, or is about to.
    is_halted: bool,
    /// Gives those that wait an order.
    waits: u64,
    counters: Counters,
}

/// Where a thread begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Address of its first instruction.
    pub entry: u64,
    /// What it is given.
    pub argument: u64,
}

/// What the processor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Runs that thread.
    Run(usize, Turn),
    /// Halts until that time, or until it is woken.
    Halt(Option<Instant>),
}

/// Where a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At its beginning.
    Begin(Start),
    /// Behind a system call, with this result.
    Return(i64),
    /// Where it was interrupted.
    Resume,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Threads started.
    pub spawned: u64,
    /// Threads not started because the table was full.
    pub refused: u64,
    /// Threads that have ended.
    pub ended: u64,
    /// Turns that threads had.
    pub turns: u64,
    /// Turns that the timer ended.
    pub interrupted: u64,
    /// Threads woken by others.
    pub woken: u64,
    /// Turns that went on for a while because the thread asked for it.
    pub held: u64,
    /// Turns that ended although it still did.
    pub holds_broken: u64,
}

#[derive(Clone, Copy, Debug)]
enum Thread {
    Free,
    /// In the queue.
    Ready(Turn),
    Running,
    Sleeping(Instant),
    Waiting {
        word: u64,
        until: Option<Instant>,
        number: u64,
    },
}

impl Scheduler {
    /// A table without threads.
    pub const fn new() -> Self {
        Self {
            threads: [Thread::Free; BACKGROUND_MAX],
            running: None,
            queue: Queue::new(),
            is_halted: false,
            waits: 0,
            counters: Counters::new(),
        }
    }

    /// Who is at turn at `now`. The thread before has said why it does not go on.
    pub fn next(&mut self, now: Instant) -> Next {
        self.ready_sleepers(now);
        let Some(thread) = self.queue.pop() else {
            self.is_halted = true;
            return Next::Halt(self.next_deadline());
        };
        self.is_halted = false;
        let Thread::Ready(turn) = self.threads[thread] else {
            unreachable!("who is in the queue is ready");
        };
        self.threads[thread] = Thread::Running;
        self.running = Some(thread);
        self.counters.turns += 1;
        Next::Run(thread, turn)
    }

    /// Starts a thread and gives its number.
    pub fn spawn(&mut self, start: Start) -> Result<usize, Error> {
        let mut threads = self.threads.iter();
        let Some(free) = threads.position(|thread| matches!(thread, Thread::Free)) else {
            self.counters.refused += 1;
            return Err(Error::Exhausted);
        };
        self.counters.spawned += 1;
        self.ready(free, Turn::Begin(start));
        Ok(free)
    }

    /// Wakes at most `most` threads that wait for the word at that address, and says how many.
    pub fn wake(&mut self, word: u64, most: u64) -> u64 {
        let mut woken = 0;
        while woken < most
            && let Some(thread) = self.longest_waiting(word)
        {
            self.ready(thread, Turn::Return(0));
            woken += 1;
        }
        self.counters.woken += woken;
        woken
    }

    /// Whether the processor has to be told that there is work; only the first who asks has to.
    pub fn must_be_told(&mut self) -> bool {
        let must = self.is_halted && !self.queue.is_empty();
        self.is_halted &= !must;
        must
    }

    /// The running thread was interrupted: its slice is over.
    pub fn interrupt(&mut self, now: Instant) {
        // Who woke up meanwhile comes first.
        self.ready_sleepers(now);
        if let Some(thread) = self.running.take() {
            self.counters.interrupted += 1;
            self.ready(thread, Turn::Resume);
        }
    }

    /// The running thread lets others run.
    pub fn yield_turn(&mut self, now: Instant) {
        self.ready_sleepers(now);
        if let Some(thread) = self.running.take() {
            self.ready(thread, Turn::Return(0));
        }
    }

    /// The running thread sleeps.
    pub fn sleep(&mut self, until: Instant) {
        if let Some(thread) = self.running.take() {
            self.threads[thread] = Thread::Sleeping(until);
        }
    }

    /// The running thread waits for a word.
    pub fn wait(&mut self, word: u64, until: Option<Instant>) {
        if let Some(thread) = self.running.take() {
            self.waits += 1;
            self.threads[thread] = Thread::Waiting {
                word,
                until,
                number: self.waits,
            };
        }
    }

    /// The running thread has ended.
    pub fn end(&mut self) {
        if let Some(thread) = self.running.take() {
            self.threads[thread] = Thread::Free;
            self.counters.ended += 1;
        }
    }

    /// What has happened so far.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn ready(&mut self, thread: usize, turn: Turn) {
        self.threads[thread] = Thread::Ready(turn);
        self.queue.push(thread);
    }

    /// Makes those ready whose time has come, in the order of their times.
    fn ready_sleepers(&mut self, now: Instant) {
        while let Some((until, thread)) = self.next_sleeper()
            && until <= now
        {
            let result = match self.threads[thread] {
                Thread::Sleeping(_) => now.0 as i64,
                _ => Error::TimedOut.to_result(),
            };
            self.ready(thread, Turn::Return(result));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_sleeper().map(|(until, _)| until)
    }

    fn next_sleeper(&self) -> Option<(Instant, usize)> {
        let threads = self.threads.iter().enumerate();
        let sleepers = threads.filter_map(|(number, thread)| match *thread {
            Thread::Sleeping(until) => Some((until, number)),
            Thread::Waiting { until, .. } => Some((until?, number)),
            _ => None,
        });
        sleepers.min()
    }

    fn longest_waiting(&self, wanted: u64) -> Option<usize> {
        let threads = self.threads.iter().enumerate();
        let waiting = threads.filter_map(|(thread, state)| match *state {
            Thread::Waiting { word, number, .. } if word == wanted => Some((number, thread)),
            _ => None,
        });
        waiting.min().map(|(_, thread)| thread)
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    const fn new() -> Self {
        Self {
            spawned: 0,
            refused: 0,
            ended: 0,
            turns: 0,
            interrupted: 0,
            woken: 0,
            held: 0,
            holds_broken: 0,
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} threads started, {} refused, {} ended; {} turns, {} interrupted, {} woken; \
             {} turns held, {} holds broken",
            self.spawned,
            self.refused,
            self.ended,
            self.turns,
            self.interrupted,
            self.woken,
            self.held,
            self.holds_broken
        )
    }
}

/// Threads in the order of their turns, each at most once.
#[derive(Debug)]
struct Queue {
    threads: [usize; BACKGROUND_MAX],
    first: usize,
    count: usize,
}

impl Queue {
    const fn new() -> Self {
        Self {
            threads: [0; BACKGROUND_MAX],
            first: 0,
            count: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, thread: usize) {
        self.threads[(self.first + self.count) % BACKGROUND_MAX] = thread;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<usize> {
        let thread = self.threads[self.first];
        self.count = self.count.checked_sub(1)?;
        self.first = (self.first + 1) % BACKGROUND_MAX;
        Some(thread)
    }
}

#[cfg(test)]
mod tests;
