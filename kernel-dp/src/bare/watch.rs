//! The watch over the application's time in user mode: ticks of this CPU's timer, which is set anew
//! with each tick and after each halt, not in each round. What the ticks mean, [`Patience`]
//! knows.

use ix_core::Patience;
use kernel_dp::command_line::{Overstay, UserLimit};

use super::apic::Timer;
use super::cpu::rdtsc;
use super::time::Clock;

/// A watch over one thread of the application.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    patience: Patience,
    timer: Timer,
    clock: Clock,
    /// What happens when it stays for too long.
    pub overstay: Overstay,
}

impl Watch {
    /// Keeps to `limit`, if that is one. The timer has to be this CPU's.
    pub fn new(limit: UserLimit, timer: Timer, clock: Clock) -> Option<Self> {
        Some(Self {
            patience: Patience::new(limit.time?),
            timer,
            clock,
            overstay: limit.overstay,
        })
    }

    /// Sets the timer for the next tick.
    pub fn arm(&self) {
        let micros = self.patience.period().as_micros();
        self.timer.arm(rdtsc() + self.clock.ticks_of_micros(micros));
    }

    /// No tick any more, but for one that is on its way.
    pub fn disarm(&self) {
        self.timer.disarm();
    }

    /// Takes note of a tick in that round, and sets the timer for the next one. Says whether the
    /// application has used up its time just now.
    pub fn tick(&mut self, round: u64) -> bool {
        let is_used_up = self.patience.tick(round);
        self.arm();
        is_used_up
    }

    /// The limit in milliseconds.
    pub fn limit_ms(&self) -> u64 {
        self.patience.limit().as_micros() / 1_000
    }

    /// The limit in TSC ticks.
    pub fn limit_ticks(&self) -> u64 {
        self.clock
            .ticks_of_micros(self.patience.limit().as_micros())
    }
}
