//! Each thread has a store with a part of the keys, and asks the others for what is under other keys, by
//! messages through libix's channels. In favour of this design,
//!
//! - requests to one thread that come up in the same round go in one message, and so do their answers;
//!   messages are used again and again;
//! - a request is a reference to bytes that need not be kept, an answer one to the other thread's item;
//! - each connection has one request under way, so that no answers have to wait for their turn.

use std::sync::Arc;

use libix::channel::{Receiver, Sender, bounded};
use memcached_server::Worker;

use crate::requests::{Popularity, Requests};
use crate::{Answer, CONNECTIONS, Thread, serve, server};

/// Requests of one thread to another, and then their answers.
struct Message {
    from: usize,
    requests: Arc<Requests>,
    /// Numbers of requests.
    asked: Vec<u32>,
    answers: Vec<Answer>,
}

/// One of the threads.
pub struct Partitioned {
    number: usize,
    worker: Worker<'static>,
    requests: Arc<Requests>,
    next: u32,
    count: u32,
    /// By thread.
    outboxes: Vec<Option<Message>>,
    senders: Vec<Senders>,
    asked: Receiver<Message>,
    answered: Receiver<Message>,
    answers: Vec<Answer>,
    spare: Vec<Message>,
    under_way: usize,
    is_stopped: bool,
}

/// The ways to a thread.
#[derive(Clone)]
struct Senders {
    ask: Sender<Message>,
    answer: Sender<Message>,
}

/// Such threads, each with its items.
pub fn threads(
    popularity: &Popularity,
    count: usize,
    keys: usize,
    requests: usize,
) -> Vec<Partitioned> {
    let workers: Vec<_> = (0..count)
        .map(|_| Worker::new(server(1, (64 << 20) / count), 0))
        .collect();
    for rank in 0..keys {
        let request = popularity.request(rank, true);
        drop(serve(&workers[request.owner], &request));
    }
    // No thread has more than one message to another one under way for each of its connections.
    let room = CONNECTIONS * count;
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let ((ask, asked), (answer, answered)) = (bounded(room), bounded(room));
        senders.push(Senders { ask, answer });
        receivers.push((asked, answered));
    }
    let threads = workers.into_iter().zip(receivers).enumerate();
    let thread = |(number, (worker, (asked, answered)))| Partitioned {
        number,
        worker,
        requests: Arc::new(popularity.requests(requests, number as u64)),
        next: 0,
        count: requests as u32,
        outboxes: (0..count).map(|_| None).collect(),
        senders: senders.clone(),
        asked,
        answered,
        answers: Vec::with_capacity(CONNECTIONS),
        spare: Vec::new(),
        under_way: 0,
        is_stopped: false,
    };
    threads.map(thread).collect()
}

impl Thread for Partitioned {
    fn round(&mut self) -> usize {
        if !self.is_stopped {
            counted_asking(self);
        }
        counted_serving(self);
        counted_finish(self)
    }

    fn under_way(&self) -> usize {
        self.under_way
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// Each connection without a request asks.
#[inline(never)]
fn counted_asking(thread: &mut Partitioned) {
    for _ in thread.under_way..CONNECTIONS {
        let number = thread.next;
        thread.next = match number + 1 {
            end if end == thread.count => 0,
            next => next,
        };
        let request = thread.requests.get(number);
        if request.owner == thread.number {
            thread.answers.push(serve(&thread.worker, request));
            continue;
        }
        thread.under_way += 1;
        let outbox = &mut thread.outboxes[request.owner];
        let message = outbox.get_or_insert_with(|| {
            thread.spare.pop().unwrap_or_else(|| Message {
                from: thread.number,
                requests: thread.requests.clone(),
                asked: Vec::with_capacity(CONNECTIONS),
                answers: Vec::with_capacity(CONNECTIONS),
            })
        });
        message.asked.push(number);
    }
    for (outbox, senders) in thread.outboxes.iter_mut().zip(&thread.senders) {
        if let Some(message) = outbox.take() {
            let sent = senders.ask.try_send(message);
            assert!(sent.is_ok(), "there is room for all");
        }
    }
}

/// Serves what the others ask for.
#[inline(never)]
fn counted_serving(thread: &mut Partitioned) {
    while let Some(mut message) = thread.asked.try_recv() {
        let Message {
            requests,
            asked,
            answers,
            ..
        } = &mut message;
        for number in asked.drain(..) {
            answers.push(serve(&thread.worker, requests.get(number)));
        }
        let sent = thread.senders[message.from].answer.try_send(message);
        assert!(sent.is_ok(), "there is room for all");
    }
}

/// Takes answers; they have left.
#[inline(never)]
fn counted_finish(thread: &mut Partitioned) -> usize {
    while let Some(mut message) = thread.answered.try_recv() {
        thread.under_way -= message.answers.len();
        thread.answers.append(&mut message.answers);
        thread.spare.push(message);
    }
    let count = thread.answers.len();
    thread.answers.clear();
    count
}
