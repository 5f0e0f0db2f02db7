//! The run-to-completion cycle.

use core::sync::atomic::AtomicU64;

use ix_abi::control::ThreadState;
use ix_hal::{Instant, MbufMemory, MbufPool, Nic, RxFrame};
use ix_net::{ConfigError, Context, Engine, Events, Movable};

use crate::area::{Area, EventWriter};
use crate::calls;
use crate::control::Control;
use crate::moving::{Crew, Mover};
use crate::statistics::{Statistics, ThreadCounters};
use crate::telemetry::{Averages, Report, Times};
use crate::user::{Sendable, UserRange};

/// Most frames in one batch, whatever the configuration says (B = 64 in the IX paper).
pub const BATCH_MAX: usize = 64;

/// Most events that one frame can cause, by the engine's contract.
pub(crate) const EVENTS_PER_FRAME: usize = 4;

/// Flow groups: the lowest bits of the RSS hash choose one.
const GROUPS: usize = ix_abi::control::GROUPS_MAX;

/// One dataplane thread: a queue pair, the protocol state of its flows, its frame buffers, and
/// the area it shares with its application thread. Nothing in it is shared with another thread,
/// except for the inboxes.
pub struct ElasticThread<N, M> {
    pub(crate) engine: Engine,
    pub(crate) nic: N,
    pub(crate) memory: M,
    pub(crate) pool: MbufPool,
    pub(crate) area: Area,
    pub(crate) events: EventWriter,
    sendable: Sendable,
    batch_bound: usize,
    pub(crate) batch: [RxFrame; BATCH_MAX],
    started: bool,
    /// Whether the application is away for too long.
    pub(crate) is_absent: bool,
    /// Datagrams sent whose memory is the application's again.
    udp_sent: u64,
    pub(crate) mover: Mover,
    pub(crate) counters: ThreadCounters,
    control: Option<Control>,
    averages: Averages,
    /// Frames of each flow group.
    group_frames: [u64; GROUPS],
}

/// What is to be decided once for a thread.
#[derive(Clone, Debug)]
pub struct ThreadConfig {
    /// The protocol engine's configuration.
    pub net: ix_net::Config,
    /// Most frames taken in one cycle, 1 to [`BATCH_MAX`]; other values are brought into range.
    pub batch_bound: usize,
}

/// What the machine provides for a thread.
pub struct ThreadParts<N, M> {
    /// The queue pair.
    pub nic: N,
    /// Read access to the pool's buffers.
    pub memory: M,
    /// The frame buffers.
    pub pool: MbufPool,
    /// The kernel's view of the thread area, at least [`ix_abi::area::WORDS`] words.
    pub area: &'static [AtomicU64],
    /// What the application may send from.
    pub sendable: [UserRange; 3],
    /// Its place among other threads, if there are any. Then the pool can borrow from theirs, and the
    /// engine's configuration says what it shares.
    pub crew: Option<Crew>,
    /// Where its connections lie and what they move in, made for the same configuration. Other threads
    /// use it too.
    pub movable: Movable,
}

