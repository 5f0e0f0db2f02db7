//! An engine against smoltcp's sockets: a peer that shares no code with it.

mod smoltcp_device;
mod support;

use core::net::{IpAddr, Ipv4Addr};
use ix_hal::Instant;
use ix_net::Endpoint;
use ix_net::testing::{EngineStation, Faults, Network, Random, Role, Script, Station, stream_byte};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp_device::{Queues, clock, interface};
use support::{START, check_that_all_came_back, config, some_faults, station};

/// A smoltcp host at 10.0.0.9 and fd00::9 with one connection that sends and verifies a stream.
struct Peer {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    send: u64,
    expect: u64,
    sent: u64,
    received: u64,
    closes_first: bool,
    was_open: bool,
    next: Option<Instant>,
}

impl Peer {
    fn new(seed: u64, buffer: usize, mtu: usize, has_timestamps: bool) -> Self {
        let mut device = Queues::new(mtu);
        let interface = interface(&mut device, seed);
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; buffer]),
            SocketBuffer::new(vec![0; buffer]),
        );
        // smoltcp 0.14 can forget to repeat a lost FIN (duplicate acknowledgements put its timer to
        // idle). Then it resets the connection after this time, with all data through.
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(300)));
        if has_timestamps {
            socket.set_tsval_generator(Some(|| 77));
        }
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        Self {
            interface,
            device,
            sockets,
            handle,
            send: 0,
            expect: 0,
            sent: 0,
            received: 0,
            closes_first: false,
            was_open: false,
            next: None,
        }
    }

    fn work(&mut self) {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        self.was_open |= socket.may_send();
        while socket.can_recv() {
            let received = &mut self.received;
            let taken = socket.recv(|bytes| {
                for byte in bytes.iter() {
                    assert_eq!(*byte, stream_byte(*received), "wrong byte at {received}");
                    *received += 1;
                }
                (bytes.len(), bytes.len())
            });
            assert_ne!(taken, Ok(0));
        }
        while socket.can_send() && self.sent < self.send {
            let (sent, send) = (self.sent, self.send);
            let count = socket.send(|room| {
                let count = room.len().min((send - sent) as usize);
                for (position, byte) in room[..count].iter_mut().enumerate() {
                    *byte = stream_byte(sent + position as u64);
                }
                (count, count)
            });
            self.sent += count.expect("send") as u64;
        }
        let is_through = self.was_open && self.sent == self.send && self.received == self.expect;
        let is_asked = self.closes_first || !socket.may_recv();
        if is_through && is_asked && socket.may_send() {
            socket.close();
        }
    }
}

impl Station for Peer {
    fn receive(&mut self, _now: Instant, frame: &[u8]) {
        self.device.received.push_back(frame.to_vec());
    }

    fn turn(&mut self, now: Instant) {
        self.interface
            .poll(clock(now), &mut self.device, &mut self.sockets);
        self.work();
        self.interface
            .poll(clock(now), &mut self.device, &mut self.sockets);
        let delay = self.interface.poll_delay(clock(now), &self.sockets);
        self.next = delay.map(|delay| Instant(now.0 + delay.total_micros() * 1000));
    }

    fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.device.sent.pop_front()
    }

    fn deadline(&self, _now: Instant) -> Option<Instant> {
        self.next
    }

    fn progress(&self) -> u64 {
        self.sent + self.received
    }

    fn is_done(&self) -> bool {
        let state = self.sockets.get::<Socket>(self.handle).state();
        self.was_open && matches!(state, State::Closed | State::TimeWait)
    }

    fn describe(&self) -> String {
        let state = self.sockets.get::<Socket>(self.handle).state();
        format!(
            "smoltcp {state:?}: sent {} of {}, received {} of {}\n",
            self.sent, self.send, self.received, self.expect
        )
    }
}

/// What engine and peer exchange.
struct Exchange {
    seed: u64,
    faults: Faults,
    /// Bytes from the engine to the peer, and back.
    there: u64,
    back: u64,
    engine_connects: bool,
    engine_closes_first: bool,
    is_ipv6: bool,
    buffer: usize,
    mtu: usize,
}

impl Exchange {
    /// The address of a host in the family of this exchange.
    fn address(&self, last: u8) -> IpAddr {
        match self.is_ipv6 {
            false => Ipv4Addr::new(10, 0, 0, last).into(),
            true => support::ipv6(last).into(),
        }
    }

    fn run(&self) {
        let script = Script {
            send: self.there,
            expect: self.back,
            write: 7000,
            lazy: 100,
            role: match self.engine_closes_first {
                true => Role::ShutsDown,
                false => Role::Follows,
            },
        };
        let engine = station(config(1), script.clone(), self.seed);
        let mut peer = Peer::new(
            self.seed,
            self.buffer,
            self.mtu,
            self.seed.is_multiple_of(2),
        );
        (peer.send, peer.expect) = (self.back, self.there);
        peer.closes_first = !self.engine_closes_first;
        let mut network = Network::new(engine, peer, &self.faults, self.seed, START);
        let EngineStation { host, app } = &mut network.first;
        let peer = &mut network.second;
        let socket = peer.sockets.get_mut::<Socket>(peer.handle);
        if self.engine_connects {
            socket.listen(80).unwrap();
            let remote = Endpoint {
                address: match self.address(9) {
                    IpAddr::V4(address) => address.into(),
                    IpAddr::V6(address) => address.into(),
                },
                port: 80,
            };
            app.connect(host, remote, script).unwrap();
        } else {
            host.engine.listen(80).unwrap();
            let remote = (self.address(1), 80);
            socket
                .connect(peer.interface.context(), remote, 40_000)
                .unwrap();
            app.expect_connections(1);
        }
        if let Err(description) = network.run(3_600_000_000_000) {
            panic!("seed {}: stuck {description}", self.seed);
        }
        let (app, host) = (&network.first.app, &network.first.host);
        assert_eq!(
            (app.connected, app.verified),
            (1, self.back),
            "{}",
            network.describe()
        );
        assert_eq!(network.second.received, self.there);
        check_that_all_came_back(host);
    }
}

#[test]
fn smoltcp_exchanges_streams_over_a_perfect_wire() {
    for pick in 0..32 {
        Exchange {
            seed: pick,
            faults: Faults {
                delay: 100_000,
                ..Faults::default()
            },
            there: 200_000,
            back: 150_000,
            engine_connects: pick & 1 != 0,
            engine_closes_first: pick & 2 != 0,
            is_ipv6: pick & 16 != 0,
            buffer: if pick & 4 != 0 { 64 << 10 } else { 3000 },
            mtu: match (pick & 8, pick & 16) {
                (0, 0) => 590,
                (0, _) => 1294,
                _ => 1514,
            },
        }
        .run();
    }
}

#[test]
fn smoltcp_exchanges_streams_over_a_faulty_wire() {
    for seed in 0..support::seeds(120) {
        let mut random = Random::new(seed);
        let is_ipv6 = seed % 3 == 0;
        let least_mtu = if is_ipv6 { 1294 } else { 590 };
        Exchange {
            seed,
            faults: some_faults(&mut random),
            there: random.below(60_000),
            back: random.below(60_000),
            engine_connects: random.chance(500),
            engine_closes_first: random.chance(500),
            buffer: 500 + random.below(60_000) as usize,
            is_ipv6,
            mtu: least_mtu + random.below(1515 - least_mtu as u64) as usize,
        }
        .run();
    }
}
