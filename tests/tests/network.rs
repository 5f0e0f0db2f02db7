//! Linux's TCP and ICMP at the other end of the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;

use ix_machine::exit::GuestExit;
use ix_tests::{Booted, EXCHANGE_TIMEOUT, Pinger, pattern};
use socket2::SockRef;

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_port_that_nobody_listens_on_refuses() {
    let booted = Booted::echo(|_| {});
    let error = booted.try_connect(8).expect_err("nobody listens on port 8");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    booted.assert_echoes();
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn ping_is_answered_with_its_payload() {
    let booted = Booted::echo(|_| {});
    let guest = booted.guest();
    let pinger = booted
        .inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT))
        .expect("a raw socket");
    for (sequence, len) in [(1, 0), (2, 1), (3, 56), (4, 57), (5, 1000), (6, 1472)] {
        pinger.ping(sequence, &pattern(7, len)).expect("a reply");
    }
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_thousand_connections_are_open_at_once_and_all_answer() {
    let booted = Booted::echo(|_| {});
    let mut streams: Vec<_> = (0..1000).map(|_| booted.connect()).collect();
    for (index, stream) in streams.iter_mut().enumerate() {
        stream
            .write_all(&pattern(index as u64, 64))
            .expect("send on each");
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut reply = [0; 64];
        stream.read_exact(&mut reply).expect("receive on each");
        assert!(
            reply[..] == pattern(index as u64, 64),
            "connection {index} got another's bytes"
        );
    }
    drop(streams);
    booted.assert_echoes();
    booted.stop();
}

/// The client's engine is the dataplane's, and both are at the ends of a real wire: connections come and go,
/// by RST and by FIN, and each byte is verified.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn loads_are_carried_by_linux_and_by_the_clients_own_engine() {
    let booted = Booted::echo(|_| {});
    let server = format!("{}:7", booted.guest());
    let load = |arguments: &str| {
        let common = "--force --timeout 30 --duration 0.5 --warmup 0.1";
        let line = format!("load --connect {server} {common} {arguments}");
        booted.ixload(&line.split(' ').collect::<Vec<_>>());
    };
    for transport in ["sockets", "engine --sources 10.9.0.64-10.9.0.67"] {
        let on = format!("--transport {transport}");
        load(&format!(
            "{on} --connections 32 --requests-per-connection 2"
        ));
        load(&format!(
            "{on} --connections 8 --requests-per-connection 3 --close fin"
        ));
        load(&format!("{on} --connections 2 --size 100k --depth 2"));
        load(&format!("{on} --connections 8 --rate 200 --agent 50"));
    }
    booted.assert_echoes();
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn clients_killed_in_mid_transfer_leave_the_others_alone() {
    let booted = Booted::echo(|_| {});
    let mut survivor = booted.connect();
    for _ in 0..20 {
        let mut victim = booted.connect();
        victim.set_nonblocking(true).expect("a non-blocking socket");
        let bytes = pattern(3, 1 << 16);
        // Never reads: the echo fills both windows, and the server has data in flight both ways.
        while victim.write(&bytes).is_ok() {}
        SockRef::from(&victim)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("linger 0");
        drop(victim);
        survivor
            .write_all(&bytes[..64])
            .expect("the survivor sends");
        let mut reply = [0; 64];
        survivor
            .read_exact(&mut reply)
            .expect("the survivor is answered");
        assert_eq!(reply[..], bytes[..64]);
    }
    booted.assert_echoes();
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_client_that_half_closes_gets_the_rest_and_then_the_end() {
    let booted = Booted::echo(|_| {});
    let mut stream = booted.connect();
    let bytes = pattern(5, 300_000);
    let mut writer = stream.try_clone().expect("a second handle of the socket");
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).expect("send everything");
        writer.shutdown(Shutdown::Write).expect("send FIN");
    });
    let mut echo = Vec::new();
    stream
        .read_to_end(&mut echo)
        .expect("read until the server's FIN");
    sender.join().expect("the sender is done");
    assert!(
        echo == bytes,
        "{} of {} bytes, or other ones",
        echo.len(),
        bytes.len()
    );
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_server_that_half_closes_still_receives_everything() {
    const ECHOED: usize = 10_000;
    let booted = Booted::start("probe", &["half-close", "9", "10000"], |_| {});
    booted.line("ix: serving");
    let mut stream = booted.connect_when_up(9);
    let bytes = pattern(6, 300_000);
    stream
        .write_all(&bytes[..ECHOED])
        .expect("send what is echoed");
    let mut echo = Vec::new();
    stream
        .read_to_end(&mut echo)
        .expect("read until the server's FIN");
    assert!(
        echo == bytes[..ECHOED],
        "{} bytes, or other ones",
        echo.len()
    );
    stream
        .write_all(&bytes[ECHOED..])
        .expect("send to a server that has closed its side");
    stream.shutdown(Shutdown::Write).expect("send FIN");
    booted.line("probe: half-close received 300000 Dead(Closed)");
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_application_opens_a_connection_to_a_linux_server() {
    let booted = Booted::start("probe", &["connect", "10.9.0.1", "4000", "hello"], |_| {});
    let server = booted.listen([10, 9, 0, 1], 4000);
    let (mut stream, peer) = booted.accept(&server);
    assert_eq!(peer.ip().to_string(), "10.9.0.2");
    let mut message = [0; 5];
    stream.read_exact(&mut message).expect("its message");
    stream.write_all(&message).expect("echo it");
    drop(stream);
    booted.line("ix: app: probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_application_is_told_that_nobody_listens() {
    let booted = Booted::start("probe", &["connect", "10.9.0.1", "4001", "hello"], |_| {});
    booted.line("Refused");
    booted.expect_end(GuestExit::AppFailed);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn loss_reordering_and_duplication_do_not_show_in_the_stream() {
    let booted = Booted::echo(|config| {
        config.nic_model.loss = Some(0.01);
        config.nic_model.reorder = Some(0.01);
        config.nic_model.duplicate = Some(0.01);
        config.nic_model.seed = Some(82599);
    });
    let mut stream = booted.connect();
    let bytes = pattern(9, 4 << 20);
    let mut writer = stream.try_clone().expect("a second handle of the socket");
    let sent = bytes.clone();
    let sender = thread::spawn(move || writer.write_all(&sent).expect("send everything"));
    let mut echo = vec![0; bytes.len()];
    stream.read_exact(&mut echo).expect("receive everything");
    sender.join().expect("the sender is done");
    assert!(echo == bytes, "the stream came back changed");
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn datagrams_come_back_with_their_payload() {
    let booted = Booted::echo(|_| {});
    let sockets: Vec<_> = (0..8).map(|_| booted.datagrams(7)).collect();
    let mut reply = [0; 2048];
    for (seed, len) in [0, 1, 18, 19, 64, 511, 1472].into_iter().enumerate() {
        // All at once, so that each must get its own.
        for (index, socket) in sockets.iter().enumerate() {
            let payload = pattern((seed << 8 | index) as u64, len);
            socket.send(&payload).expect("send a datagram");
        }
        for (index, socket) in sockets.iter().enumerate() {
            let count = socket.recv(&mut reply).expect("its echo");
            let payload = pattern((seed << 8 | index) as u64, len);
            assert!(reply[..count] == payload, "socket {index}, {len} bytes");
        }
    }
    booted.assert_echoes();
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_udp_port_that_nobody_bound_is_refused() {
    let booted = Booted::echo(|_| {});
    let socket = booted.datagrams(8);
    socket.send(b"anybody?").expect("send a datagram");
    let error = socket.recv(&mut [0; 16]).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    booted.assert_echoes();
    booted.stop();
}
