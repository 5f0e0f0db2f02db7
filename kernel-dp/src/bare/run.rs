//! The loop of an elastic thread: kernel half-cycle, application, and so on; and what happens
//! when neither has anything to do.

use core::arch::asm;
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use ix_abi::syscall;
use ix_core::{ElasticThread, REPORT_PERIOD, Step, ThreadCounters, Times};
use ix_hal::{Instant, Nic};
use kernel_dp::command_line::Overstay;

use super::apic::Timer;
use super::background;
use super::console::say;
use super::cpu::rdtsc;
use super::load::{Frames, UserMemory};
use super::panic::{ExitCode, exit};
use super::percpu::{PerCpu, STOPPED};
use super::smp;
use super::text;
use super::time::Clock;
use super::user::{User, UserExit};
use super::watch::Watch;

/// Everything that the loop works with.
pub struct Runner<N> {
    /// Network and protocol.
    pub thread: ElasticThread<N, Frames>,
    /// The application.
    pub user: User,
    /// Its memory, for log texts.
    pub memory: UserMemory,
    /// Time.
    pub clock: Clock,
    /// What to do when there is nothing to do.
    pub idle: Idle,
    /// Who looks after the application's time in user mode, if anybody does.
    pub watch: Option<Watch>,
    /// Where the time went.
    pub spent: Spent,
}

/// Time that a thread has spent, in TSC ticks, and when it is to be reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    start: u64,
    user: u64,
    kernel: u64,
    report_at: Instant,
}

/// What to do when there is nothing to do.
#[derive(Clone, Copy, Debug)]
pub enum Idle {
    /// Poll on.
    Poll,
    /// Halt after polling that many TSC ticks in vain; the timer ends the halt at a deadline.
    Halt(u64, Timer),
}

impl<N: Nic> Runner<N> {
    /// Serves until the application exits or is stopped.
    pub fn run(mut self) -> ! {
        let counters = core::ptr::from_ref(self.thread.counters()).cast_mut();
        PerCpu::get().counters.store(counters, Ordering::Relaxed);
        let mut idle_since = rdtsc();
        self.spent.start = idle_since;
        self.watch.iter().for_each(Watch::arm);
        loop {
            let tsc = rdtsc();
            let now = self.clock.at(tsc);
            if now >= self.spent.report_at {
                self.report_to_control_plane(now);
            }
            match self.thread.cycle(now) {
                Step::User => idle_since = self.run_user(tsc),
                Step::Parked => self.wait_parked(),
                Step::Idle { .. } if PerCpu::get().take_notification() => {
                    self.thread.begin_round();
                    idle_since = self.run_user(tsc);
                }
                Step::Idle { deadline: Some(at) } if at <= now => idle_since = tsc,
                Step::Idle { .. } => match self.idle {
                    Idle::Halt(spin_ticks, timer)
                        if rdtsc().wrapping_sub(idle_since) >= spin_ticks =>
                    {
                        self.halt(timer);
                    }
                    _ => core::hint::spin_loop(),
                },
            }
        }
    }

    /// Halts until a frame comes or the next deadline passes. A frame that came before the
    /// interrupt was armed is found by one more cycle; one that comes after it makes an interrupt,
    /// which stays pending until `sti; hlt` takes it.
    #[cold]
    fn halt(&mut self, timer: Timer) {
        self.thread.nic().arm_interrupt();
        let tsc = rdtsc();
        let now = self.clock.at(tsc);
        match self.thread.cycle(now) {
            Step::User => {
                self.run_user(tsc);
            }
            Step::Idle { deadline: Some(at) } if at <= now => {}
            // The next cycle says so again.
            Step::Parked => {}
            Step::Idle { deadline } => {
                self.report_to_control_plane(now);
                self.halt_until(deadline, timer);
            }
        }
        self.thread.nic().disarm_interrupt();
    }

    /// Halts until somebody has something for this thread. The NIC may have something too: a frame that
    /// it chose this thread for before the last flow group left. So its interrupt is armed, and one more
    /// cycle finds what came before.
    #[cold]
    fn wait_parked(&mut self) {
        self.thread.nic().arm_interrupt();
        let tsc = rdtsc();
        let now = self.clock.at(tsc);
        match self.thread.cycle(now) {
            Step::User => {
                self.run_user(tsc);
            }
            Step::Idle { .. } => {}
            Step::Parked => {
                self.report_to_control_plane(now);
                self.watch.iter().for_each(Watch::disarm);
                wait_for_interrupt();
                self.watch.iter().for_each(Watch::arm);
            }
        }
        self.thread.nic().disarm_interrupt();
    }

    /// Tells how this thread is doing, and when it will do so again.
    #[cold]
    fn report_to_control_plane(&mut self, now: Instant) {
        self.report_with_absence(now, 0);
    }

    /// The same while the application has been in user mode for so many TSC ticks.
    fn report_with_absence(&mut self, now: Instant, absence: u64) {
        let Spent {
            start,
            user,
            kernel,
            ..
        } = self.spent;
        let ns = |ticks| self.clock.nanoseconds(ticks);
        let user = user + absence;
        let idle = rdtsc().wrapping_sub(start).saturating_sub(user + kernel);
        let times = Times {
            user_ns: ns(user),
            kernel_ns: ns(kernel),
            idle_ns: ns(idle),
        };
        self.thread.report(now, times);
        self.spent.report_at = Instant(now.0 + REPORT_PERIOD);
    }

