//! Flow groups that go from one elastic thread to another, and threads that park and run again.
//!
//! The giver asks (`Begin`); the taker promises room, keeps all frames of these groups from now on, and
//! says so (`Ready`). The giver redirects the groups' frames, takes everything in that had come before,
//! packs the connections between two rounds of its application, which hears of it in the next one, and
//! hands them over (`Luggage`) when that round is over and its last frames have left. The taker unpacks
//! them between two rounds of its own, takes in the frames that the giver has sent after them, then those
//! that it has kept, and goes on. Groups whose connections are more than the luggage holds go one after
//! the other. So each thread gives one set of groups at a time and takes one at a time; who asks meanwhile
//! waits, and serves on.
//!
//! Key types: [`Crew`], a thread's place among the others; [`Command`], what the control plane asks
//! for. `giving` and `taking` are the two sides, `frames` sorts what arrives meanwhile, `elsewhere`
//! takes packets to the thread that serves their group, `mailbox` carries messages.

mod elsewhere;
mod frames;
mod giving;
mod mailbox;
mod taking;

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use ix_abi::Error;
use ix_abi::control::ThreadState;
use ix_hal::{Duration, Instant, LentMbuf, MbufId, MbufMemory, Nic, RxFrame};
use ix_net::{Context, Elsewhere, Luggage};

use crate::ElasticThread;
pub use mailbox::{Crew, Inbox};
use mailbox::{MBUFS_AT_ONCE, Message, Outbox};

use giving::Giving;
use taking::{Begin, Taking};

/// Frames that a thread keeps at most while their groups are on their way, and as many that are
/// forwarded to it. Beyond, they are dropped.
const FRAMES_KEPT: usize = 1024;

/// How long timers wait for frames that are kept, at most. It takes a few cycles, if neither
/// application stays away.
const TIMER_PATIENCE: Duration = Duration::from_millis(1);

/// What the control plane asks of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hand flow groups, a bit each, with all their connections to another running thread. Refused
    /// while another set is under way, and if the application does not follow moves.
    Give {
        /// The groups.
        groups: u128,
        /// The thread.
        to: u32,
    },
    /// Halt until told to run. Refused while it has flow groups or connections.
    Park {
        /// The thread that takes what belongs to no flow group.
        to: u32,
    },
    /// Serve again.
    Run,
}

/// What a thread knows of groups on their way.
pub(crate) struct Mover {
    crew: Option<Crew>,
    /// The own one of its inboxes.
    inbox: Option<&'static Inbox>,
    is_parked: bool,
    /// Whether something is under way.
    is_active: bool,
    giving: Giving,
    taking: Taking,
    /// Those who wait for their turn to give to this thread.
    asking: VecDeque<Begin>,
    /// The own luggage, while it is at home.
    luggage: Option<Box<Luggage>>,
    outbox: Outbox,
    /// Frames of groups that are coming, in order.
    kept: VecDeque<RxFrame>,
    /// Packets that others have received for groups of this thread. What is of groups that are coming is
    /// older than all that is kept.
    handed: VecDeque<Elsewhere>,
    /// When timers may run again: an acknowledgement may be among the frames that are kept.
    timers_from: Instant,
    /// How the last command ended, until somebody asks.
    outcome: Option<Result<(), Error>>,
}

impl Mover {
    pub fn new(crew: Option<Crew>, luggage: Box<Luggage>) -> Self {
        let room = match crew {
            Some(_) => FRAMES_KEPT,
            None => 0,
        };
        Self {
            crew,
            inbox: crew.and_then(|crew| crew.inbox()),
            is_parked: crew.is_some_and(|crew| crew.is_parked),
            is_active: false,
            giving: Giving::Nothing,
            taking: Taking::Nothing,
            asking: VecDeque::with_capacity(if room == 0 { 0 } else { ix_abi::THREADS_MAX }),
            luggage: Some(luggage),
            outbox: Outbox::new(),
            kept: VecDeque::with_capacity(room),
            handed: VecDeque::with_capacity(room),
            timers_from: Instant(0),
            outcome: None,
        }
    }

    /// Whether the thread waits until it is told to run.
    pub fn is_parked(&self) -> bool {
        self.is_parked
    }

    /// Whether something is under way that the next cycle goes on with.
    pub fn is_busy(&self) -> bool {
        !matches!(self.giving, Giving::Nothing)
            || !matches!(self.taking, Taking::Nothing)
            || !self.asking.is_empty()
            || !self.outbox.is_empty()
            || !self.handed.is_empty()
            || !self.kept.is_empty()
    }

    /// Whether received frames have to be looked at one by one.
    #[inline]
    pub fn sorts_frames(&self) -> bool {
        self.is_active
    }

    /// Whether timers may run.
    #[inline]
    pub fn lets_timers_run(&self, now: Instant) -> bool {
        self.timers_from <= now
    }

    /// Lets timers run again if no frame of a connection can lie among those that are kept, here or at
    /// the thread that is to take it.
    fn may_release_timers(&mut self) {
        let are_all_in = self.kept.is_empty() && self.handed.is_empty() && self.coming() == 0;
        if are_all_in && !self.giving.has_redirected() {
            self.timers_from = Instant(0);
        }
    }

    /// Takes note of whether there is anything to do.
    fn settle(&mut self) {
        self.is_active = self.is_busy();
    }

    #[inline]
    fn has_mail(&self) -> bool {
        self.inbox.is_some_and(Inbox::has_mail)
    }

