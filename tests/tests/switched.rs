//! Two dataplanes behind one `ixnicd` with one TAP, on cards or on virtual functions of one: they answer each other
//! and Linux, and what is not theirs to say is dropped and counted, or refused.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ix_machine::exit::GuestExit;
use ix_machine::{MachineConfig, NetworkConfig, NicKind, OwnedNetns};
use ix_tests::{Booted, EXCHANGE_TIMEOUT, NicProgram, exchange, pattern};
use tempfile::TempDir;

/// Addresses of the dataplanes, in the order of their functions.
const GUESTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)];

/// An `ixnicd` with two functions, and the namespace with its TAP.
struct Card {
    nic: NicKind,
    _program: NicProgram,
    netns: OwnedNetns,
    folder: TempDir,
}

impl Card {
    fn start(name: &str, nic: NicKind) -> Self {
        let is_virtual = nic == NicKind::Virtual82599;
        let kind = if is_virtual { "vf" } else { "pf" };
        let name = format!("ix-{name}-{}", std::process::id());
        let folder = tempfile::tempdir().expect("make a folder");
        let netns = OwnedNetns::create(&name, "ix0", &network(0)).expect("make a namespace");
        let mut arguments = vec!["--tap".to_owned(), "ix0".to_owned()];
        for number in 0..GUESTS.len() {
            let path = |what: &str| folder.path().join(format!("{what}{number}"));
            let place = |what: &str| path(what).display().to_string();
            let (socket, control, mac) = (place("nic"), place("control"), network(number).mac);
            let function =
                format!("socket={socket},control-socket={control},mac={mac},kind={kind}");
            arguments.extend(["--function".to_owned(), function]);
        }
        Self {
            nic,
            _program: NicProgram::start(netns.netns(), GUESTS.len(), arguments),
            netns,
            folder,
        }
    }

    fn boot(&self, number: usize, app: &str, args: &[&str], vlan: Option<u16>) -> Booted {
        let socket = self.folder.path().join(format!("nic{number}"));
        Booted::start(app, args, |config: &mut MachineConfig| {
            config.network = network(number);
            config.nic = self.nic;
            config.nic_socket = Some(socket);
            if let Some(vlan) = vlan {
                let vlan = format!("{vlan}:0");
                config.kernel_options.push(("vlan".to_owned(), vlan));
            }
        })
    }

    /// The switch's counters.
    fn status(&self) -> serde_json::Value {
        let answer = ask(&self.folder.path().join("control0"), "switch");
        let status = answer.strip_prefix("ok ").expect("an answer");
        serde_json::from_str(status).expect("JSON")
    }

    /// Linux exchanges a message with a dataplane.
    fn talk(&self, number: usize) {
        let address = SocketAddr::from((GUESTS[number], 7));
        let connect = || TcpStream::connect_timeout(&address, EXCHANGE_TIMEOUT);
        let stream = self.netns.netns().run(connect).expect("enter");
        let mut stream = stream.expect("connect to a dataplane");
        stream
            .set_read_timeout(Some(EXCHANGE_TIMEOUT))
            .expect("set a bound");
        exchange(&mut stream, &pattern(number as u64 + 1, 20_000));
    }
}

fn network(number: usize) -> NetworkConfig {
    let text = GUESTS[number].to_string();
    let mut network = NetworkConfig::for_guest(&text).expect("an address");
    network.host = Ipv4Addr::new(10, 9, 0, 1);
    network.ipv6 = None;
    network.mac = format!("52:54:00:00:00:0{}", number + 1)
        .parse()
        .expect("a MAC address");
    network
}

fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("connect to the control socket");
    writeln!(stream, "{request}").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn dataplanes_behind_one_card_answer_each_other_and_linux() {
    let card = Card::start("switched", NicKind::Intel82599);
    let echo = card.boot(0, "echo", &[], None);
    echo.line("ix: app: echo on port");
    card.talk(0);
    // One dataplane calls the other.
    let server = GUESTS[0].to_string();
    let caller = card.boot(1, "probe", &["connect", &server, "7", "hello"], None);
    caller.line("ix: app: probe: ok");
    caller.expect_end(GuestExit::AppSucceeded);
    drop(caller);
    // The function is free again, and its next machine serves beside the first.
    let second = card.boot(1, "echo", &[], None);
    second.line("ix: app: echo on port");
    card.talk(1);
    card.talk(0);
    let status = card.status();
    for function in 0..2 {
        let counts = &status["functions"][function];
        assert!(counts["frames_in"].as_u64() > Some(10), "{status}");
        assert_eq!(counts["spoofed_address"], 0, "{status}");
        assert_eq!(counts["spoofed_vlan"], 0, "{status}");
    }
    second.stop();
    // A machine that claims to be of a VLAN is not heard.
    let stranger = card.boot(1, "probe", &["connect", &server, "7", "hello"], Some(100));
    stranger.expect_end(GuestExit::AppFailed);
    let status = card.status();
    assert!(
        status["functions"][1]["spoofed_vlan"].as_u64() > Some(0),
        "{status}"
    );
    card.talk(0);
    echo.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn dataplanes_on_virtual_functions_answer_each_other_and_choose_no_vlan() {
    let card = Card::start("virtual", NicKind::Virtual82599);
    let echo = card.boot(0, "echo", &[], None);
    let up = echo.line("ix: nic 82599 VF");
    assert!(
        up.contains("mac 52:54:00:00:00:01 link up, 10000 Mb/s"),
        "{up}"
    );
    echo.line("ix: app: echo on port");
    card.talk(0);
    let server = GUESTS[0].to_string();
    let caller = card.boot(1, "probe", &["connect", &server, "7", "hello"], None);
    caller.line("ix: app: probe: ok");
    caller.expect_end(GuestExit::AppSucceeded);
    // The owner of the card keeps a guest that it does not trust out of other VLANs.
    let stranger = card.boot(1, "probe", &["connect", &server, "7", "hello"], Some(100));
    stranger.line("the host refuses the VLAN");
    stranger.expect_end(GuestExit::NoNic);
    card.talk(0);
    let status = card.status();
    for function in 0..2 {
        let counts = &status["functions"][function];
        assert!(counts["frames_in"].as_u64() > Some(2), "{status}");
        for kind in ["spoofed_address", "spoofed_vlan"] {
            assert_eq!(counts[kind], 0, "{status}");
        }
    }
    echo.stop();
}
