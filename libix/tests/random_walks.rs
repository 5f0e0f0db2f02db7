//! Random histories of connections against the fake kernel. Whatever peers and application do:
//! bytes arrive in order and unchanged, memory is kept as long as somebody reads it and no longer,
//! every state comes back once, and in the end nothing is left.

use std::collections::HashMap;
use std::sync::Arc;

use libix::fake::{FakeKernel, PeerId};
use libix::{
    CloseReason, Connection, ConnectionId, Context, Error, Knock, Payload, Received, Runtime,
    Service,
};

const EXHAUSTED: Result<i64, Error> = Err(Error::Exhausted);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = 1 + self.below(most);
        (0..count).map(|_| self.roll() as u8).collect()
    }
}

/// What the application knows of a connection.
#[derive(Default)]
struct Story {
    received: Vec<u8>,
    sent: Vec<u8>,
    closed: usize,
    is_closing: bool,
}

/// Holds everything that it receives, each with a copy.
struct Hoarder {
    held: Vec<(ConnectionId, Received, Vec<u8>)>,
    stories: HashMap<ConnectionId, Story>,
    /// In the order in which the peers were accepted, which is that of their knocks.
    accepted: Vec<ConnectionId>,
    /// One for each state that is out.
    token: Arc<()>,
}

impl Service for Hoarder {
    type State = Arc<()>;

    fn on_start(&mut self, cx: &mut Context<Self::State>) {
        cx.listen(7);
        cx.set_send_limit(3000);
    }

    fn on_knock(&mut self, _: &mut Context<Self::State>, _: &Knock) -> Option<Self::State> {
        Some(Arc::clone(&self.token))
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, Self::State>) {
        let id = connection.id();
        assert!(self.stories.insert(id, Story::default()).is_none());
        self.accepted.push(id);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Self::State>, data: Received) {
        let id = connection.id();
        let story = self
            .stories
            .get_mut(&id)
            .expect("data comes after connected");
        assert!(!story.is_closing && story.closed == 0);
        story.received.extend_from_slice(&data);
        let copy = data.to_vec();
        self.held.push((id, data, copy));
    }

    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, Self::State>) {
        assert!(!self.stories[&connection.id()].is_closing);
    }

    fn on_close(
        &mut self,
        _: &mut Context<Self::State>,
        id: ConnectionId,
        _: Self::State,
        _: CloseReason,
    ) {
        if let Some(story) = self.stories.get_mut(&id) {
            story.closed += 1;
        }
    }
}

struct Walk {
    dice: Dice,
    runtime: Runtime<Hoarder, FakeKernel>,
    peers: Vec<PeerId>,
    /// What each peer has sent.
    peer_sent: Vec<Vec<u8>>,
    peer_finished: Vec<bool>,
    /// Memory that was sent, to see that it is freed.
    shared: Vec<Arc<[u8]>>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let hoarder = Hoarder {
            held: Vec::new(),
            stories: HashMap::new(),
            accepted: Vec::new(),
            token: Arc::new(()),
        };
        let mut runtime = Runtime::new(hoarder, FakeKernel::new());
        runtime.settle();
        Self {
            dice: Dice(seed),
            runtime,
            peers: Vec::new(),
            peer_sent: Vec::new(),
            peer_finished: Vec::new(),
            shared: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(16) {
            0 if self.peers.len() < 6 => self.knock(),
            1..=3 => self.peer_acts(),
            4..=6 => self.application_sends(),
            7 => self.application_ends(),
            8 | 9 => self.application_uses_held(),
            10 => self.conditions_change(),
            _ => self.runtime.round(),
        }
        self.check();
    }

    fn knock(&mut self) {
        // One at a time, so that peers and connections come in the same order.
        self.runtime.kernel().handshake_rounds = self.dice.below(3);
        let peer = self.runtime.kernel().knock(7);
        self.peers.push(peer);
        self.peer_sent.push(Vec::new());
        self.peer_finished.push(false);
        while self.runtime.service().accepted.len() < self.peers.len() {
            self.runtime.round();
        }
    }

    fn peer_acts(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let number = self.dice.below(self.peers.len());
        let peer = self.runtime.kernel().peer(self.peers[number]);
        match self.dice.below(24) {
            0 => peer.reset(),
            1 => {
                peer.finish();
                self.peer_finished[number] = true;
            }
            2..=5 => peer.ack_bytes = self.dice.one_of(&[0, 1, 100, 5000, usize::MAX]),
            _ if !self.peer_finished[number] => {
                let bytes = self.dice.bytes(4000);
                peer.send_bytes(&bytes);
                self.peer_sent[number].extend(bytes);
            }
            _ => {}
        }
    }

    fn any_connection(&mut self) -> Option<ConnectionId> {
        let accepted = &self.runtime.service().accepted;
        (!accepted.is_empty()).then(|| accepted[self.dice.below(accepted.len())])
    }