/// What the caller of a half-cycle does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Enter user mode: events wait, the time the application asked for has come, a call was refused
    /// that would have caused an event, or the application has not run yet.
    User,
    /// Nothing to do before the deadline unless a frame comes. A deadline that is not later than
    /// the cycle's own time means: call again at once.
    Idle {
        /// When the next timer expires.
        deadline: Option<Instant>,
    },
    /// Nothing to do before the thread is told to run, or another one has something for it.
    Parked,
}

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    /// Builds the thread and allocates all of its tables; nothing allocates afterwards. The engine may
    /// refuse its configuration.
    ///
    /// # Panics
    /// If the thread area is shorter than the ABI says.
    pub fn new(
        config: ThreadConfig,
        parts: ThreadParts<N, M>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let area = Area::new(parts.area);
        let Movable { blocks, luggage } = parts.movable;
        let engine = Engine::with_blocks(config.net, blocks, now)?;
        let mut thread = Self {
            mover: Mover::new(parts.crew, luggage),
            engine,
            events: EventWriter::new(area, parts.pool.geometry()),
            nic: parts.nic,
            memory: parts.memory,
            pool: parts.pool,
            area,
            sendable: Sendable::new(parts.sendable),
            batch_bound: config.batch_bound.clamp(1, BATCH_MAX),
            batch: [RxFrame::default(); BATCH_MAX],
            started: false,
            is_absent: false,
            udp_sent: 0,
            counters: ThreadCounters::default(),
            control: None,
            averages: Averages::default(),
            group_frames: [0; GROUPS],
        };
        thread.nic.refill(&mut thread.pool);
        Ok(thread)
    }

    /// Lets the control plane see the thread, and tell it what to do.
    pub fn attach(&mut self, control: Control) {
        control.set_state(self.state());
        self.control = Some(control);
    }

    /// One kernel half-cycle, from the application's yield to its next round: its calls, timers,
    /// everything that became sendable, one doorbell; then a batch of frames and their events.
    ///
    /// Replies of the application therefore leave before new frames are taken, and the
    /// acknowledgements of the frames taken here wait for the application's replies to carry them.
    pub fn cycle(&mut self, now: Instant) -> Step {
        self.counters.cycles += 1;
        self.area.set_now(now.0);
        if self.control.as_ref().is_some_and(Control::needs_attention) {
            self.obey();
        }

        let nothing_follows = self.transmit_half(now);
        let frames = self.receive_half(now);
        if self.is_absent {
            return Step::User;
        }

        let wake_ns = self.area.wake_ns();
        let wake_due = match self.mover.is_parked() {
            // Not even the application's timers, but for calls that did not fit into one round.
            true => wake_ns == 1,
            false => wake_ns != 0 && wake_ns <= now.0,
        };
        if self.events.count() > 0 || wake_due || nothing_follows || !self.started {
            self.begin_round();
            return Step::User;
        }
        if frames > 0 || self.engine.has_pending_output() || self.must_go_on() {
            return Step::Idle {
                deadline: Some(now),
            };
        }
        if self.mover.is_parked() {
            return Step::Parked;
        }
        let wake = (wake_ns != 0).then_some(Instant(wake_ns));
        Step::Idle {
            deadline: earlier(self.engine.next_deadline(), wake),
        }
    }

    /// Makes the entry into user mode that follows a round with the events there are. The cycle does
    /// so before it says [`Step::User`]; a caller who enters on other grounds does it himself.
    #[inline]
    pub fn begin_round(&mut self) {
        self.started = true;
        self.counters.rounds += 1;
        self.counters.events += self.events.count() as u64;
        self.events.publish();
    }

    /// Calls, timers, output, doorbell. Returns whether a call was refused that would have caused an
    /// event.
    #[inline]
    fn transmit_half(&mut self, now: Instant) -> bool {
        let datagrams = self.nic.reclaim(&mut self.pool);
        if datagrams != 0 {
            self.udp_sent += u64::from(datagrams);
            self.area.set_udp_sent(self.udp_sent);
        }
        let cx = &mut Context {
            now,
            tx: &mut self.nic,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        let nothing_follows = calls::execute(
            self.area,
            &mut self.engine,
            &self.sendable,
            cx,
            &mut self.counters,
        );
        if self.has_to_move() {
            self.move_on(now);
        }
        let cx = &mut Context {
            now,
            tx: &mut self.nic,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        if self.mover.lets_timers_run(now) {
            self.engine.timers(cx);
        }
        self.engine.output(cx);
        self.nic.flush();
        nothing_follows
    }

    /// Takes a batch of frames as far as there is room for their events, without waiting.
    #[inline]
    fn receive_half(&mut self, now: Instant) -> usize {
        let room = self.events.room() / EVENTS_PER_FRAME;
        let bound = self.batch_bound.min(room);
        let frames = match self.mover.sorts_frames() {
            false => self.nic.receive(&mut self.batch[..bound], &mut self.pool),
            true => self.gather(now, bound),
        };
        if frames == 0 {
            // Only an empty poll may find the ring short of buffers that a full pool could give.
            self.nic.refill(&mut self.pool);
            return 0;
        }
        let cx = &mut Context {
            now,
            tx: &mut self.nic,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        for frame in &self.batch[..frames] {
            self.group_frames[frame.rss_hash as usize % GROUPS] += 1;
            let bytes = self.memory.frame(frame.mbuf, usize::from(frame.len));
            self.engine.ingress(cx, frame, bytes);
        }
        if self.engine.has_leftovers() {
            self.assemble(now);
            self.send_elsewhere();
        }
        self.nic.refill(&mut self.pool);
        self.counters.busy_cycles += 1;
        self.counters.full_batches += u64::from(frames == bound);
        self.counters.frames += frames as u64;
        frames
    }

    /// Puts together datagrams whose last fragment was in the batch. There are never more of them
    /// than frames in the batch, and a fragment causes no event itself, so there is room for theirs.
    #[cold]
    fn assemble(&mut self, now: Instant) {
        let cx = &mut Context {
            now,
            tx: &mut self.nic,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        while let Some(assembly) = self.engine.take_assembly() {
            let mbuf = assembly.mbuf();
            for (piece, at) in assembly.copies() {
                let from = (piece.mbuf, usize::from(piece.offset));
                self.memory.copy(from, (mbuf, at), usize::from(piece.len));
            }
            let bytes = self.memory.frame(mbuf, assembly.len());
            self.engine.assembled(cx, &assembly, bytes);
        }
    }

    /// Begins a command of the control plane, and answers it once it has ended. Not while the
    /// application is absent, which has to know of it.
    #[cold]
    fn obey(&mut self) {
        if self.is_absent {
            return;
        }
        let Some(control) = &mut self.control else {
            return;
        };
        match control.take_command() {
            Some(Ok(command)) => self.command(command),
            Some(Err(error)) => control.acknowledge(Err(error)),
            None => {}
        }
        self.answer_control_plane();
    }

    /// Whether the next cycle has something to do that is not traffic.
    fn must_go_on(&self) -> bool {
        let control = self.control.as_ref();
        self.mover.is_busy() || control.is_some_and(Control::owes_answer)
    }

    /// Answers the command under way if it has ended.
    fn answer_control_plane(&mut self) {
        if let Some(outcome) = self.take_outcome()
            && let Some(control) = &mut self.control
        {
            control.set_state(match self.mover.is_parked() {
                true => ThreadState::Parked,
                false => ThreadState::Running,
            });
            let mut groups = self.engine.flow_groups();
            while groups != 0 {
                let group = groups.trailing_zeros() as usize;
                control.set_group(group, self.group_frames[group]);
                groups &= groups - 1;
            }
            control.acknowledge(outcome);
        }
    }

    /// Tells the control plane how the thread is doing. To be called once in a
    /// [`REPORT_PERIOD`](crate::REPORT_PERIOD), and before a halt.
    #[cold]
    pub fn report(&mut self, now: Instant, times: Times) {
        let Some(control) = &self.control else {
            return;
        };
        let nic = match self.averages.wants_device() {
            true => self.nic.statistics(),
            false => self.nic.counts(),
        };
        let counters = self.engine.counters();
        let report = Report {
            times,
            thread: self.counters,
            is_absent: self.is_absent,
            nic,
            connections: self.engine.connections() as u64,
            mbufs_free: self.pool.available() as u64,
            waiting: u64::from(self.nic.waiting()),
            moved_in: counters.tcp_moved_in,
            moved_out: counters.tcp_moved_out,
            bad_checksums: counters.rx_bad_checksum,
            no_buffers: counters.tcp_rcv_dropped + counters.udp_receive_full,
            retransmits: counters.tcp_retransmits,
            refused: counters.tcp_listen_overflows + counters.tcp_knocks_refused,
        };
        self.averages.update(now, &report);
        control.publish(now, &report, &self.averages);
        let mut groups = self.engine.flow_groups();
        while groups != 0 {
            let group = groups.trailing_zeros() as usize;
            control.set_group(group, self.group_frames[group]);
            groups &= groups - 1;
        }
    }

    /// The queue pair, for interrupt control and link state between cycles.
    pub fn nic(&mut self) -> &mut N {
        &mut self.nic
    }

    /// The protocol engine, for its counters.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the thread has counted so far.
    pub fn counters(&self) -> &ThreadCounters {
        &self.counters
    }

    /// What the thread has done so far, the NIC's part included.
    pub fn statistics(&mut self) -> Statistics {
        Statistics {
            thread: self.counters,
            nic: self.nic.statistics(),
            mbufs_free: self.pool.available(),
            connections: self.engine.connections(),
        }
    }
}

/// The earlier of two points in time that may be missing.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
