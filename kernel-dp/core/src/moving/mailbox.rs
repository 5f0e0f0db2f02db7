//! What elastic threads say to each other while flow groups move. Each thread has an inbox that the
//! others put messages into; nobody looks into it on the way of a packet but for a flag beside it that
//! says whether there is mail, in a line that nobody writes then.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use crossbeam_queue::ArrayQueue;
use ix_abi::Error;
use ix_hal::{Instant, LentMbuf, MbufId, Steer};
use ix_net::{Elsewhere, Luggage, Needs};

/// Messages that an inbox holds. When it is full, senders keep theirs and try again.
const INBOX: usize = 256;
/// Messages that wait for room in inboxes before frames and returns have to.
const OUTBOX: usize = 256;
/// Beyond these there is room for what cannot wait: two messages for each other thread.
const OUTBOX_SPARE: usize = 2 * ix_abi::THREADS_MAX;
/// Buffers named in one message.
pub(crate) const MBUFS_AT_ONCE: usize = 16;

/// The messages for one thread.
#[derive(Debug)]
pub struct Inbox {
    messages: ArrayQueue<Message>,
    /// Whether any may be there. Set behind each message.
    has_mail: AtomicBool,
}

impl Inbox {
    /// An empty one. Allocates.
    pub fn new() -> Self {
        Self {
            messages: ArrayQueue::new(INBOX),
            has_mail: AtomicBool::new(false),
        }
    }

    /// Whether its owner has to look into it.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Acquire)
    }

    /// Says that its owner takes everything out from now on. What comes meanwhile is said anew: exchanged,
    /// since a plain store might pass the looking that follows.
    pub(crate) fn begin_reading(&self) {
        self.has_mail.swap(false, AcqRel);
    }

    /// Takes the oldest message.
    pub(crate) fn receive(&self) -> Option<Message> {
        self.messages.pop()
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

/// One thing that a thread says to another one.
#[derive(Debug)]
pub(crate) enum Message {
    /// `from` wants to give flow groups, whose connections need so much.
    Begin {
        from: u32,
        groups: u128,
        needs: Needs,
    },
    /// The answer: frames of these groups are kept from now on, and so much room.
    Ready(Needs),
    /// The other answer.
    Refuse(Error),
    /// Connections as they were at that time, with which these groups are complete.
    Luggage {
        luggage: Box<Luggage>,
        groups: u128,
        at: Instant,
    },
    /// They are served; here is what they came in.
    Unpacked(Box<Luggage>),
    /// A packet that came to a thread which does not serve its flow group.
    Elsewhere { lent: LentMbuf, packet: Elsewhere },
    /// Buffers that come home.
    Mbufs {
        mbufs: [MbufId; MBUFS_AT_ONCE],
        count: usize,
    },
}

/// A thread's place among the others.
#[derive(Clone, Copy)]
pub struct Crew {
    /// Its number.
    pub thread: u32,
    /// The inboxes of all threads, its own among them.
    pub inboxes: &'static [Inbox],
    /// What redirects frames and wakes threads.
    pub steer: &'static dyn Steer,
    /// Whether it starts parked.
    pub is_parked: bool,
}

impl Crew {
    /// The own inbox.
    pub(crate) fn inbox(&self) -> Option<&'static Inbox> {
        self.inboxes.get(self.thread as usize)
    }

    /// Whether there is another thread of that number.
    pub(crate) fn has_other(&self, thread: u32) -> bool {
        thread != self.thread && (thread as usize) < self.inboxes.len()
    }
}

/// Messages on their way out, in order.
pub(crate) struct Outbox(VecDeque<(u32, Message)>);

impl Outbox {
    pub fn new() -> Self {
        Self(VecDeque::with_capacity(OUTBOX + OUTBOX_SPARE))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is room for what can wait.
    pub fn has_room(&self) -> bool {
        self.0.len() < OUTBOX
    }

    /// Appends a message. There is always room for those of the protocol, of which each thread has
    /// at most one to give and one to answer under way with each other.
    pub fn push(&mut self, to: u32, message: Message) {
        self.0.push_back((to, message));
    }

    /// Delivers what the inboxes have room for.
    pub fn post(&mut self, crew: &Crew) {
        while let Some((to, message)) = self.0.pop_front() {
            let Some(inbox) = crew.inboxes.get(to as usize) else {
                continue;
            };
            if let Err(message) = inbox.messages.push(message) {
                self.0.push_front((to, message));
                return;
            }
            inbox.has_mail.store(true, Release);
            crew.steer.wake(to);
        }
    }
}