    /// Groups whose frames are kept.
    fn coming(&self) -> u128 {
        self.taking.groups()
    }
}

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    /// Begins a command; [`ElasticThread::take_outcome`] says how it ended. One that is given while
    /// another one is under way is refused.
    pub fn command(&mut self, command: Command) {
        let begun = match command {
            Command::Give { groups, to } => self.give(groups, to),
            Command::Park { to } => self.park(to).map(|()| true),
            Command::Run => self.wake().map(|()| true),
        };
        match begun {
            Ok(false) => {}
            Ok(true) => self.mover.outcome = Some(Ok(())),
            Err(error) => self.mover.outcome = Some(Err(error)),
        }
        self.mover.settle();
    }

    /// How the last command ended, once it has.
    pub fn take_outcome(&mut self) -> Option<Result<(), Error>> {
        self.mover.outcome.take()
    }

    /// What the thread does.
    pub fn state(&self) -> ThreadState {
        match self.mover.is_parked {
            true => ThreadState::Parked,
            false => ThreadState::Running,
        }
    }

    /// Thread 0 serves always: what has no ports, such as ARP, arrives at its queue.
    fn park(&mut self, to: u32) -> Result<(), Error> {
        let crew = self.mover.crew.as_ref().ok_or(Error::BadState)?;
        if crew.thread == 0 || !crew.has_other(to) {
            return Err(Error::Invalid);
        }
        if self.mover.is_parked || self.engine.flow_groups() != 0 {
            return Err(Error::BadState);
        }
        if self.mover.is_busy() || self.engine.connections() != 0 {
            return Err(Error::TryAgain);
        }
        self.mover.is_parked = true;
        Ok(())
    }

    fn wake(&mut self) -> Result<(), Error> {
        if !self.mover.is_parked {
            return Err(Error::BadState);
        }
        self.mover.is_parked = false;
        Ok(())
    }

    /// Whether [`ElasticThread::move_on`] has something to do.
    #[inline]
    pub(crate) fn has_to_move(&self) -> bool {
        self.mover.is_active || self.mover.has_mail() || self.pool.has_returns()
    }

    /// Goes on with what is under way. Between two rounds of the application: its calls are
    /// executed, and no event has come of a frame yet.
    #[cold]
    pub(crate) fn move_on(&mut self, now: Instant) {
        // It is no time between two rounds while the application is absent.
        let Some(crew) = self.mover.crew.filter(|_| !self.is_absent) else {
            return;
        };
        if let Some(inbox) = self.mover.inbox {
            inbox.begin_reading();
            while let Some(message) = inbox.receive() {
                self.read(now, message);
            }
        }
        self.return_loans();
        self.go_on_giving(now);
        self.go_on_taking(now);
        self.mover.may_release_timers();
        self.mover.outbox.post(&crew);
        self.mover.settle();
    }

    fn read(&mut self, now: Instant, message: Message) {
        match message {
            Message::Begin {
                from,
                groups,
                needs,
            } => self.mover.asking.push_back(Begin {
                from,
                groups,
                needs,
            }),
            Message::Ready(room) => self.other_is_ready(now, room),
            Message::Refuse(error) => {
                self.mover.giving = Giving::Nothing;
                self.mover.outcome = Some(Err(error));
            }
            Message::Luggage {
                luggage,
                groups,
                at,
            } => self.mover.taking.arrive(luggage, groups, at),
            Message::Unpacked(luggage) => self.luggage_returns(now, luggage),
            Message::Elsewhere { lent, packet } => self.adopt_packet(lent, packet),
            Message::Mbufs { mbufs, count } => {
                for mbuf in mbufs.into_iter().take(count) {
                    self.pool.give(mbuf);
                }
            }
        }
    }

    /// Sends buffers home whose loan is over.
    fn return_loans(&mut self) {
        while self.pool.has_returns() && self.mover.outbox.has_room() {
            let Some(first) = self.pool.take_return() else {
                return;
            };
            let mut mbufs = [first.mbuf; MBUFS_AT_ONCE];
            let mut count = 1;
            while count < MBUFS_AT_ONCE
                && let Some(lent) = self.pool.take_return_to(first.owner)
            {
                mbufs[count] = lent.mbuf;
                count += 1;
            }
            self.engine.loans_ended(count as u32);
            let message = Message::Mbufs { mbufs, count };
            self.mover.outbox.push(first.owner, message);
        }
    }

    /// Copies what is in a buffer of another thread, if there is room for it, and gives that buffer
    /// back.
    fn adopt(&mut self, lent: LentMbuf, len: u16, has_room: bool) -> Option<MbufId> {
        let mut mbufs = [MbufId(0); MBUFS_AT_ONCE];
        mbufs[0] = lent.mbuf;
        let message = Message::Mbufs { mbufs, count: 1 };
        let own = match has_room {
            true => self.pool.take(),
            false => None,
        };
        match own {
            Some(mbuf) => self.memory.fetch(lent, mbuf, usize::from(len)),
            None => self.counters.moving_drops += 1,
        }
        self.mover.outbox.push(lent.owner, message);
        own
    }

    fn context(
        &mut self,
        now: Instant,
    ) -> (
        &mut ix_net::Engine,
        Context<'_, N, crate::area::EventWriter>,
    ) {
        let cx = Context {
            now,
            tx: &mut self.nic,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        (&mut self.engine, cx)
    }
}
