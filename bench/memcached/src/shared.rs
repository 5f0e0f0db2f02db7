//! All threads share one store: what is asked for is served at once, wherever it was asked.

use memcached_server::Worker;

use crate::requests::{Popularity, Requests};
use crate::{Answer, CONNECTIONS, Thread, serve, server};

/// One of them.
pub struct Shared {
    worker: Worker<'static>,
    requests: Requests,
    answers: Vec<Answer>,
    is_stopped: bool,
}

/// Such threads, with all items there.
pub fn threads(popularity: &Popularity, count: usize, keys: usize, requests: usize) -> Vec<Shared> {
    let server = server(count, 64 << 20);
    let filler = Worker::new(server, 0);
    (0..keys).for_each(|rank| drop(serve(&filler, &popularity.request(rank, true))));
    let thread = |number| Shared {
        worker: Worker::new(server, number),
        requests: popularity.requests(requests, number as u64),
        answers: Vec::with_capacity(CONNECTIONS),
        is_stopped: false,
    };
    (0..count).map(thread).collect()
}

impl Thread for Shared {
    fn round(&mut self) -> usize {
        if !self.is_stopped {
            counted_round(self);
        }
        counted_finish(&mut self.answers)
    }

    fn under_way(&self) -> usize {
        0
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// Each connection asks.
#[inline(never)]
fn counted_round(thread: &mut Shared) {
    for _ in 0..CONNECTIONS {
        let number = thread.requests.take();
        let answer = serve(&thread.worker, thread.requests.get(number));
        thread.answers.push(answer);
    }
}

/// The answers have left.
#[inline(never)]
fn counted_finish(answers: &mut Vec<Answer>) -> usize {
    let count = answers.len();
    answers.clear();
    count
}
