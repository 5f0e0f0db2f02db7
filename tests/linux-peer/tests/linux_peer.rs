//! The engine against Linux's TCP on a TAP: see `ix_linux_peer`.
//!
//! `IX_PEER_MIB` says how much the bulk transfers carry in each direction.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use ix_abi::{DeadReason, Handle};
use ix_hal::Fragment;
use ix_linux_peer::stream::{self, Ends};
use ix_linux_peer::transfer::{
    LIMIT, LINUX_ENDPOINT, Opens, PORT, bulk_bytes, close_in_each_order, exchange, goodput,
    linux_connects, script,
};
use ix_linux_peer::{Application, ENGINE, Path, Station, SynOptions};
use ix_net::Event;
use ix_net::testing::{APP_BUS, App, Host, Role};
use socket2::{SockRef, TcpKeepalive};

const MIB: u64 = 1 << 20;

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn the_options_are_negotiated_whoever_opens() {
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::new(Path::default());
        let script = script(100_000, 100_000, Role::Follows);
        exchange(&mut station, opens, &script, Ends::First);
        let expected = |syn: Option<SynOptions>| {
            let syn = syn.expect("a SYN was seen");
            assert_eq!(syn.mss, Some(1460), "{opens:?}");
            assert!(syn.sack_permitted && syn.timestamps, "{opens:?}: {syn:?}");
            syn.window_scale.expect("a window scale")
        };
        expected(station.from_linux.syn);
        // 256 KiB do not fit in 16 bits without it.
        assert!(expected(station.from_engine.syn) >= 3);
        for tally in [&station.from_linux, &station.from_engine] {
            assert_eq!(tally.with_timestamps, tally.segments, "{opens:?}");
            assert_eq!((tally.resets, tally.fins), (0, 1), "{opens:?}");
            assert_eq!(tally.longest, 1500, "{opens:?}");
        }
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn connections_close_in_each_order() {
    close_in_each_order(&mut Station::new(Path::default()));
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn bulk_data_arrives_intact_both_ways_at_once() {
    let bytes = bulk_bytes();
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::new(Path::default());
        let script = script(bytes, bytes, Role::ShutsDown);
        let time = exchange(&mut station, opens, &script, Ends::First);
        let counters = station.host.engine.counters();
        assert_ne!(counters.tcp_large_frames, 0, "{opens:?}: nothing to cut");
        println!(
            "{opens:?} opens, {} MiB each way: {:.0} MiB/s each way",
            bytes / MIB,
            goodput(bytes, time)
        );
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn large_frames_fill_the_window_that_was_offered_and_nothing_is_refused() {
    let config = ix_net::Config {
        mtu: 9000,
        ..ix_net::Config::default()
    };
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::with_config(Path::default(), config.clone());
        let mut script = script(16 * MIB, 16 * MIB, Role::ShutsDown);
        // Gives back late, so that the window is what holds Linux up.
        script.lazy = 900;
        exchange(&mut station, opens, &script, Ends::First);
        assert_eq!(station.from_linux.longest, 9000, "{opens:?}");
        assert_eq!(station.from_engine.longest, 9000, "{opens:?}");
        let counters = station.host.engine.counters();
        assert_eq!(counters.tcp_trimmed_bytes, 0, "{opens:?}");
    }
}

/// Keeps events for the test to look at, and accepts knocks.
#[derive(Default)]
struct Recorder {
    handle: Option<Handle>,
    received: u64,
    acked: u64,
    ends: u32,
    connected: Option<bool>,
    dead: Option<DeadReason>,
    /// Received bytes are kept until this is set.
    gives_back: bool,
    owed: u64,
}

impl Application for Recorder {
    fn turn(&mut self, host: &mut Host) {
        while let Some(event) = host.queue.events.pop_front() {
            if let Event::Dead { reason, .. } = event {
                self.dead = Some(reason);
            }
            match event {
                Event::Knock { handle, .. } => {
                    self.handle = Some(handle);
                    host.with(|engine, cx| engine.accept(cx, handle, 1))
                        .expect("accept");
                }
                Event::Connected { outcome, .. } => self.connected = Some(outcome.is_ok()),
                Event::Recv { len, .. } => {
                    self.received += u64::from(len);
                    self.owed += u64::from(len);
                }
                Event::EndOfStream { .. } => self.ends += 1,
                Event::Sent { bytes, .. } => self.acked += u64::from(bytes),
                _ => {}
            }
        }
        if self.gives_back && self.owed != 0 && self.dead.is_none() {
            let (handle, owed) = (self.handle(), self.owed);
            host.with(|engine, cx| engine.recv_done(cx, handle, owed))
                .expect("give back what came");
            self.owed = 0;
        }
    }
}

impl Recorder {
    fn handle(&self) -> Handle {
        self.handle.expect("a connection")
    }

    fn send(&self, host: &mut Host, at: u64, len: u32) -> u32 {
        let piece = Fragment {
            bus: APP_BUS + at,
            len,
        };
        host.with(|engine, cx| engine.send(cx, self.handle(), &[piece]))
            .expect("send")
    }
}

/// A connection from Linux to the engine, and the engine's view of it.
fn connected() -> (Station, Recorder, TcpStream) {
    let mut station = Station::new(Path::default());
    station.host.engine.listen(PORT).expect("listen");
    let mut app = Recorder {
        gives_back: true,
        ..Recorder::default()
    };
    let linux = station.wire.linux();
    let stream = thread::scope(|scope| {
        let stream = scope.spawn(move || linux.inside(linux_connects));
        station.run(&mut app, LIMIT, |app, _| app.connected.is_some());
        stream.join().expect("Linux connects")
    });
    (station, app, stream)
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn resets_are_understood_both_ways() {
    let (mut station, mut app, stream) = connected();
    let linger = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("set SO_LINGER");
    drop(stream);
    station.run(&mut app, LIMIT, |app, _| app.dead.is_some());
    assert_eq!(app.dead, Some(DeadReason::Reset));

    let (mut station, mut app, mut stream) = connected();
    let handle = app.handle();
    let aborted = station.host.with(|engine, cx| engine.abort(cx, handle));
    aborted.expect("abort");
    station.run(&mut app, LIMIT, |app, _| app.dead.is_some());
    let error = stream.read(&mut [0]).expect_err("the connection was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn closed_ports_refuse_both_ways() {
    let mut station = Station::new(Path::default());
    let mut app = Recorder::default();
    let linux = station.wire.linux();
    let error = thread::scope(|scope| {
        let refused =
            scope.spawn(move || linux.inside(|| TcpStream::connect((ENGINE, PORT)).map(drop)));
        station.run(&mut app, LIMIT, |_, _| refused.is_finished());
        refused.join().expect("no panic").expect_err("refused")
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    station
        .host
        .with(|engine, cx| engine.connect(cx, 1, LINUX_ENDPOINT))
        .expect("connect");
    station.run(&mut app, LIMIT, |app, _| app.dead.is_some());
    assert_eq!(
        (app.connected, app.dead),
        (Some(false), Some(DeadReason::Refused))
    );
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn a_peer_that_does_not_read_is_waited_for() {
    let (mut station, mut app, stream) = connected();
    App::new(&mut station.host, script(0, 0, Role::Follows), 1);
    // More than Linux ever takes for a reader that sleeps.
    let total = 32 * MIB;
    let mut sent = 0;
    let mut feed = |app: &Recorder, host: &mut Host| {
        while sent < total {
            let len = (total - sent).min(60_000) as u32;
            let accepted = app.send(host, sent % stream::PERIOD, len);
            sent += u64::from(accepted);
            if accepted == 0 {
                break;
            }
        }
        app.acked
    };
    let begin = Instant::now();
    station.run(&mut app, LIMIT, |app, host| {
        feed(app, host);
        begin.elapsed() > Duration::from_secs(3)
    });
    assert!(app.acked < total, "Linux took everything");
    assert!(
        station.from_linux.zero_windows > 0,
        "the window never closed"
    );
    thread::scope(|scope| {
        let reader = scope.spawn(|| stream::receive(&stream, total));
        station.run(&mut app, LIMIT, |app, host| feed(app, host) == total);
        reader.join().expect("Linux receives everything");
    });
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn an_application_that_gives_nothing_back_stops_linux() {
    let (mut station, mut app, stream) = connected();
    app.gives_back = false;
    let total = 32 * MIB;
    thread::scope(|scope| {
        let writer = scope.spawn(|| stream::send(&stream, total));
        station.run_for(&mut app, Duration::from_secs(3));
        let window = u64::from(ix_net::Config::default().rx_window);
        assert!(app.received <= window, "{} bytes came", app.received);
        assert!(
            station.from_engine.zero_windows > 0,
            "the window never closed"
        );
        app.gives_back = true;
        station.run(&mut app, LIMIT, |app, _| app.received == total);
        writer.join().expect("Linux sends everything");
    });
    assert_eq!(app.dead, None);
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn keepalive_probes_of_linux_are_answered() {
    let (mut station, mut app, mut stream) = connected();
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(1))
        .with_interval(Duration::from_secs(1))
        .with_retries(2);
    let set = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    set.expect("set the keepalive");
    station.run_for(&mut app, Duration::from_millis(500));
    let before = (station.from_linux.segments, station.from_engine.segments);
    station.run_for(&mut app, Duration::from_secs(5));
    let probes = station.from_linux.segments - before.0;
    assert!((3..=6).contains(&probes), "{probes} probes in 5 s");
    assert_eq!(station.from_engine.segments - before.1, probes);
    stream.write_all(b"still there").expect("Linux sends");
    station.run(&mut app, LIMIT, |app, _| app.received == 11);
    assert_eq!((app.dead, app.ends), (None, 0));
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn delayed_acknowledgements_of_linux_are_waited_for() {
    let (mut station, mut app, stream) = connected();
    App::new(&mut station.host, script(0, 0, Role::Follows), 1);
    let total = 60 * 100;
    let begin = Instant::now();
    // Nobody reads or answers, and no second segment calls for an acknowledgement.
    for sent in (0..total).step_by(100) {
        assert_eq!(app.send(&mut station.host, sent, 100), 100);
        station.run(&mut app, LIMIT, |app, _| app.acked == sent + 100);
    }
    let counters = station.host.engine.counters();
    // After the first ones, which Linux answers at once, each takes it 40 ms.
    let time = begin.elapsed();
    assert!(time > Duration::from_secs(1), "no delays: {time:?}");
    let sent_again = (counters.tcp_retransmits, counters.tcp_loss_probes);
    assert_eq!(sent_again, (0, 0), "after {time:?}");
    stream::receive(&stream, total);
}
