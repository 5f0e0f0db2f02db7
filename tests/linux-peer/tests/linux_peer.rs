//! The engine against Linux's TCP on a TAP: see `ix_linux_peer`.
//!
//! `IX_PEER_MIB` says how much the bulk transfers carry in each direction.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ix_abi::{DeadReason, Handle};
use ix_hal::Fragment;
use ix_linux_peer::stream::{self, Ends};
use ix_linux_peer::{Application, ENGINE, LINUX, Station, SynOptions, Wire, lossy, patch};
use ix_net::testing::{APP_BUS, App, Host, Role, Script};
use ix_net::{Endpoint, Event, IpAddress};
use socket2::{SockRef, TcpKeepalive};

const PORT: u16 = 7000;
const APP_BYTES: usize = 1 << 18;
const LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

fn bulk_bytes() -> u64 {
    let mib = std::env::var("IX_PEER_MIB").map_or(64, |text| {
        text.parse().expect("IX_PEER_MIB is a number of MiB")
    });
    mib * MIB
}

/// Long transfers get more time.
fn limit(bytes: u64) -> Duration {
    LIMIT + Duration::from_millis(bytes / 1000)
}

fn script(send: u64, expect: u64, role: Role) -> Script {
    Script {
        send,
        expect,
        write: 60_000,
        lazy: 0,
        role,
    }
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opens {
    Linux,
    Engine,
}

fn linux_connects() -> TcpStream {
    let address = SocketAddr::from((ENGINE, PORT));
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("Linux connects");
    set_options(&stream);
    stream
}

fn set_options(stream: &TcpStream) {
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    stream.set_read_timeout(Some(LIMIT)).expect("set a timeout");
    let result = stream.set_write_timeout(Some(LIMIT));
    result.expect("set a timeout");
}

fn linux_listens() -> TcpListener {
    TcpListener::bind((LINUX, PORT)).expect("Linux listens")
}

const LINUX_ENDPOINT: Endpoint = Endpoint {
    address: IpAddress::from_ipv4(LINUX.to_bits()),
    port: PORT,
};

/// Exchanges streams over one connection and expects it to end in order; returns how long it took.
fn exchange(station: &mut Station, opens: Opens, script: &Script, ends: Ends) -> Duration {
    let (send, expect) = (script.expect, script.send);
    let mut app = App::new(&mut station.host, script.clone(), 1);
    app.expect_connections(1);
    let linux = station.wire.linux();
    let listener = linux.inside(linux_listens);
    let start = Instant::now();
    match opens {
        Opens::Linux => station.host.engine.listen(PORT),
        Opens::Engine => app.connect(&mut station.host, LINUX_ENDPOINT, script.clone()),
    }
    .expect("open");
    thread::scope(|scope| {
        let linux = scope.spawn(move || {
            let stream = match opens {
                Opens::Linux => linux.inside(linux_connects),
                Opens::Engine => listener.accept().expect("Linux accepts").0,
            };
            set_options(&stream);
            stream::exchange(&stream, send, expect, ends);
        });
        station.run(&mut app, limit(send + expect), |app, _| app.is_idle());
        linux.join().expect("Linux's side ends well");
    });
    assert_eq!((app.verified, app.failed), (script.expect, 0));
    let closed = app.dead.get(&(DeadReason::Closed as u16));
    assert_eq!(closed, Some(&1), "{:?}", app.dead);
    assert_eq!(station.host.mbufs_out(), 0, "mbufs not returned");
    start.elapsed()
}

fn mib_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / MIB as f64 / time.as_secs_f64()
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn the_options_are_negotiated_whoever_opens() {
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::new(lossy(0.0), APP_BYTES);
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
        assert_eq!(
            station.host.engine.counters().tcp_retransmits,
            0,
            "{opens:?}"
        );
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn connections_close_in_each_order() {
    let mut station = Station::new(lossy(0.0), APP_BYTES);
    for opens in [Opens::Linux, Opens::Engine] {
        for (role, ends) in [
            (Role::Follows, Ends::First),
            (Role::ShutsDown, Ends::Second),
            (Role::Closes, Ends::Second),
            (Role::ShutsDown, Ends::First),
        ] {
            for bytes in [0, 1, 30_000] {
                exchange(&mut station, opens, &script(bytes, bytes, role), ends);
                let _ = station.host.engine.unlisten(PORT);
            }
        }
    }
    assert_eq!(station.from_linux.resets + station.from_engine.resets, 0);
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn bulk_data_arrives_intact_both_ways_at_once() {
    let bytes = bulk_bytes();
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::new(lossy(0.0), APP_BYTES);
        let script = script(bytes, bytes, Role::ShutsDown);
        let time = exchange(&mut station, opens, &script, Ends::First);
        println!(
            "{opens:?} opens, {} MiB each way: {:.0} MiB/s each way",
            bytes / MIB,
            mib_per_second(bytes, time)
        );
    }
}

/// Linux to Linux over two TAPs.
fn linux_to_linux(bytes: u64, loss: f64) -> Duration {
    let mut near = Wire::new(LINUX, lossy(loss));
    let mut far = Wire::new(ENGINE, lossy(0.0));
    let (near_linux, far_linux) = (near.linux(), far.linux());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| patch([&mut near.tap, &mut far.tap], &stop));
        let listener = far_linux.inside(|| TcpListener::bind((ENGINE, PORT)));
        let listener = listener.expect("Linux listens");
        let start = Instant::now();
        let receiver = scope.spawn(move || {
            let (stream, _) = listener.accept().expect("Linux accepts");
            stream::exchange(&stream, 0, bytes, Ends::Second);
        });
        let stream = near_linux.inside(linux_connects);
        stream::exchange(&stream, bytes, 0, Ends::First);
        receiver.join().expect("the receiver ends well");
        let time = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        time
    })
}

/// Prints goodput in both directions beside that of Linux to Linux.
fn compare_goodput(bytes: u64, loss: f64) {
    let linux = mib_per_second(bytes, linux_to_linux(bytes, loss));
    for (name, to_linux, to_engine) in
        [("engine to Linux", bytes, 0), ("Linux to engine", 0, bytes)]
    {
        let mut station = Station::new(lossy(loss), APP_BYTES);
        let (role, ends) = match to_linux {
            0 => (Role::Follows, Ends::First),
            _ => (Role::ShutsDown, Ends::Second),
        };
        let script = script(to_linux, to_engine, role);
        let time = exchange(&mut station, Opens::Linux, &script, ends);
        let goodput = mib_per_second(bytes, time);
        println!(
            "{name}, {:.0} % loss: {goodput:.1} MiB/s; Linux to Linux {linux:.1} MiB/s; ratio {:.2}",
            loss * 100.0,
            goodput / linux
        );
        if loss > 0.0 {
            let receiver = match to_linux {
                0 => &station.from_engine,
                _ => &station.from_linux,
            };
            assert!(
                receiver.with_sack > 0,
                "{name}: no SACK blocks: {receiver:?}"
            );
        }
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn goodput_without_loss() {
    compare_goodput(bulk_bytes(), 0.0);
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn goodput_with_one_percent_loss() {
    compare_goodput(bulk_bytes() / 4, 0.01);
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
    let mut station = Station::new(lossy(0.0), APP_BYTES);
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
    let mut station = Station::new(lossy(0.0), APP_BYTES);
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
