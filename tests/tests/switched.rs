//! Two dataplanes behind one `ixnicd` with one TAP: they answer each other and Linux, and what is not theirs
//! to say is dropped and counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use ix_machine::exit::GuestExit;
use ix_machine::{Artifacts, MachineConfig, NetworkConfig, OwnedNetns};
use ix_tests::{Booted, EXCHANGE_TIMEOUT, exchange, pattern};

/// Addresses of the dataplanes, in the order of their functions.
const GUESTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)];

/// An `ixnicd` with two functions, and the namespace with its TAP.
struct Card {
    process: Child,
    netns: OwnedNetns,
    folder: PathBuf,
}

impl Card {
    fn start(name: &str) -> Self {
        let name = format!("ix-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir(&folder).expect("make a folder");
        let netns = OwnedNetns::create(&name, "ix0", &network(0)).expect("make a namespace");
        let program = Artifacts::of_workspace().nic_program();
        let mut command = netns.netns().command(&program).expect("prepare ixnicd");
        command.args(["--tap", "ix0"]).stdout(Stdio::piped());
        for number in 0..GUESTS.len() {
            let place = |what: &str| folder.join(format!("{what}{number}")).display().to_string();
            let (socket, control, mac) = (place("nic"), place("control"), network(number).mac);
            let function = format!("socket={socket},control-socket={control},mac={mac}");
            command.args(["--function", &function]);
        }
        let mut process = command.spawn().expect("start ixnicd");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        for _ in GUESTS {
            let line = lines.next().expect("a line").expect("readable output");
            assert!(line.starts_with("ready "), "{line}");
        }
        Self {
            process,
            netns,
            folder,
        }
    }

    fn boot(&self, number: usize, app: &str, args: &[&str], vlan: Option<u16>) -> Booted {
        let socket = self.folder.join(format!("nic{number}"));
        Booted::start(app, args, |config: &mut MachineConfig| {
            config.network = network(number);
            config.nic_socket = Some(socket);
            if let Some(vlan) = vlan {
                let vlan = format!("{vlan}:0");
                config.kernel_options.push(("vlan".to_owned(), vlan));
            }
        })
    }

    /// The switch's counters.
    fn status(&self) -> serde_json::Value {
        let answer = ask(&self.folder.join("control0"), "switch");
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

impl Drop for Card {
    fn drop(&mut self) {
        // What is left after a failure goes with the process.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
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
    let card = Card::start("switched");
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
