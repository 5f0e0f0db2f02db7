//! IPv6 with Linux at the other end of the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddrV6};
use std::thread;
use std::time::{Duration, Instant};

use ix_machine::Ipv6Network;
use ix_machine::exit::GuestExit;
use ix_tests::{
    BOOT_TIMEOUT, Booted, EXCHANGE_TIMEOUT, Pinger, RouterAdvertiser, captured_frames, exchange,
    pattern,
};

const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// A machine whose IPv6 address answers.
fn echo(change: impl FnOnce(&mut ix_machine::MachineConfig)) -> Booted {
    let booted = Booted::echo(change);
    drop(booted.connect_when_up_to(booted.guest6().into(), 7));
    booted
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn ping_is_answered_with_its_payload_also_at_the_address_of_the_link() {
    let booted = echo(|_| {});
    // Made from the MAC address 52:54:00:12:34:56 (RFC 4291 appendix A).
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe12, 0x3456);
    let interface = booted.inside(|| ix_tests::interface_index("ix0"));
    let interface = interface.expect("the TAP has a number");
    for guest in [
        SocketAddrV6::new(booted.guest6(), 0, 0, 0),
        SocketAddrV6::new(link_local, 0, 0, interface),
    ] {
        let pinger = booted.inside(|| Pinger::open_at(guest.into(), EXCHANGE_TIMEOUT));
        let pinger = pinger.expect("a raw socket");
        for (sequence, len) in [(1, 0), (2, 1), (3, 57), (4, 1000), (5, 1452)] {
            pinger.ping(sequence, &pattern(7, len)).expect("a reply");
        }
    }
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn sixty_four_connections_and_streams_are_echoed() {
    let pcap = std::env::temp_dir().join(format!("ix-ipv6-{}.pcap", std::process::id()));
    let booted = echo(|config| config.nic_model.pcap = Some(pcap.clone()));
    let server = format!("[{}]:7", booted.guest6());
    let load = ["echo", "--connect", &server, "--connections", "64"];
    booted.ixload(&[&load[..], &["--messages", "100"]].concat());
    let stream = ["stream", "--connect", &server, "--connections", "4"];
    booted.ixload(&[&stream[..], &["--bytes", "4M"]].concat());
    booted.assert_echoes();
    booted.stop();
    let frames = captured_frames(&pcap);
    std::fs::remove_file(&pcap).expect("remove the capture");
    let ipv6 = frames
        .iter()
        .filter(|frame| frame[12..14] == ETHERTYPE_IPV6);
    let longest = ipv6.clone().map(Vec::len).max();
    assert!(ipv6.count() > 64 * 100, "of {} frames", frames.len());
    assert_eq!(longest, Some(1514));
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_half_closed_stream_through_loss_comes_back_whole() {
    let booted = echo(|config| {
        config.nic_model.loss = Some(0.01);
        config.nic_model.reorder = Some(0.01);
        config.nic_model.seed = Some(86);
    });
    let mut stream = booted.connect_when_up_to(booted.guest6().into(), 7);
    let bytes = pattern(5, 1 << 20);
    let mut writer = stream.try_clone().expect("a second handle of the socket");
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).expect("send everything");
        writer.shutdown(Shutdown::Write).expect("send FIN");
    });
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).expect("read until FIN");
    sender.join().expect("the sender is done");
    assert!(echo == bytes, "{} of {} bytes", echo.len(), bytes.len());
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn datagrams_come_back_and_a_port_that_nobody_bound_is_refused() {
    let booted = echo(|_| {});
    let guest = booted.guest6().into();
    let socket = booted.datagrams_to(guest, 7);
    let mut reply = [0; 4096];
    // The last one comes in fragments.
    for len in [0, 1, 19, 512, 1452, 1600] {
        let payload = pattern(len as u64, len);
        socket.send(&payload).expect("send a datagram");
        if len > 1452 {
            // Its echo would not fit a frame, and is refused; that it arrived is seen elsewhere.
            continue;
        }
        let count = socket.recv(&mut reply).expect("its echo");
        assert!(reply[..count] == payload, "{len} bytes");
    }
    let nobody = booted.datagrams_to(guest, 8);
    nobody.send(b"anybody?").expect("send a datagram");
    let error = nobody.recv(&mut reply).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let error = booted.try_connect_to(guest, 8).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_application_opens_a_connection_to_a_linux_server() {
    let host = "fd69:7882:599::1";
    let booted = Booted::start("probe", &["connect", host, "4000", "hello"], |_| {});
    let address: Ipv6Addr = host.parse().expect("an address");
    let server = booted.listen(address, 4000);
    let (mut stream, peer) = booted.accept(&server);
    assert_eq!(peer.ip(), IpAddr::from(booted.guest6()));
    let mut message = [0; 5];
    stream.read_exact(&mut message).expect("its message");
    stream.write_all(&message).expect("echo it");
    drop(stream);
    booted.line("ix: app: probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_address_is_made_from_a_routers_advertisement() {
    let booted = Booted::echo(|config| {
        config.network.ipv6 = Some(Ipv6Network {
            guest: None,
            router_advertisements: true,
            ..Ipv6Network::default()
        });
    });
    let prefix = Ipv6Network::default().host;
    let router = booted.inside(|| RouterAdvertiser::open("ix0"));
    let router = router.expect("a raw socket");
    let [a, b, c, d, ..] = prefix.segments();
    // The prefix, and the interface identifier that the MAC address makes (RFC 2464 4).
    let guest = Ipv6Addr::new(a, b, c, d, 0x5054, 0x00ff, 0xfe12, 0x3456);
    let pinger = booted.inside(|| Pinger::open(guest, Duration::from_millis(500)));
    let pinger = pinger.expect("a raw socket");
    let deadline = Instant::now() + BOOT_TIMEOUT;
    for sequence in 0.. {
        router.advertise(prefix).expect("send an advertisement");
        match pinger.ping(sequence, b"are you there?") {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "no address: {error}"),
        }
    }
    let mut stream = booted.connect_when_up_to(guest.into(), 7);
    exchange(&mut stream, &pattern(1, 10_000));
    booted.stop();
}
