//! Connections change their threads while requests come in pieces and answers wait for slow readers: every
//! answer is there, once, in order, and no memory stays behind.

use std::collections::BTreeMap;

use libix::Runtime;
use libix::fake::{FakeKernel, PeerId, without_background_processor};
use memcached_server::{Server, Service, Settings};
use spin::Once;

const PORT: u16 = 11211;
const THREADS: usize = 3;
const CLIENTS: usize = 12;
/// Commands of each client.
const COMMANDS: usize = 300;

/// Numbers that look random (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % limit
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A client with keys of its own, which knows what must be answered.
struct Client {
    number: usize,
    items: BTreeMap<usize, Vec<u8>>,
    /// What it has to say, and how much of it it has said.
    requests: Vec<u8>,
    said: usize,
    expected: Vec<u8>,
    increments: usize,
}

impl Client {
    fn new(number: usize, dice: &mut Dice) -> Self {
        let mut client = Self {
            number,
            items: BTreeMap::new(),
            requests: Vec::new(),
            said: 0,
            expected: Vec::new(),
            increments: 0,
        };
        (0..COMMANDS).for_each(|_| client.command(dice));
        client
    }

    fn command(&mut self, dice: &mut Dice) {
        let (key, count) = (dice.below(6), 1 + dice.below(4));
        match dice.below(10) {
            0..=2 => self.store("set", key, value(dice)),
            3 => self.store("append", key, value(dice)),
            4..=7 => self.get(&(0..count).map(|more| (key + more) % 6).collect::<Vec<_>>()),
            8 => {
                self.request(format!("delete {}\r\n", self.name(key)).as_bytes());
                let answer = match self.items.remove(&key) {
                    Some(_) => "DELETED\r\n",
                    None => "NOT_FOUND\r\n",
                };
                self.expected.extend(answer.bytes());
            }
            _ => {
                self.request(b"incr all 1 noreply\r\n");
                self.increments += 1;
            }
        }
    }

    fn store(&mut self, command: &str, key: usize, value: Vec<u8>) {
        let line = format!("{command} {} 0 0 {}\r\n", self.name(key), value.len());
        self.request(&[line.as_bytes(), &value, b"\r\n"].concat());
        let item = match (command, self.items.get_mut(&key)) {
            ("append", Some(item)) => {
                item.extend(value);
                true
            }
            ("append", None) => false,
            _ => {
                self.items.insert(key, value);
                true
            }
        };
        let answer = if item { "STORED\r\n" } else { "NOT_STORED\r\n" };
        self.expected.extend(answer.bytes());
    }

    fn get(&mut self, keys: &[usize]) {
        let names: Vec<String> = keys.iter().map(|&key| self.name(key)).collect();
        self.request(format!("get {}\r\n", names.join(" ")).as_bytes());
        for (key, name) in keys.iter().zip(&names) {
            if let Some(value) = self.items.get(key) {
                let line = format!("VALUE {name} 0 {}\r\n", value.len());
                self.expected
                    .extend([line.as_bytes(), value, b"\r\n"].concat());
            }
        }
        self.expected.extend(b"END\r\n");
    }

    fn request(&mut self, bytes: &[u8]) {
        self.requests.extend_from_slice(bytes);
    }

    fn name(&self, key: usize) -> String {
        format!("client{}-{key}", self.number)
    }

    /// Says some more, wherever that ends.
    fn say(&mut self, kernel: &mut FakeKernel, peer: PeerId, dice: &mut Dice) {
        let most = if dice.once_in(3) { 20_000 } else { 40 };
        let end = self.requests.len().min(self.said + 1 + dice.below(most));
        kernel.peer(peer).send_bytes(&self.requests[self.said..end]);
        let most = if dice.once_in(2) { 50_000 } else { 500 };
        kernel.peer(peer).ack_bytes = 1 + dice.below(most);
        self.said = end;
    }

    fn is_answered(&self, kernel: &mut FakeKernel, peer: PeerId) -> bool {
        self.said == self.requests.len()
            && kernel.peer(peer).received().len() >= self.expected.len()
    }
}

fn value(dice: &mut Dice) -> Vec<u8> {
    let length = match dice.below(10) {
        0 => dice.below(30_000),
        _ => dice.below(300),
    };
    let first = dice.below(256);
    (0..length).map(|at| (first + at * 7) as u8).collect()
}

