//! The processor of the background threads: runs them in turns, as [`Scheduler`] says, and serves
//! what they ask. And what the threads of other processors may ask about them ([`call`]).
//!
//! The scheduler has a lock, which is held for a few hundred instructions, by this processor at each
//! turn, by others only when they start or wake a thread. The time of a turn is the local APIC's
//! timer's; interrupts are let in only in user mode and while the processor halts, so that no lock
//! is held when one comes.

use core::sync::atomic::{AtomicUsize, Ordering};

use alloc::boxed::Box;

use ix_abi::Error;
use ix_abi::area::{HOLD, NOW_NS};
use ix_abi::syscall::{self, BACKGROUND_MAX, HOLD_MAX_NS, SLICE_NS, STACK_BYTES};
use ix_hal::Instant;
use kernel_dp::application::background_stack;
use kernel_dp::background::{Next, Scheduler, Start, Turn};
use spin::Mutex;

use super::apic::Timer;
use super::console::say;
use super::load::{self, UserMemory};
use super::panic::{ExitCode, exit};
use super::percpu::Job;
use super::run::{exit_application, say_all_counters, wait_for_interrupt};
use super::smp;
use super::text;
use super::time::Clock;
use super::user::{SharedUser, UserExit, UserState};

/// Who runs when.
static SCHEDULER: Mutex<Scheduler> = Mutex::new(Scheduler::new());
/// Number of the processor, which is that of the elastic threads, or [`NONE`].
static PROCESSOR: AtomicUsize = AtomicUsize::new(NONE);
const NONE: usize = usize::MAX;

/// How often a thread that holds on is looked at once its slice is over.
const HOLD_STEP_NS: u64 = 50_000;

/// Makes the processor of that number the one of the background threads, before any thread runs.
pub fn assign(processor: usize) {
    PROCESSOR.store(processor, Ordering::Relaxed);
}

/// Serves a call that any thread may make, and answers the rest.
pub fn call(number: u64, [first, second]: [u64; 2], memory: &UserMemory) -> i64 {
    let result = match number {
        syscall::SPAWN => spawn(first, second, memory),
        syscall::WAKE => Ok(wake(first, second) as i64),
        syscall::NOTIFY => notify(first),
        syscall::RUN_IO | syscall::END | syscall::YIELD | syscall::SLEEP | syscall::WAIT => {
            Err(Error::BadState)
        }
        _ => Err(Error::Invalid),
    };
    result.unwrap_or_else(Error::to_result)
}

/// Says what the background threads have done, if there can be any. Other processors are stopped.
pub fn say_counters() {
    if PROCESSOR.load(Ordering::Relaxed) == NONE {
        return;
    }
    match SCHEDULER.try_lock() {
        Some(mut scheduler) => say!("background: {}", scheduler.counters()),
        None => say!("background: stopped in the middle of a turn"),
    }
}

fn spawn(entry: u64, argument: u64, memory: &UserMemory) -> Result<i64, Error> {
    if PROCESSOR.load(Ordering::Relaxed) == NONE {
        return Err(Error::BadState);
    }
    if !memory.is_in_image(entry) {
        return Err(Error::BadAddress);
    }
    let mut scheduler = SCHEDULER.lock();
    let thread = scheduler.spawn(Start { entry, argument })?;
    tell(scheduler.must_be_told());
    Ok(thread as i64)
}

fn wake(word: u64, most: u64) -> u64 {
    let mut scheduler = SCHEDULER.lock();
    let woken = scheduler.wake(word, most);
    tell(scheduler.must_be_told());
    woken
}

/// Ends the halt of the background threads' processor.
fn tell(must: bool) {
    if must {
        smp::wake(PROCESSOR.load(Ordering::Relaxed) as u32);
    }
}

fn notify(thread: u64) -> Result<i64, Error> {
    let mut elastic = smp::cpus().take(PROCESSOR.load(Ordering::Relaxed));
    let thread = usize::try_from(thread).map_err(|_| Error::Invalid)?;
    let cpu = elastic.nth(thread).ok_or(Error::Invalid)?;
    if cpu.notify() {
        smp::wake(thread as u32);
    }
    Ok(0)
}

/// What the processor is to do.
pub struct BackgroundStart {
    /// What the threads have.
    pub parts: load::Background,
    /// Time.
    pub clock: Clock,
    /// What ends a turn, or a halt.
    pub timer: Timer,
    /// Room for what threads go on with that are not at turn.
    pub states: Box<States>,
}

/// The state of user mode of each thread, and what it had in [`HOLD`].
pub type States = [(UserState, u64); BACKGROUND_MAX];

impl Job for BackgroundStart {
    fn run(self: Box<Self>) -> ! {
        self.timer.adopt();
        // SAFETY: tables and per-CPU block are loaded; user mappings are user memory only, by
        // `Memory::map_user`; this CPU has run no user mode, and runs no other.
        let user = unsafe { SharedUser::new(self.parts.area_address) };
        let start = *self;
        Processor { start, user }.run()
    }
}

/// The processor at work.
struct Processor {
    start: BackgroundStart,
    user: SharedUser,
}

