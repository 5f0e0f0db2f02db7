//! Requests to apps/memcached on the fake kernel, for callgrind to count what they cost in user mode:
//! `cargo xtask bench memcached`. All that is counted happens in [`counted_round`]; the kernel's part of a
//! round, `run_io`, is not.
//!
//! `requests get|miss|set CONNECTIONS ROUNDS`: in each round, each connection sends one request, and all
//! that a round says is acknowledged before the next one. The key differs from round to round.

use std::process::ExitCode;

use libix::Runtime;
use libix::fake::{FakeKernel, without_background_processor};
use memcached_server::{Server, Service, Settings};
use spin::Once;

static SERVER: Once<Server> = Once::new();

const PORT: u16 = 11211;
/// Items that are there.
const ITEMS: usize = 10_000;
/// Sizes of the requests that the figures send, too.
const KEY_BYTES: usize = 30;
const VALUE_BYTES: usize = 64;

type Memcached = Runtime<Service, FakeKernel>;

/// What is asked, and how often.
struct Plan {
    request: Request,
    connections: usize,
    rounds: usize,
}

#[derive(Clone, Copy)]
enum Request {
    Get,
    Miss,
    Set,
}

impl Request {
    fn bytes(self, number: usize) -> Vec<u8> {
        let key = |number: usize| format!("{number:0KEY_BYTES$}");
        let number = number * 7919 % ITEMS;
        match self {
            Self::Get => format!("get {}\r\n", key(number)).into(),
            Self::Miss => format!("get {}\r\n", key(number + ITEMS)).into(),
            Self::Set => set(&key(number)),
        }
    }

    fn answer_bytes(self) -> usize {
        let line = format!("VALUE {:KEY_BYTES$} 0 {VALUE_BYTES}\r\n", "").len();
        match self {
            Self::Get => line + VALUE_BYTES + "\r\nEND\r\n".len(),
            Self::Miss => "END\r\n".len(),
            Self::Set => "STORED\r\n".len(),
        }
    }
}

fn set(key: &str) -> Vec<u8> {
    let value = "v".repeat(VALUE_BYTES);
    format!("set {key} 0 0 {VALUE_BYTES}\r\n{value}\r\n").into()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = parse(&arguments) else {
        eprintln!("usage: requests get|miss|set CONNECTIONS ROUNDS");
        return ExitCode::from(2);
    };
    without_background_processor(|| play(&plan))
}

fn parse(arguments: &[String]) -> Option<Plan> {
    let [request, connections, rounds] = arguments else {
        return None;
    };
    Some(Plan {
        request: match request.as_str() {
            "get" => Request::Get,
            "miss" => Request::Miss,
            "set" => Request::Set,
            _ => return None,
        },
        connections: connections.parse().ok()?,
        rounds: rounds.parse().ok()?,
    })
}

fn play(plan: &Plan) -> ExitCode {
    let service = Service::new(Settings::default(), &SERVER);
    let mut memcached = Runtime::new(service, FakeKernel::new());
    memcached.round();
    fill(&mut memcached);
    for _ in 1..plan.connections {
        memcached.kernel().knock(PORT);
    }
    memcached.settle();
    // Once so that every table and queue is as large as it becomes.
    ask(&mut memcached, plan.request, 0..2, Memcached::round);
    memcached.settle();
    let before = memcached.kernel().bytes_acknowledged();
    ask(
        &mut memcached,
        plan.request,
        2..2 + plan.rounds,
        counted_round,
    );
    counted_round(&mut memcached);
    let answered = memcached.kernel().bytes_acknowledged() - before;
    let answers = answered / plan.request.answer_bytes();
    println!("{answers} answers of {} bytes", plan.request.answer_bytes());
    ExitCode::SUCCESS
}

/// Stores all items, by one connection.
fn fill(memcached: &mut Memcached) {
    let peer = memcached.kernel().knock(PORT);
    memcached.settle();
    for number in 0..ITEMS {
        let request = set(&format!("{number:0KEY_BYTES$}"));
        memcached.kernel().peer(peer).send_bytes(&request);
        memcached.round();
    }
    memcached.settle();
}

/// One request on each connection in each round.
fn ask(
    memcached: &mut Memcached,
    request: Request,
    rounds: std::ops::Range<usize>,
    mut round: impl FnMut(&mut Memcached),
) {
    for number in rounds {
        memcached.kernel().requests_per_round = Some(request.bytes(number));
        round(memcached);
    }
    memcached.kernel().requests_per_round = None;
}

#[inline(never)]
fn counted_round(memcached: &mut Memcached) {
    memcached.round();
}
