//! One machine under test.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use ix_machine::exit::{Cause, ExitReport, GuestExit};
use ix_machine::{Artifacts, Machine, MachineConfig, NetworkConfig};

/// How long a boot may take on a loaded two-core machine under emulation.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long any single read, write or connection attempt may take.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The port that `echo` listens on unless told otherwise.
const ECHO_PORT: u16 = 7;

/// A running machine. Everything here panics with the reason when it fails: it serves tests.
pub struct Booted {
    machine: Machine,
    network: NetworkConfig,
}

impl Booted {
    /// Boots application `app` on the default machine after `change` has had its way with it.
    pub fn start(app: &str, args: &[&str], change: impl FnOnce(&mut MachineConfig)) -> Self {
        let mut config = MachineConfig::new(&Artifacts::of_workspace(), app);
        config.app_args = args.iter().map(|&arg| arg.to_owned()).collect();
        change(&mut config);
        let network = config.network.clone();
        let machine = expect(Machine::start(&config), "start the machine");
        Self { machine, network }
    }

    /// Boots `echo` and waits until it serves.
    pub fn echo(change: impl FnOnce(&mut MachineConfig)) -> Self {
        let booted = Self::start("echo", &[], change);
        booted.line("ix: app: echo on port");
        booted
    }

    /// The dataplane's IPv4 address.
    pub fn guest(&self) -> Ipv4Addr {
        self.network.guest
    }

    /// The machine itself.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The first console line with `needle` in it.
    pub fn line(&self, needle: &str) -> String {
        let line = self.machine.wait_for_line(needle, BOOT_TIMEOUT);
        expect(line, "find a console line")
    }

    /// The dataplane's configured IPv6 address.
    pub fn guest6(&self) -> Ipv6Addr {
        let ipv6 = self.network.ipv6.as_ref();
        let guest = ipv6.and_then(|ipv6| ipv6.guest);
        guest.expect("the machine has an IPv6 address")
    }

    /// A connection from the Linux end of the wire.
    pub fn try_connect(&self, port: u16) -> std::io::Result<TcpStream> {
        self.try_connect_to(self.guest().into(), port)
    }

    /// The same to any of the dataplane's addresses.
    pub fn try_connect_to(&self, guest: IpAddr, port: u16) -> std::io::Result<TcpStream> {
        let address = SocketAddr::new(guest, port);
        let stream = self.inside(|| TcpStream::connect_timeout(&address, EXCHANGE_TIMEOUT))?;
        stream.set_read_timeout(Some(EXCHANGE_TIMEOUT))?;
        stream.set_write_timeout(Some(EXCHANGE_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A socket at the Linux end whose peer is a UDP port of the dataplane.
    pub fn datagrams(&self, port: u16) -> UdpSocket {
        self.datagrams_to(self.guest().into(), port)
    }

    /// The same for any of the dataplane's addresses.
    pub fn datagrams_to(&self, guest: IpAddr, port: u16) -> UdpSocket {
        let any: IpAddr = match guest {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = self.inside(|| {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect((guest, port))?;
            socket.set_read_timeout(Some(EXCHANGE_TIMEOUT))?;
            Ok::<_, std::io::Error>(socket)
        });
        expect(socket, "open a UDP socket")
    }

    /// A listening socket at the Linux end.
    pub fn listen(&self, host: impl Into<IpAddr>, port: u16) -> TcpListener {
        let host = host.into();
        let listener = self.inside(|| TcpListener::bind((host, port)));
        expect(listener, "listen")
    }

    /// The next connection that the application opens.
    pub fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr) {
        expect(listener.set_nonblocking(true), "wait with a bound");
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        loop {
            match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(
                        Instant::now() < deadline,
                        "the application does not connect"
                    );
                    thread::sleep(Duration::from_millis(5));
                }
                result => {
                    let (stream, peer) = expect(result, "accept a connection");
                    expect(stream.set_nonblocking(false), "block again");
                    expect(
                        stream.set_read_timeout(Some(EXCHANGE_TIMEOUT)),
                        "set a bound",
                    );
                    return (stream, peer);
                }
            }
        }
    }

    /// A connection to the echo port.
    pub fn connect(&self) -> TcpStream {
        expect(self.try_connect(ECHO_PORT), "connect to the echo port")
    }

    /// A connection to a port that the application may not listen on yet.
    pub fn connect_when_up(&self, port: u16) -> TcpStream {
        self.connect_when_up_to(self.guest().into(), port)
    }

    /// The same to any of the dataplane's addresses, which it may not use yet: for the first second
    /// it asks whether somebody else has an IPv6 address (RFC 4862 5.4).
    pub fn connect_when_up_to(&self, guest: IpAddr, port: u16) -> TcpStream {
        use ErrorKind::{ConnectionRefused, HostUnreachable};
        let deadline = Instant::now() + BOOT_TIMEOUT;
        loop {
            match self.try_connect_to(guest, port) {
                Err(error) if matches!(error.kind(), ConnectionRefused | HostUnreachable) => {
                    assert!(Instant::now() < deadline, "nobody listens on port {port}");
                    thread::sleep(Duration::from_millis(20));
                }
                result => return expect(result, "connect"),
            }
        }
    }

    /// Exchanges one message on a connection of its own.
    pub fn assert_echoes(&self) {
        let mut stream = self.connect();
        exchange(&mut stream, &pattern(0x11, 64));
    }

    /// Runs `work` at the Linux end of the wire.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = self
            .machine
            .netns()
            .expect("a machine with a wire has a namespace");
        expect(netns.run(work), "enter the namespace")
    }

    /// Runs the load generator at the Linux end of the wire; it must succeed.
    pub fn ixload(&self, args: &[&str]) -> Output {
        let program = Artifacts::of_workspace().load_program();
        let mut command = expect(self.machine.command(&program), "prepare ixload");
        let output = expect(command.args(args).output(), "run ixload");
        assert!(
            output.status.success(),
            "ixload {args:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        output
    }

    /// Waits for the guest to end by itself, in the way that `expected` says.
    pub fn expect_end(&self, expected: GuestExit) -> ExitReport {
        let report = self
            .machine
            .wait(BOOT_TIMEOUT)
            .expect("the machine ends by itself");
        match report.cause {
            Cause::Guest(exit) => assert_eq!(exit, expected, "{report}"),
            _ => panic!("expected {expected:?}, but: {report}"),
        }
        report
    }

    /// Stops the machine; the kernel must not have panicked meanwhile.
    pub fn stop(self) {
        let report = self.machine.stop();
        assert!(report.is_success(), "{report}");
    }
}

/// Sends a message and expects it back.
pub fn exchange(stream: &mut TcpStream, message: &[u8]) {
    expect(stream.write_all(message), "send a message");
    let mut reply = vec![0; message.len()];
    expect(stream.read_exact(&mut reply), "receive its echo");
    assert!(reply == message, "the echo differs from what was sent");
}

/// `len` bytes that depend on `seed` and on their position, so that a shifted or swapped piece
/// shows.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            // A 64-bit linear congruential step (Knuth, TAOCP 3.3.4); its top bits are good.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(seed | 1);
            (state >> 56) as u8
        })
        .collect()
}

fn expect<T, E: Debug + std::fmt::Display>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("cannot {what}: {error}"),
    }
}