    fn halt_until(&self, deadline: Option<Instant>, timer: Timer) {
        let cpu = PerCpu::get();
        if cpu.begin_halt() {
            match deadline {
                Some(deadline) => timer.arm(self.clock.tsc_at(deadline)),
                // A tick has nothing to look at meanwhile.
                None => self.watch.iter().for_each(Watch::disarm),
            }
            wait_for_interrupt();
            match &self.watch {
                Some(watch) => watch.arm(),
                None if deadline.is_some() => timer.disarm(),
                None => {}
            }
        }
        cpu.end_halt();
    }

    /// Runs the application until it ends its round, after a kernel half-cycle that began at TSC
    /// value `began`. Gives the TSC value at the end.
    fn run_user(&mut self, began: u64) -> u64 {
        let entered = rdtsc();
        loop {
            match self.user.enter() {
                UserExit::Call(syscall::RUN_IO, _) => break,
                other if self.serve(&other).is_break() => break,
                _ => {}
            }
        }
        let left = rdtsc();
        self.spent.kernel += entered.wrapping_sub(began);
        self.spent.user += left.wrapping_sub(entered);
        left
    }

    /// Serves a tick. Breaks if the application has ended its round meanwhile.
    #[cold]
    fn tick(&mut self) -> ControlFlow<()> {
        let round = self.thread.counters().rounds;
        let Some(watch) = &mut self.watch else {
            // It was meant for a halt.
            return ControlFlow::Continue(());
        };
        if !watch.tick(round) {
            return ControlFlow::Continue(());
        }
        let watch = *watch;
        self.report_overstay(&watch);
        self.sit_out(watch)
    }

    /// Looks after the network until the application ends its round.
    fn sit_out(&mut self, mut watch: Watch) -> ControlFlow<()> {
        let round = self.thread.counters().rounds;
        let since = rdtsc().wrapping_sub(watch.limit_ticks());
        self.thread.begin_absence();
        loop {
            let now = self.clock.now();
            self.thread.attend(now);
            if now >= self.spent.report_at {
                self.report_with_absence(now, rdtsc().wrapping_sub(since));
            }
            loop {
                match self.user.enter() {
                    UserExit::Call(syscall::RUN_IO, _) => {
                        self.thread.end_absence();
                        return ControlFlow::Break(());
                    }
                    UserExit::Tick => break,
                    other => {
                        // Only a tick can end the round.
                        let _ = self.serve(&other);
                    }
                }
            }
            watch.tick(round);
        }
    }

    /// Says that the application stays away, the first time and whenever that has doubled; or stops
    /// it.
    fn report_overstay(&mut self, watch: &Watch) {
        let thread = PerCpu::get().thread();
        let (limit_ms, times) = (watch.limit_ms(), self.thread.counters().overstays + 1);
        if watch.overstay == Overstay::Kill {
            smp::begin_end();
            say!(
                "application stopped: it stayed in user mode for more than {limit_ms} ms \
                 (limit_ms) in thread {thread}\n{}",
                self.user.registers()
            );
            self.report();
            exit(ExitCode::ApplicationOverstayed)
        }
        if times.is_power_of_two() {
            log::warn!(
                "thread {thread}: the application has not returned for {limit_ms} ms (limit_ms), \
                 for the {times}. time; the network is looked after meanwhile"
            );
        }
    }

    /// Serves what is not the end of a round. Breaks if the round has ended meanwhile.
    #[cold]
    fn serve(&mut self, reason: &UserExit) -> ControlFlow<()> {
        match *reason {
            UserExit::Call(syscall::LOG, [address, len]) => {
                let result = text::log(&self.memory, address, len);
                self.user.set_result(result);
            }
            UserExit::Call(syscall::EXIT, [code, _]) => {
                smp::begin_end();
                self.report();
                exit_application(code)
            }
            UserExit::Call(number, arguments) => {
                let result = background::call(number, arguments, &self.memory);
                self.user.set_result(result);
            }
            UserExit::Tick => return self.tick(),
            UserExit::Fault(fault, registers) => {
                smp::begin_end();
                let thread = PerCpu::get().thread();
                say!("application stopped: {fault} in thread {thread}\n{registers}");
                self.report();
                exit(ExitCode::ApplicationFaulted)
            }
        }
        ControlFlow::Continue(())
    }

    fn report(&mut self) {
        log::debug!("{:?}", self.thread.statistics());
        log::debug!("{:?}", self.thread.engine().counters());
        say_all_counters(Some(self.thread.counters()));
    }
}

/// Says what all threads have done; `counters` are those of this processor's, the others are stopped.
pub fn say_all_counters(counters: Option<&ThreadCounters>) {
    let own = PerCpu::get();
    for cpu in smp::cpus() {
        let thread = cpu.thread();
        if core::ptr::eq(cpu, own) {
            counters.inspect(|counters| say_counters(thread, counters));
        } else if cpu.state.load(Ordering::Acquire) != STOPPED {
            say!("thread {thread}: does not stop");
        } else if let Some(counters) = cpu.last_counters() {
            say_counters(thread, &counters);
        }
    }
    background::say_counters();
}

/// Ends the machine because the application wants it.
pub fn exit_application(code: u64) -> ! {
    say!("application exited with code {}", code as u32 as i32);
    exit(match code as u32 {
        0 => ExitCode::Success,
        _ => ExitCode::ApplicationFailed,
    })
}

/// Halts until an interrupt comes, or has come since the last time that they were let in.
pub fn wait_for_interrupt() {
    // SAFETY: handlers only acknowledge; the instruction after `sti` runs before any of them.
    unsafe { asm!("sti", "hlt", "cli", options(nomem, nostack)) };
}

fn say_counters(thread: u32, counters: &ThreadCounters) {
    say!(
        "thread {thread}: {} frames, {} rounds, {} events, {} calls",
        counters.frames,
        counters.rounds,
        counters.events,
        counters.calls
    );
}
