//! DCTCP (RFC 8257) between the engine and Linux: `cargo xtask test linux`.
//!
//! Few kernels that tests run on have Linux's DCTCP, but Debian's in the guest has. The engine is in this
//! process, behind a bridge to the guest's wire, and what is between the two marks every tenth packet.

use std::path::Path as File;
use std::time::Duration;

use ix_abi::Handle;
use ix_linux_guest::LinuxGuest;
use ix_linux_peer::transfer::{LIMIT, LINUX_ENDPOINT, PORT, script};
use ix_linux_peer::{Application, ENGINE, LINUX, Path, Station, Wire};
use ix_net::testing::{App, Host, Role};
use ix_net::{Config, CongestionControl, Event};
use ix82599::wire::{Tap, TapConfig};

const BYTES: u64 = 4 << 20;
/// The engine's end of the bridge; the machine's is `ix0`.
const TAP: &str = "engine0";

/// A guest that uses DCTCP, and an engine that does.
fn guest_and_engine() -> (LinuxGuest, Station) {
    let mut guest = LinuxGuest::with_link(|config| {
        config.network.guest = LINUX;
        config.network.host = "10.9.0.254".parse().expect("an address");
    });
    guest.run("sysctl -w net.ipv4.tcp_congestion_control=dctcp");
    let config = TapConfig {
        name: TAP.to_owned(),
        create_with_mtu: Some(1500),
    };
    let tap = guest.inside(|| Tap::open(&config)).expect("make a TAP");
    for line in [
        "link add bridge0 type bridge",
        "link set ix0 master bridge0",
        "link set engine0 master bridge0",
        "link set bridge0 up",
    ] {
        let mut command = guest.host_command(File::new("/sbin/ip"));
        let status = command.args(line.split(' ')).status().expect("run ip");
        assert!(status.success(), "ip {line}: {status}");
    }
    let path = Path {
        marks: 100,
        ..Path::lossy(0.0, 5)
    };
    let config = Config {
        congestion: CongestionControl::Dctcp,
        ..Config::default()
    };
    let station = Station::on(Wire::behind(tap, path), config);
    (guest, station)
}

/// A counter of the guest, as `nstat` names it, in two parts.
fn counter(guest: &mut LinuxGuest, group: &str, name: &str) -> u64 {
    let text = guest.run("cat /proc/net/netstat");
    let of_group = |line| str::strip_prefix(line, group).and_then(|rest| rest.strip_prefix(": "));
    let mut lines = text.lines().filter_map(of_group);
    let (names, values) = (lines.next(), lines.next());
    let mut pairs = names
        .expect("names")
        .split(' ')
        .zip(values.expect("values").split(' '));
    let found = pairs.find(|(known, _)| *known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no counter {group}{name}: {text}"));
    value.parse().expect("a number")
}

/// Takes what comes on one connection.
#[derive(Default)]
struct Sink {
    handle: Option<Handle>,
    received: u64,
    is_over: bool,
}

impl Application for Sink {
    fn turn(&mut self, host: &mut Host) {
        while let Some(event) = host.queue.events.pop_front() {
            match event {
                Event::Knock { handle, .. } => {
                    self.handle = Some(handle);
                    host.with(|engine, cx| engine.accept(cx, handle, 1))
                        .expect("accept");
                }
                Event::Recv { len, .. } => {
                    self.received += u64::from(len);
                    let handle = self.handle.expect("a connection");
                    host.with(|engine, cx| engine.recv_done(cx, handle, len.into()))
                        .expect("give back");
                }
                Event::EndOfStream { .. } => {
                    let handle = self.handle.expect("a connection");
                    host.with(|engine, cx| engine.close(cx, handle))
                        .expect("close");
                }
                Event::Dead { .. } => self.is_over = true,
                _ => {}
            }
        }
    }
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn marks_are_counted_exactly_both_ways() {
    let (mut guest, mut station) = guest_and_engine();

    // Linux sends: what it counts as marked is what the engine's echo tells it.
    let mut sink = Sink::default();
    station.host.engine.listen(PORT).expect("listen");
    guest.run(&format!(
        "head -c {BYTES} /dev/zero | nc {ENGINE} {PORT} >/dev/null 2>&1 &"
    ));
    station.run(&mut sink, LIMIT, |sink, _| sink.is_over);
    assert_eq!(sink.received, BYTES);
    let syn = station.from_linux.syn.expect("a SYN was seen");
    let answer = station.from_engine.syn.expect("an answer was seen");
    assert_eq!((syn.ecn, answer.ecn), ((true, true), (true, false)));
    let marked = station.host.engine.counters().tcp_in_marked;
    let counted = counter(&mut guest, "TcpExt", "TCPDeliveredCE");
    println!("to the engine {marked} segments were marked; Linux counted {counted}");
    assert!(marked > 100, "{marked} marks");
    assert!(
        counted.abs_diff(marked) <= marked / 10,
        "{counted} of {marked}"
    );

    // The engine sends: Linux echoes each mark, and only that.
    let before = (station.wire.tap.marked, station.from_linux.ecn_marked);
    let echoes = station.from_linux.ecn_echoes;
    guest.run(&format!("nc -l -p {PORT} </dev/null >/dev/null 2>&1 &"));
    guest.run(&format!(
        "until netstat -tln | grep -q ':{PORT} '; do usleep 50000; done"
    ));
    let script = script(BYTES, 0, Role::ShutsDown);
    let mut app = App::new(&mut station.host, script.clone(), 1);
    app.expect_connections(1);
    app.connect(&mut station.host, LINUX_ENDPOINT, script)
        .expect("connect");
    station.run(&mut app, LIMIT, |app, _| app.is_idle());
    let marked = (station.wire.tap.marked - before.0) - (station.from_linux.ecn_marked - before.1);
    let echoes = station.from_linux.ecn_echoes - echoes;
    let reductions = station.host.engine.counters().tcp_ecn_reductions;
    println!(
        "to Linux {marked} segments were marked, {echoes} echoes came back, {reductions} reductions"
    );
    assert!(marked > 100, "{marked} marks");
    assert!(
        (marked / 2..=marked * 3 / 2).contains(&echoes),
        "{echoes} of {marked}"
    );
    assert!(reductions > 0);
    assert!(station.from_engine.ecn_capable >= BYTES / 1448);
    // The bridge goes before the wire that it is plugged into.
    station.run_for(&mut app, Duration::from_millis(10));
    guest.stop();
}
