//! Two stations over a wire with faults, in virtual time.

use crate::testing::{App, Faults, Host, Link, Monitor, Tracer};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use ix_hal::Instant;

/// A host with its application, seen from the wire.
pub trait Station {
    /// Takes in a frame.
    fn receive(&mut self, now: Instant, frame: &[u8]);
    /// Does what there is to do at this time.
    fn turn(&mut self, now: Instant);
    /// Takes a frame that was sent.
    fn take_sent(&mut self) -> Option<Vec<u8>>;
    /// When it has to be called next, if nothing comes.
    fn deadline(&self, now: Instant) -> Option<Instant>;
    /// Says what is wrong inside of it, if anything.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
    /// Grows with everything that brings it nearer to its end.
    fn progress(&self) -> u64;
    /// Whether it has done all it wanted.
    fn is_done(&self) -> bool;
    /// How it stands, for a failed test's message.
    fn describe(&self) -> String;
}

/// An engine with its application.
pub struct EngineStation {
    /// The engine and its surroundings.
    pub host: Host,
    /// The application.
    pub app: App,
}

impl Station for EngineStation {
    fn receive(&mut self, now: Instant, frame: &[u8]) {
        self.host.now = now;
        self.host.receive(frame);
    }

    fn turn(&mut self, now: Instant) {
        self.host.now = now;
        self.app.turn(&mut self.host);
        self.host.turn();
    }

    fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.host.wire.sent.pop_front()
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let engine = &self.host.engine;
        if engine.has_pending_output()
            || !self.host.queue.events.is_empty()
            || self.app.is_waiting()
        {
            return Some(Instant(now.0 + 1000));
        }
        engine.next_deadline()
    }

    fn check(&self) -> Result<(), String> {
        let (out, held) = (self.host.mbufs_out(), self.host.engine.mbufs_held());
        if out != held {
            return Err(format!("{out} mbufs are out, {held} of them held"));
        }
        self.host.engine.check()
    }

    fn progress(&self) -> u64 {
        self.app.progress()
    }

    fn is_done(&self) -> bool {
        self.app.is_idle()
    }

    fn describe(&self) -> String {
        let counters = self.host.engine.counters().iter();
        let counters: Vec<_> = counters.filter(|(_, value)| *value != 0).collect();
        format!("{}{counters:?}\n", self.app.describe())
    }
}

/// Two stations and the wire between them.
pub struct Network<A: Station, B: Station> {
    /// One end.
    pub first: A,
    /// The other.
    pub second: B,
    /// From the first to the second.
    pub there: Link,
    /// From the second to the first.
    pub back: Link,
    /// The time.
    pub now: Instant,
    /// The last frames that were sent, readably.
    pub trace: Vec<String>,
    /// Is told each of them as it is sent.
    pub print: Option<fn(&str)>,
    monitor: Monitor,
    tracer: Tracer,
    /// What was found wrong first.
    wrong: Option<String>,
    /// Frames sent since either station made progress.
    frames_in_vain: u32,
    progress: u64,
}

/// More frames without any progress are a livelock.
const FRAMES_IN_VAIN: u32 = 3000;
/// Frames that a trace keeps.
const TRACE_LEN: usize = 60;

impl<A: Station, B: Station> Network<A, B> {
    /// A network whose faults depend on `seed` alone.
    pub fn new(first: A, second: B, faults: &Faults, seed: u64, now: Instant) -> Self {
        Self {
            first,
            second,
            there: Link::new(faults.clone(), seed ^ 3),
            back: Link::new(faults.clone(), seed ^ 4),
            now,
            trace: Vec::new(),
            print: None,
            monitor: Monitor::default(),
            tracer: Tracer::default(),
            wrong: None,
            frames_in_vain: 0,
            progress: 0,
        }
    }

    /// Runs until both stations have done all they wanted, or until `limit` nanoseconds of virtual
    /// time are over; then the error tells how things stand.
    pub fn run(&mut self, limit: u64) -> Result<(), String> {
        let end = self.now.0 + limit;
        loop {
            self.turn();
            if let Some(wrong) = &self.wrong {
                return Err(format!("{wrong}\n{}", self.describe()));
            }
            if self.first.is_done() && self.second.is_done() {
                return Ok(());
            }
            if self.now.0 > end {
                return Err(self.describe());
            }
            self.wait();
        }
    }

    /// Runs for some time whatever happens.
    pub fn run_for(&mut self, span: u64) {
        let end = self.now.0 + span;
        while self.now.0 < end {
            self.turn();
            self.wait();
        }
    }

    /// Directions of connections whose sequence numbers went past zero.
    pub fn wraps(&self) -> u64 {
        self.monitor.wraps
    }

    /// Takes note of something that happens to the wire, the clock or a station.
    pub fn remark(&mut self, text: &str) {
        self.note("*", "", text);
    }

    /// How both stations stand, and the last frames.
    pub fn describe(&self) -> String {
        format!(
            "at {} us:\nfirst: {}second: {}{}",
            self.now.0 / 1000,
            self.first.describe(),
            self.second.describe(),
            self.trace.join("\n")
        )
    }

    /// Lets frames arrive and both stations work.
    fn turn(&mut self) {
        while let Some(frame) = self.back.receive(self.now) {
            self.first.receive(self.now, &frame);
        }
        self.first.turn(self.now);
        while let Some(frame) = self.first.take_sent() {
            self.watch(0, &frame);
            let text = self.tracer.text(&frame);
            let fate = self.there.send(self.now, frame);
            self.note(">", fate, &text);
        }
        while let Some(frame) = self.there.receive(self.now) {
            self.second.receive(self.now, &frame);
        }
        self.second.turn(self.now);
        while let Some(frame) = self.second.take_sent() {
            self.watch(1, &frame);
            let text = self.tracer.text(&frame);
            let fate = self.back.send(self.now, frame);
            self.note("<", fate, &text);
        }
        self.check_step();
    }

    /// What must hold at every step.
    fn check_step(&mut self) {
        let progress = self.first.progress() + self.second.progress();
        if progress != self.progress {
            self.progress = progress;
            self.frames_in_vain = 0;
        }
        let is_lively = match self.frames_in_vain {
            0..FRAMES_IN_VAIN => Ok(()),
            frames => Err(format!("{frames} frames in a row brought nothing")),
        };
        let first = self
            .first
            .check()
            .map_err(|wrong| format!("first: {wrong}"));
        let second = self
            .second
            .check()
            .map_err(|wrong| format!("second: {wrong}"));
        if let Err(wrong) = is_lively.and(first).and(second) {
            self.wrong.get_or_insert(wrong);
        }
    }

    fn watch(&mut self, from: usize, frame: &[u8]) {
        self.frames_in_vain += 1;
        if let Err(wrong) = self.monitor.watch(from, frame) {
            self.wrong.get_or_insert(wrong);
        }
    }

    fn note(&mut self, direction: &str, fate: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.trace.len() == TRACE_LEN {
            self.trace.remove(0);
        }
        let at = self.now.0 / 1000;
        let line = format!("{at:>12} {direction} {fate}{text}");
        if let Some(print) = self.print {
            print(&line);
        }
        self.trace.push(line);
    }

    /// Goes on to when something happens next.
    fn wait(&mut self) {
        let next = [
            self.first.deadline(self.now),
            self.second.deadline(self.now),
            self.there.next_arrival(),
            self.back.next_arrival(),
        ];
        let next = next
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Instant(u64::MAX));
        self.now = Instant(next.0.clamp(self.now.0 + 1000, self.now.0 + 100_000_000));
    }
}
