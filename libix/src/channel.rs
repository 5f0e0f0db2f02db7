//! Messages between threads, elastic and background ones: a bounded queue of many senders and one
//! receiver, which is told when it sleeps and a message comes.
//!
//! An elastic thread never waits. It looks with [`Receiver::try_recv`] in
//! [`Service::on_round`](crate::Service::on_round), until there is no message left: from then on the
//! next one has the kernel run a round, even if the thread halts. As long as none comes, looking
//! costs a load. A background thread waits in [`Receiver::recv`] and [`Sender::send`].
//!
//! The kernel is called only where somebody sleeps: by the sender of the first message after the
//! receiver had found none, and by the receiver that makes room for a sender who waits.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use core::time::Duration;

use crossbeam_queue::ArrayQueue;
use ix_abi::Error;

use crate::background::{is_background, nanoseconds};
use crate::platform;

/// A channel that holds at most `capacity` messages.
///
/// # Panics
/// If the capacity is 0.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        listener: AtomicU64::new(NOBODY),
        crowded: AtomicU64::new(0),
        senders: AtomicUsize::new(1),
        is_deserted: AtomicBool::new(false),
    });
    (Sender(shared.clone()), Receiver(shared))
}

/// The end that messages are put into. Each thread may have one.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// The end that messages come out of.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

/// Why a message was not sent. It comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// There are as many messages in the channel as it holds.
    #[error("the channel is full: send again in a later round, or make it larger")]
    Full(T),
    /// The receiver is gone.
    #[error("the channel's receiver is gone")]
    Closed(T),
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// All senders are gone, and all messages received.
    #[error("the channel's senders are gone")]
    Closed,
    /// The time has come, and no message.
    #[error("no message came in time")]
    TimedOut,
    /// This is an elastic thread, and there is no message now.
    #[error("an elastic thread does not wait: receive with try_recv in on_round")]
    Elastic,
}

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    /// Who is to be told of the next message: [`NOBODY`], [`SLEEPER`], or an elastic thread's number.
    listener: AtomicU64,
    /// Not 0 while senders wait for room.
    crowded: AtomicU64,
    senders: AtomicUsize,
    /// Whether the receiver is gone.
    is_deserted: AtomicBool,
}

const NOBODY: u64 = u64::MAX;
/// A background thread that waits for the word itself.
const SLEEPER: u64 = u64::MAX - 1;

impl<T> Sender<T> {
    /// Sends without waiting.
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        let shared = &*self.0;
        if shared.is_deserted.load(SeqCst) {
            return Err(SendError::Closed(message));
        }
        // Whoever receives spins while a message is half in.
        match platform::hold(|| shared.queue.push(message)) {
            Ok(()) => {
                shared.tell();
                Ok(())
            }
            Err(message) => Err(SendError::Full(message)),
        }
    }

    /// Sends; a background thread waits for room.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut message = message;
        loop {
            message = match self.try_send(message) {
                Err(SendError::Full(message)) if is_background() => message,
                result => return result,
            };
            self.0.crowded.store(1, SeqCst);
            message = match self.try_send(message) {
                Err(SendError::Full(message)) => message,
                result => return result,
            };
            // Woken for nothing or not at all, because there is room meanwhile: it looks again.
            let _ = platform::wait(&self.0.crowded, 1, 0);
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, SeqCst) == 1 {
            self.0.tell();
        }
    }
}

impl<T> Receiver<T> {
    /// The next message, if there is one. After `None` an elastic thread runs a round when one has
    /// come.
    #[inline]
    pub fn try_recv(&mut self) -> Option<T> {
        // As long as this thread is to be told, nobody has finished sending since it looked.
        if self.0.listener.load(Relaxed) == platform::thread() as u64 {
            return None;
        }
        self.look()
    }

    /// The next message; a background thread waits for it.
    pub fn recv(&mut self) -> Result<T, ReceiveError> {
        self.recv_before(0)
    }

    /// The next message, if it comes before that time on the scale of
    /// [`background::now`](crate::background::now).
    pub fn recv_until(&mut self, time: Duration) -> Result<T, ReceiveError> {
        self.recv_before(nanoseconds(time).max(1))
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    #[inline(never)]
    fn look(&mut self) -> Option<T> {
        let message = self.0.pop();
        if message.is_some() || is_background() {
            return message;
        }
        self.0.listen(platform::thread() as u64)
    }

    /// Waits until the time `until_ns`, or without an end if it is 0.
    fn recv_before(&mut self, until_ns: u64) -> Result<T, ReceiveError> {
        if !is_background() {
            return self.try_recv().ok_or(ReceiveError::Elastic);
        }
        let shared = &*self.0;
        loop {
            if let Some(message) = shared.pop().or_else(|| shared.listen(SLEEPER)) {
                return Ok(message);
            }
            if shared.senders.load(SeqCst) == 0 {
                // The last one may have sent before it went.
                return shared.pop().ok_or(ReceiveError::Closed);
            }
            if platform::wait(&shared.listener, SLEEPER, until_ns) == Err(Error::TimedOut) {
                shared.listener.store(NOBODY, SeqCst);
                return shared.pop().ok_or(ReceiveError::TimedOut);
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.is_deserted.store(true, SeqCst);
        self.0.make_room();
    }
}

impl<T> Shared<T> {
    fn pop(&self) -> Option<T> {
        // Whoever sends spins while a message is half out.
        let message = platform::hold(|| self.queue.pop());
        if message.is_some() {
            self.make_room();
        }
        message
    }

    /// Asks to be told of the next message, unless there is one already.
    fn listen(&self, listener: u64) -> Option<T> {
        self.listener.store(listener, SeqCst);
        let message = self.pop();
        if message.is_some() {
            // There may be more, whose senders had nobody to tell.
            self.listener.store(NOBODY, SeqCst);
        }
        message
    }

    /// Tells whoever wants to know that there is a message, or that there are no senders. Either this
    /// finds a listener, or the listener finds the message.
    fn tell(&self) {
        fence(SeqCst);
        if self.listener.load(Relaxed) == NOBODY {
            return;
        }
        match self.listener.swap(NOBODY, SeqCst) {
            NOBODY => {}
            SLEEPER => platform::wake(&self.listener),
            thread => platform::notify(thread as usize),
        }
    }

    /// Wakes senders that wait for room.
    fn make_room(&self) {
        fence(SeqCst);
        if self.crowded.load(Relaxed) != 0 && self.crowded.swap(0, SeqCst) != 0 {
            platform::wake(&self.crowded);
        }
    }
}

#[cfg(test)]
mod tests;
