//! The segments that open and close a connection are predicted if they look as usual. What becomes
//! of them must be the same by the full processing: two engines get the same segments and calls, one
//! of them with options in an order that is not predicted.

use core::net::Ipv4Addr;
use ix_abi::Handle;
use ix_hal::{Fragment, Instant, RxChecksum};
use ix_net::testing::{APP_BUS, Host, Random};
use ix_net::{Config, Counters, Event};
use std::collections::BTreeMap;

const LOCAL: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 9];
const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ISS: u32 = 1000;
const SYN: u8 = 2;

fn host() -> Host {
    let config = Config {
        mac: LOCAL_MAC,
        ipv4: Ipv4Addr::from(LOCAL),
        connections: 4,
        time_wait: 4,
        mbufs: 64,
        ..Config::default()
    };
    let mut host = Host::new(config, Instant(1 << 40), 4096);
    host.engine.listen(80).expect("a port");
    let mut arp = [[0xff; 6], PEER_MAC].concat();
    arp.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend_from_slice(&PEER_MAC);
    arp.extend_from_slice(&PEER);
    arp.extend_from_slice(&[0; 6]);
    arp.extend_from_slice(&LOCAL);
    host.receive(&arp);
    host.turn();
    host.wire.sent.clear();
    host
}

/// The peer's side of what both engines are told.
struct Peer {
    next: u32,
    ack: u32,
    clock: u32,
    window: u16,
    /// With SACK a FIN expects a probe. Data does so by the full processing only, so that there is
    /// either SACK or data.
    has_sack: bool,
}

impl Peer {
    fn frame(&self, seq: u32, control: u8, payload: usize, is_usual: bool) -> Vec<u8> {
        let timestamps = [&[8, 10], &self.clock.to_be_bytes()[..], &[0; 4]].concat();
        let options = match (control & SYN, is_usual) {
            (0, true) => [&[1, 1], &timestamps[..]].concat(),
            (0, false) => [&timestamps[..], &[1, 1]].concat(),
            _ if self.has_sack => [&[2, 4, 5, 180, 4, 2], &timestamps[..], &[1, 3, 3, 2]].concat(),
            _ => [&[2, 4, 5, 180, 1, 1], &timestamps[..], &[1, 3, 3, 2]].concat(),
        };
        let total = 40 + options.len() + payload;
        let mut frame = [LOCAL_MAC, PEER_MAC].concat();
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&(total as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend_from_slice(&PEER);
        frame.extend_from_slice(&LOCAL);
        frame.extend_from_slice(&[0x9c, 0x40, 0, 80]);
        frame.extend_from_slice(&seq.to_be_bytes());
        frame.extend_from_slice(&self.ack.to_be_bytes());
        frame.extend_from_slice(&[(5 + options.len() as u8 / 4) << 4, control]);
        frame.extend_from_slice(&self.window.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&options);
        frame.resize(14 + total, 0x55);
        frame
    }

    /// Takes note of what a segment from the engine says.
    fn hear(&mut self, frame: &[u8]) {
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("a word"));
        let headers = 34 + usize::from(frame[46] >> 4) * 4;
        let len =
            frame.len() - headers + usize::from(frame[47] & 1) + usize::from(frame[47] >> 1 & 1);
        self.ack = self.ack.max(word(38).wrapping_add(len as u32));
    }
}

/// Counters but for those that say that a segment was predicted.
fn comparable(host: &Host) -> Counters {
    Counters {
        tcp_header_prediction: 0,
        tcp_pure_acks: 0,
        ..host.engine.counters().clone()
    }
}

fn call(host: &mut Host, handle: Handle, pick: u64) {
    host.with(|engine, cx| {
        let piece = Fragment {
            bus: APP_BUS,
            len: 100,
        };
        // That a call does not fit the state is as good as any other outcome.
        let _ = match pick {
            0..=3 => engine.accept(cx, handle, 7),
            4 => engine.close(cx, handle),
            5 => engine.shutdown(cx, handle),
            6 => engine.send(cx, handle, &[piece]).map(drop),
            _ => engine.recv_done(cx, handle, 10),
        };
    });
}

/// One conversation; returns the engine's counters.
fn converse(seed: u64) -> Counters {
    let mut random = Random::new(seed);
    let mut hosts = [host(), host()];
    let mut peer = Peer {
        next: ISS,
        ack: 0,
        clock: 1,
        window: 1000,
        has_sack: seed & 1 != 0,
    };
    let mut handle = Handle(0);
    for step in 0..20 {
        let shift = 10 + random.below(20);
        let pause = random.below(1 << shift);
        peer.clock += random.below(3) as u32;
        peer.window = 1000 * random.below(3) as u16;
        let pick = random.below(16);
        let (control, payload) = match pick {
            _ if step == 0 => (SYN, 0),
            0..=4 => (0x10, 0),
            5..=6 => (0x11, 0),
            7 if !peer.has_sack => (0x18, 10),
            7 | 14 if peer.has_sack => (0x10, 0),
            _ => (0, 0),
        };
        // What was acknowledged last, or a little more or less.
        let stray = if random.chance(100) { 1 } else { 0 };
        let (seq, ack) = (peer.next.wrapping_sub(stray), peer.ack);
        peer.ack = ack.wrapping_sub(if random.chance(100) { 1 } else { 0 });
        for (host, is_usual) in hosts.iter_mut().zip([true, false]) {
            host.now.0 += pause;
            if control != 0 {
                let frame = peer.frame(seq, control, payload, is_usual);
                host.receive_as(&frame, RxChecksum::Good);
            } else {
                call(host, handle, pick - 8);
            }
            host.turn();
        }
        peer.ack = ack;
        if control != 0 {
            peer.next += payload as u32 + u32::from(control & 1) + u32::from(control == SYN);
        }
        let [usual, other] = &mut hosts;
        assert_eq!(usual.wire.sent, other.wire.sent, "seed {seed} step {step}");
        assert_eq!(
            usual.queue.events, other.queue.events,
            "seed {seed} step {step}"
        );
        let counters = comparable(usual);
        for (one, two) in counters.iter().zip(comparable(other).iter()) {
            assert_eq!(one, two, "seed {seed} step {step}");
        }
        for event in &usual.queue.events {
            if let Event::Knock { handle: named, .. } = event {
                handle = *named;
            }
        }
        for frame in usual.wire.sent.drain(..) {
            peer.hear(&frame);
        }
        other.wire.sent.clear();
        hosts.iter_mut().for_each(|host| host.queue.events.clear());
    }
    comparable(&hosts[0])
}

#[test]
fn predicted_ends_are_those_of_the_full_processing() {
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..2000 {
        for (name, value) in converse(seed).iter() {
            *totals.entry(name).or_default() += value;
        }
    }
    // It came to all that is compared.
    for name in ["TcpPassiveOpens", "TcpExtTW"] {
        let count = totals.iter().find(|(full, _)| **full == name);
        assert!(
            count.is_some_and(|(_, &count)| count > 100),
            "{name}: {count:?}"
        );
    }
}
