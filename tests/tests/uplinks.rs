//! What `ixnicd` can be plugged into beside a TAP: an interface, and the sockets that QEMU and passt speak.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ix_machine::exit::GuestExit;
use ix_machine::qemu::Qemu;
use ix_machine::{NetworkConfig, OwnedNetns};
use ix_tests::passt::{Forward, Passt};
use ix_tests::{Booted, EXCHANGE_TIMEOUT, NicProgram, exchange, pattern};

/// Machines, an address each.
const ECHO: u8 = 2;
const BY_STREAM: u8 = 3;
const BY_DATAGRAMS: u8 = 4;

fn network(station: u8) -> NetworkConfig {
    let mut network = NetworkConfig::for_guest(&format!("10.9.0.{station}")).expect("an address");
    network.host = Ipv4Addr::new(10, 9, 0, 1);
    network.ipv6 = None;
    network.mac.0[5] = station;
    network
}

/// An `ixnicd` with that plug, for the machine of that station.
struct Card {
    _program: NicProgram,
    socket: std::path::PathBuf,
    station: u8,
}

impl Card {
    fn start(netns: &OwnedNetns, folder: &Path, station: u8, plug: &[OsString]) -> Self {
        let socket = folder.join(format!("nic{station}"));
        let mac = network(station).mac.to_string();
        let mut arguments = vec!["--socket".into(), socket.clone().into_os_string()];
        arguments.extend(["--mac".into(), OsString::from(mac)]);
        arguments.extend_from_slice(plug);
        Self {
            _program: NicProgram::start(netns.netns(), 1, arguments),
            socket,
            station,
        }
    }

    fn boot(&self, app: &str, args: &[&str]) -> Booted {
        Booted::start(app, args, |config| {
            config.network = network(self.station);
            config.nic_socket = Some(self.socket.clone());
        })
    }
}

/// A QEMU without a machine: its hub joins a `stream` and a `dgram` socket and a TAP.
struct Hub(Child);

impl Hub {
    fn start(netns: &OwnedNetns, folder: &Path) -> Self {
        let qemu = Qemu::locate().expect("a QEMU");
        let mut command = netns.netns().command(&qemu.program).expect("prepare QEMU");
        let path = |name: &str| folder.join(name).display().to_string();
        let backends = [
            format!(
                "stream,id=a,server=on,addr.type=unix,addr.path={}",
                path("stream")
            ),
            format!(
                "dgram,id=b,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                path("hub"),
                path("card")
            ),
            "tap,id=c,ifname=ix0,script=no,downscript=no".to_owned(),
        ];
        command.args(["-machine", "none", "-nodefaults", "-display", "none"]);
        for (port, backend) in ["a", "b", "c"].into_iter().zip(backends) {
            command.args(["-netdev", &backend]);
            let joined = format!("hubport,id=port-{port},hubid=0,netdev={port}");
            command.args(["-netdev", &joined]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut hub = Self(command.spawn().expect("start QEMU"));
        hub.wait_for(&folder.join("stream"));
        hub.wait_for(&folder.join("hub"));
        hub
    }

    fn wait_for(&mut self, path: &Path) {
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        while !path.exists() {
            if let Some(status) = self.0.try_wait().expect("ask for QEMU") {
                let mut words = String::new();
                let mut errors = self.0.stderr.take().expect("its errors");
                errors.read_to_string(&mut words).expect("readable errors");
                panic!("QEMU ended ({status}): {words}");
            }
            assert!(Instant::now() < deadline, "no {}", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // What is left after a failure goes with the process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One machine sees its frames through a packet socket on the interface that the others' frames come to by
/// way of QEMU's hub. Each of these calls it and compares what comes back.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn machines_meet_over_an_interface_and_both_kinds_of_sockets() {
    let folder = tempfile::tempdir().expect("make a folder");
    let name = format!("ix-uplinks-{}", std::process::id());
    let netns = OwnedNetns::create(&name, "ix0", &network(ECHO)).expect("make a namespace");
    let (stream, hub, card) = (
        folder.path().join("stream"),
        folder.path().join("hub"),
        folder.path().join("card"),
    );
    let _hub = Hub::start(&netns, folder.path());

    let interface = ["--interface".into(), "ix0".into()];
    let interface = Card::start(&netns, folder.path(), ECHO, &interface);
    let echo = interface.boot("echo", &[]);
    echo.line("ix: app: echo on port");
    let server = network(ECHO).guest.to_string();
    let plugs = [
        (BY_STREAM, vec!["--stream".into(), stream.into()]),
        (
            BY_DATAGRAMS,
            vec!["--dgram".into(), card.into(), hub.into()],
        ),
    ];
    for (station, plug) in plugs {
        let card = Card::start(&netns, folder.path(), station, &plug);
        let caller = card.boot("probe", &["connect", &server, "7", "hello"]);
        caller.expect_end(GuestExit::AppSucceeded);
    }
    echo.stop();
}

/// A default route that leads nowhere, as what passt looks at.
fn give_route(netns: &OwnedNetns, gateway: Ipv4Addr) {
    let route = || {
        Command::new("ip")
            .args(["route", "add", "default", "via", &gateway.to_string()])
            .output()
    };
    let output = netns.netns().run(route).expect("enter").expect("run ip");
    assert!(output.status.success(), "{output:?}");
}

/// The host's port leads to the dataplane's, through passt, which needs no privilege.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn passt_leads_connections_to_a_dataplane() {
    let mut network = network(ECHO);
    // The other end of the TAP stands for the host's own network; the gateway is passt's word for itself.
    let name = format!("ix-passt-{}", std::process::id());
    let netns = OwnedNetns::create(&name, "ix0", &network).expect("make a namespace");
    network.host = Ipv4Addr::new(10, 9, 0, 254);
    // passt sends to nobody in particular until the machine has said something, as it does when it comes up.
    give_route(&netns, network.host);
    let forward = Forward {
        guest: network.guest,
        prefix_len: network.prefix_len,
        gateway: network.host,
        ports: (7007, 7),
    };
    let passt = match Passt::start(netns.netns(), &forward) {
        Ok(passt) => passt,
        Err(why) => {
            // Not by a macro, whose words nobody sees of a test that passes.
            let _ = writeln!(
                io::stderr(),
                "skipped: passt does not run on this host: {why:#}"
            );
            return;
        }
    };
    let folder = tempfile::tempdir().expect("make a folder");
    let plug = ["--stream".into(), passt.socket().into_os_string()];
    let card = Card::start(&netns, folder.path(), ECHO, &plug);
    let echo = Booted::start("echo", &[], |config| {
        config.network = network.clone();
        config.nic_socket = Some(card.socket.clone());
    });
    echo.line("ix: app: echo on port");
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, forward.ports.0));
    let stream = netns.netns().run(connect).expect("enter");
    let mut stream = stream.expect("connect to passt");
    stream
        .set_read_timeout(Some(EXCHANGE_TIMEOUT))
        .expect("set a bound");
    exchange(&mut stream, &pattern(5, 200_000));
    drop(stream);
    echo.stop();
}