/// All threads, by turns.
struct Threads(Vec<Runtime<Service, FakeKernel>>, &'static Once<Server>);

impl Threads {
    fn start() -> Self {
        let (settings, server) = (Settings::default(), Box::leak(Box::new(Once::new())));
        let start = |kernel| Runtime::new(Service::new(settings.clone(), server), kernel);
        let kernels = FakeKernel::crew(THREADS).into_iter();
        let mut threads = Self(kernels.map(start).collect(), server);
        threads.round();
        threads
    }

    fn round(&mut self) {
        self.0.iter_mut().for_each(Runtime::round);
    }

    fn kernel(&mut self, thread: usize) -> &mut FakeKernel {
        self.0[thread].kernel()
    }

    /// Where connections are, by handle. Those under way are nowhere.
    fn places(&mut self) -> BTreeMap<u64, (usize, PeerId)> {
        let mut places = BTreeMap::new();
        for thread in 0..THREADS {
            let kernel = self.kernel(thread);
            for peer in kernel.peers().collect::<Vec<_>>() {
                places.insert(kernel.peer(peer).handle(), (thread, peer));
            }
        }
        places
    }
}

#[test]
fn every_answer_comes_once_and_in_order_wherever_connections_go() {
    without_background_processor(|| {
        for seed in 1..=4 {
            story(seed);
        }
    });
}

fn story(seed: u64) {
    let (mut threads, mut dice) = (Threads::start(), Dice(seed));
    let mut clients = BTreeMap::new();
    for number in 0..CLIENTS {
        let kernel = threads.kernel(number % THREADS);
        let peer = kernel.knock(PORT);
        let handle = kernel.peer(peer).handle();
        clients.insert(handle, Client::new(number, &mut dice));
    }
    let counter = threads.kernel(0).knock(PORT);
    threads.round();
    threads
        .kernel(0)
        .peer(counter)
        .send_bytes(b"set all 0 0 1\r\n0\r\n");
    threads.round();

    let (mut moves, mut left) = (0, CLIENTS);
    for round in 0.. {
        assert!(round < 100_000, "seed {seed}: {left} clients still wait");
        // Now and then a thread is taken away: everything leaves it.
        let emptied = dice.once_in(20).then(|| dice.below(THREADS));
        // Who is under way still waits, too.
        left = CLIENTS;
        for (handle, (thread, peer)) in threads.places() {
            let Some(client) = clients.get_mut(&handle) else {
                continue;
            };
            let kernel = threads.kernel(thread);
            if client.is_answered(kernel, peer) {
                left -= 1;
                continue;
            }
            client.say(kernel, peer, &mut dice);
            if dice.once_in(8) || emptied == Some(thread) {
                kernel.give(peer, (thread + 1 + dice.below(THREADS - 1)) % THREADS);
                moves += 1;
            }
        }
        threads.round();
        if left == 0 {
            break;
        }
    }
    assert!(moves > 100, "seed {seed}: {moves} moves");
    for (handle, (thread, peer)) in threads.places() {
        if let Some(client) = clients.get(&handle) {
            let received = threads.kernel(thread).peer(peer).received();
            let same = received.iter().zip(&client.expected);
            let same = same.take_while(|(one, other)| one == other).count();
            let rest = |bytes: &[u8]| {
                let part = &bytes[same.saturating_sub(100)..bytes.len().min(same + 100)];
                part.escape_ascii().to_string()
            };
            assert!(
                received == client.expected,
                "seed {seed}, client {}: {}\ninstead of {}",
                client.number,
                rest(received),
                rest(&client.expected)
            );
        }
    }
    let increments: usize = clients.values().map(|client| client.increments).sum();
    check_end(&mut threads, counter, increments);
}

/// The counter has counted, and what is deleted leaves nothing.
fn check_end(threads: &mut Threads, counter: PeerId, increments: usize) {
    let kernel = threads.kernel(0);
    kernel.peer(counter).forget_received();
    kernel.peer(counter).send_bytes(b"get all\r\n");
    (0..3).for_each(|_| threads.round());
    let answer = threads.kernel(0).peer(counter).received().to_vec();
    let length = increments.to_string().len();
    let expected = format!("VALUE all 0 {length}\r\n{increments}\r\nEND\r\n");
    assert_eq!(String::from_utf8_lossy(&answer), expected);

    for (thread, peer) in threads.places().into_values() {
        let kernel = threads.kernel(thread);
        kernel.peer(peer).ack_bytes = usize::MAX;
        kernel.peer(peer).finish();
    }
    (0..50).for_each(|_| threads.round());
    for thread in 0..THREADS {
        assert_eq!(threads.kernel(thread).open_handles(), 0, "thread {thread}");
        assert_eq!(threads.kernel(thread).refused_calls(), []);
    }
    let server = threads.1.get().expect("it has started");
    let used = || {
        server
            .store
            .classes()
            .map(|(_, class)| class.used)
            .sum::<usize>()
    };
    assert!(used() > 0);
    let later = 1000;
    server.store.flush(later, later);
    for stripe in 0..server.store.stripes() {
        server.store.sweep(stripe, later);
    }
    assert_eq!(used(), 0, "chunks that nobody gives back");
}