    fn application_sends(&mut self) {
        let Some(id) = self.any_connection() else {
            return;
        };
        let bytes = self.dice.bytes(3000);
        let payload: Payload = match self.dice.below(3) {
            0 => bytes.clone().into(),
            1 => bytes.clone().into_boxed_slice().into(),
            _ => {
                let shared: Arc<[u8]> = bytes.clone().into();
                self.shared.push(Arc::clone(&shared));
                shared.into()
            }
        };
        self.send(id, payload, &bytes);
    }

    fn send(&mut self, id: ConnectionId, payload: Payload, bytes: &[u8]) {
        let is_taken = self.runtime.context().send(id, payload).is_ok();
        let story = self
            .runtime
            .service()
            .stories
            .get_mut(&id)
            .expect("accepted");
        if is_taken {
            assert!(!story.is_closing && story.closed == 0);
            story.sent.extend_from_slice(bytes);
        }
    }

    fn application_ends(&mut self) {
        let Some(id) = self.any_connection() else {
            return;
        };
        let kind = self.dice.below(4);
        match kind {
            0 => self.runtime.context().shutdown(id),
            1 => self.runtime.context().abort(id),
            _ => self.runtime.context().close(id),
        }
        let story = self
            .runtime
            .service()
            .stories
            .get_mut(&id)
            .expect("accepted");
        story.is_closing |= kind != 0;
    }

    fn application_uses_held(&mut self) {
        if self.runtime.service().held.is_empty() {
            return;
        }
        let number = self.dice.below(self.runtime.service().held.len());
        match self.dice.below(4) {
            // Parts and clones live on in place of the whole.
            0 => {
                let (id, data, copy) = &self.runtime.service().held[number];
                let at = self.dice.below(copy.len());
                let part = (*id, data.slice(at..), copy[at..].to_vec());
                self.runtime.service().held.push(part);
            }
            1 => drop(self.runtime.service().held.swap_remove(number)),
            // Back to where it came from, or to another connection.
            kind => {
                let (from, data, copy) = self.runtime.service().held.swap_remove(number);
                let to = match kind {
                    2 => Some(from),
                    _ => self.any_connection(),
                };
                if let Some(to) = to {
                    self.send(to, data.into(), &copy);
                }
            }
        }
    }

    fn conditions_change(&mut self) {
        let kernel = self.runtime.kernel();
        match self.dice.below(5) {
            4 => kernel.sendv_result = self.dice.one_of(&[None, Some(Ok(0)), Some(EXHAUSTED)]),
            0 => kernel.send_window = self.dice.one_of(&[1, 50, 1460, 100_000]),
            1 => kernel.receive_window = self.dice.one_of(&[1, 1000, 20_000]),
            2 => kernel.segment_bytes = self.dice.one_of(&[1, 100, 1460]),
            _ => kernel.event_batch = self.dice.one_of(&[1, 3, 256]),
        }
    }

    fn check(&mut self) {
        for (_, data, copy) in &self.runtime.service().held {
            assert!(**data == copy[..], "bytes that are held have changed");
        }
        for (number, &peer) in self.peers.iter().enumerate() {
            let id = self.runtime.service().accepted[number];
            let story = &self.runtime.service().stories[&id];
            assert!(self.peer_sent[number].starts_with(&story.received));
            assert!(story.closed <= 1);
            let sent = story.sent.clone();
            assert!(sent.starts_with(self.runtime.kernel().peer(peer).received()));
        }
    }

    /// Everybody finishes in order.
    fn finish(mut self) {
        let kernel = self.runtime.kernel();
        kernel.sendv_result = None;
        kernel.send_window = 100_000;
        kernel.receive_window = usize::MAX;
        kernel.segment_bytes = 1460;
        kernel.event_batch = 256;
        for &peer in &self.peers {
            let peer = self.runtime.kernel().peer(peer);
            peer.ack_bytes = usize::MAX;
            peer.finish();
        }
        self.runtime.settle();
        self.check();
        for id in self.runtime.service().accepted.clone() {
            self.runtime.context().close(id);
        }
        self.runtime.settle();
        self.check();
        self.runtime.service().held.clear();
        self.runtime.settle();

        for (number, &peer) in self.peers.iter().enumerate() {
            let id = self.runtime.service().accepted[number];
            let story = &self.runtime.service().stories[&id];
            assert_eq!(story.closed, 1, "each connection ends once");
            let sent = story.sent.len();
            let peer = self.runtime.kernel().peer(peer);
            assert!(peer.is_over());
            if peer.got_end() && !peer.was_reset() {
                assert_eq!(
                    peer.received().len(),
                    sent,
                    "an orderly end is after the last byte"
                );
            }
        }
        assert_eq!(self.runtime.kernel().open_handles(), 0);
        assert_eq!(self.runtime.context().connections(), 0);
        assert_eq!(Arc::strong_count(&self.runtime.service().token), 1);
        for shared in &self.shared {
            assert_eq!(Arc::strong_count(shared), 1, "memory is freed");
        }
    }
}

#[test]
fn nothing_is_lost_changed_or_left() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut walk = Walk::new(seed);
        for _ in 0..250 {
            walk.step();
        }
        walk.finish();
    }
}