impl Processor {
    fn run(mut self) -> ! {
        loop {
            let now = self.start.clock.now();
            // A statement of its own: the lock is released behind it.
            let next = SCHEDULER.lock().next(now);
            match next {
                Next::Run(thread, turn) => {
                    self.load(thread, turn);
                    self.run_turn(thread);
                    self.save(thread);
                }
                Next::Halt(until) => self.halt(until),
            }
        }
    }

    /// Halts until that time, or until there is work. Whoever makes work after the scheduler had none
    /// interrupts this processor, and the interrupt stays pending until it is let in.
    fn halt(&self, until: Option<Instant>) {
        let BackgroundStart { clock, timer, .. } = &self.start;
        match until {
            Some(until) => timer.arm(clock.tsc_at(until)),
            None => timer.disarm(),
        }
        wait_for_interrupt();
    }

    fn load(&mut self, thread: usize, turn: Turn) {
        let (state, hold) = &mut self.start.states[thread];
        if let Turn::Begin(Start { entry, argument }) = turn {
            let stack_top = background_stack(thread) + STACK_BYTES;
            (*state, *hold) = (self.user.begin(entry, argument, stack_top), 0);
        }
        self.user.load(state);
        self.start.parts.area[HOLD].store(*hold, Ordering::Relaxed);
        if let Turn::Return(result) = turn {
            self.user.set_result(result);
        }
    }

    fn save(&mut self, thread: usize) {
        let hold_now = self.hold();
        let (state, hold) = &mut self.start.states[thread];
        self.user.save(state);
        *hold = hold_now;
    }

    fn hold(&self) -> u64 {
        self.start.parts.area[HOLD].load(Ordering::Relaxed)
    }

    /// Runs the thread that is loaded until its slice is over, or it has to wait.
    fn run_turn(&mut self, thread: usize) {
        let BackgroundStart { clock, timer, .. } = self.start;
        let slice_end = Instant(clock.now().0 + SLICE_NS);
        timer.arm(clock.tsc_at(slice_end));
        loop {
            self.start.parts.area[NOW_NS].store(clock.now().0, Ordering::Relaxed);
            match self.user.enter() {
                UserExit::Call(number, arguments) => match self.serve(thread, number, arguments) {
                    Some(result) => self.user.set_result(result),
                    None => return,
                },
                UserExit::Tick => {
                    let now = clock.now();
                    if !self.may_go_on(now, slice_end) {
                        SCHEDULER.lock().interrupt(now);
                        return;
                    }
                }
                UserExit::Fault(fault, registers) => {
                    smp::begin_end();
                    say!("application stopped: {fault} in background thread {thread}\n{registers}");
                    say_all_counters(None);
                    exit(ExitCode::ApplicationFaulted)
                }
            }
        }
    }

    /// Whether the thread at turn goes on after a tick: after one that was meant for the turn before,
    /// and as long as it holds on, within bounds.
    fn may_go_on(&self, now: Instant, slice_end: Instant) -> bool {
        let BackgroundStart { clock, timer, .. } = &self.start;
        if now < slice_end {
            timer.arm(clock.tsc_at(slice_end));
            return true;
        }
        if self.hold() == 0 {
            return false;
        }
        let may = now.0 < slice_end.0 + HOLD_MAX_NS;
        let mut scheduler = SCHEDULER.lock();
        let counters = scheduler.counters();
        counters.held += u64::from(may);
        counters.holds_broken += u64::from(!may);
        if may {
            timer.arm(clock.tsc_at(Instant(now.0 + HOLD_STEP_NS)));
        }
        may
    }

    /// Serves a call of the thread at turn. `None` if it does not go on for now.
    fn serve(&mut self, thread: usize, number: u64, arguments: [u64; 2]) -> Option<i64> {
        let now = self.start.clock.now();
        let [first, second] = arguments;
        match number {
            syscall::LOG => {
                let memory = self.start.parts.memory_of(thread);
                return Some(text::log(&memory, first, second));
            }
            syscall::EXIT => {
                smp::begin_end();
                say_all_counters(None);
                exit_application(first)
            }
            syscall::SLEEP if first <= now.0 => return Some(now.0 as i64),
            syscall::SLEEP => SCHEDULER.lock().sleep(Instant(first)),
            syscall::YIELD => SCHEDULER.lock().yield_turn(now),
            syscall::END => SCHEDULER.lock().end(),
            syscall::WAIT => return self.wait(thread, first, second),
            // The cycle is that of an elastic thread.
            syscall::RUN_IO => return Some(Error::BadState.to_result()),
            _ => {
                let memory = self.start.parts.memory_of(thread);
                return Some(call(number, arguments, &memory));
            }
        }
        None
    }

    /// Has the thread at turn wait, unless the word has another value already. Whoever changes it
    /// and then wakes finds the lock taken, or the thread waiting.
    fn wait(&mut self, thread: usize, word: u64, expected: u64) -> Option<i64> {
        let until = self.user.third_argument();
        let memory = self.start.parts.memory_of(thread);
        let mut scheduler = SCHEDULER.lock();
        match memory.word(word) {
            None => Some(Error::BadAddress.to_result()),
            Some(value) if value != expected => Some(Error::TryAgain.to_result()),
            Some(_) => {
                scheduler.wait(word, (until != 0).then_some(Instant(until)));
                None
            }
        }
    }
}
