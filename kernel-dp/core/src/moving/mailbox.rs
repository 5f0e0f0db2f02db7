//! What elastic threads say to each other while flow groups move. Each thread has an inbox that the
//! others put messages into; nobody looks into it on the way of a packet but for whether it is
//! empty, which costs two loads from lines that nobody writes then.

use alloc::collections::VecDeque;

use crossbeam_queue::ArrayQueue;
use ix_abi::Error;
use ix_hal::{Instant, LentMbuf, MbufId, RxFrame, Steer};
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
pub struct Inbox(ArrayQueue<Message>);

impl Inbox {
    /// An empty one. Allocates.
    pub fn new() -> Self {
        Self(ArrayQueue::new(INBOX))
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
    /// The answer: frames of these groups are kept from now on.
    Ready,
    /// The other answer.
    Refuse(Error),
    /// Connections of the groups, the last ones if `is_last`, as they were at that time.
    Luggage {
        luggage: Luggage,
        is_last: bool,
        at: Instant,
    },
    /// They are served; here is what they came in.
    Unpacked(Luggage),
    /// A frame for the thread that its group was given to.
    Stray { lent: LentMbuf, frame: RxFrame },
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
    /// Whether there is something in the own inbox.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        let inbox = self.inboxes.get(self.thread as usize);
        inbox.is_some_and(|inbox| !inbox.0.is_empty())
    }

    /// Takes the oldest message for this thread.
    pub(crate) fn receive(&self) -> Option<Message> {
        self.inboxes.get(self.thread as usize)?.0.pop()
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
            if let Err(message) = inbox.0.push(message) {
                self.0.push_front((to, message));
                return;
            }
            crew.steer.wake(to);
        }
    }
}
