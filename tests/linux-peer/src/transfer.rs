//! Whole transfers of known streams: between Linux and an engine, and between two Linux hosts.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ix_abi::DeadReason;
use ix_net::testing::{App, Role, Script};
use ix_net::{Endpoint, IpAddress};
use socket2::{Domain, Socket, Type};

use super::stream::{self, Ends};
use super::{ENGINE, LINUX, Path, Station, Wire, patch};

/// The port that is listened on.
pub const PORT: u16 = 7000;
/// How long anything but a long transfer may take.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Where Linux listens.
pub const LINUX_ENDPOINT: Endpoint = Endpoint {
    address: IpAddress::from_ipv4(LINUX.to_bits()),
    port: PORT,
};

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// Linux, and the engine listens.
    Linux,
    /// The engine, and Linux listens.
    Engine,
}

/// What the engine's application does in a transfer.
pub fn script(send: u64, expect: u64, role: Role) -> Script {
    Script {
        send,
        expect,
        write: 60_000,
        lazy: 0,
        role,
    }
}

/// Has either side open connections, and either side close first, or both at once, without a reset.
pub fn close_in_each_order(station: &mut Station) {
    for opens in [Opens::Linux, Opens::Engine] {
        for (role, ends) in [
            (Role::Follows, Ends::First),
            (Role::ShutsDown, Ends::Second),
            (Role::Closes, Ends::Second),
            (Role::ShutsDown, Ends::First),
        ] {
            for bytes in [0, 1, 30_000] {
                exchange(station, opens, &script(bytes, bytes, role), ends);
                let _ = station.host.engine.unlisten(PORT);
            }
        }
    }
    assert_eq!(station.from_linux.resets + station.from_engine.resets, 0);
}

/// Exchanges streams over one connection and expects it to end in order; returns how long it took.
pub fn exchange(station: &mut Station, opens: Opens, script: &Script, ends: Ends) -> Duration {
    let (send, expect) = (script.expect, script.send);
    let mut app = App::new(&mut station.host, script.clone(), 1);
    app.expect_connections(1);
    let linux = station.wire.linux();
    let [own, peer] = [station.linux(), station.engine()];
    let listener = linux.inside(|| linux_listens(own));
    let start = Instant::now();
    match opens {
        Opens::Linux => station.host.engine.listen(PORT),
        Opens::Engine => {
            let (first, last) = ix_abi::address_to_words(own);
            let remote = Endpoint {
                address: IpAddress::from_words(first, last),
                port: PORT,
            };
            app.connect(&mut station.host, remote, script.clone())
        }
    }
    .expect("open");
    thread::scope(|scope| {
        let linux = scope.spawn(move || {
            let stream = match opens {
                Opens::Linux => linux.inside(|| linux_connects_to(peer)),
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

/// Sends `bytes` from the engine to Linux; returns how long it took.
pub fn engine_to_linux(station: &mut Station, bytes: u64) -> Duration {
    let script = script(bytes, 0, Role::ShutsDown);
    exchange(station, Opens::Linux, &script, Ends::Second)
}

/// Sends `bytes` from Linux to the engine; returns how long it took.
pub fn linux_to_engine(station: &mut Station, bytes: u64) -> Duration {
    let script = script(0, bytes, Role::Follows);
    exchange(station, Opens::Linux, &script, Ends::First)
}

/// Sends `bytes` from Linux to Linux over two TAPs, one of which is at the end of `path`; returns how
/// long it took.
pub fn linux_to_linux(path: Path, bytes: u64) -> Duration {
    let mut near = Wire::new(LINUX, path);
    let mut far = Wire::new(ENGINE, Path::default());
    let (near_linux, far_linux) = (near.linux(), far.linux());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| patch([&mut near.tap, &mut far.tap], &stop));
        let listener = far_linux.inside(|| linux_listens(ENGINE.into()));
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

/// A socket of Linux that is connected to the engine.
pub fn linux_connects() -> TcpStream {
    linux_connects_to(ENGINE.into())
}

/// The same at that address of the engine.
pub fn linux_connects_to(engine: IpAddr) -> TcpStream {
    let address = SocketAddr::new(engine, PORT);
    let socket = linux_socket(address);
    let connected = socket.connect_timeout(&address.into(), LIMIT);
    connected.expect("Linux connects");
    let stream = socket.into();
    set_options(&stream);
    stream
}

/// What a bulk transfer carries: 64 MiB, or as many as `IX_PEER_MIB` says.
pub fn bulk_bytes() -> u64 {
    let mib = std::env::var("IX_PEER_MIB").map_or(64, |text| {
        text.parse().expect("IX_PEER_MIB is a number of MiB")
    });
    mib << 20
}

/// MiB per second.
pub fn goodput(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64()
}

/// A socket with CUBIC, whatever the machine's default is: figures of different machines shall
/// compare. It is chosen before there is a connection, since what another algorithm has switched on, as
/// BBR does pacing, stays on.
fn linux_socket(address: SocketAddr) -> Socket {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, None).expect("make a socket");
    let chosen = socket.set_tcp_congestion(b"cubic");
    chosen.expect("choose CUBIC");
    socket
}

fn linux_listens(address: IpAddr) -> TcpListener {
    let address = SocketAddr::new(address, PORT);
    let socket = linux_socket(address);
    let reuse = socket.set_reuse_address(true);
    reuse.expect("set SO_REUSEADDR");
    socket.bind(&address.into()).expect("Linux binds");
    socket.listen(1).expect("Linux listens");
    socket.into()
}

fn set_options(stream: &TcpStream) {
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    stream.set_read_timeout(Some(LIMIT)).expect("set a timeout");
    let result = stream.set_write_timeout(Some(LIMIT));
    result.expect("set a timeout");
}

/// Long transfers get more time.
fn limit(bytes: u64) -> Duration {
    LIMIT + Duration::from_millis(bytes / 1000)
}
