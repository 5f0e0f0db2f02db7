//! smoltcp pings the engine and talks to it over UDP, in both families.

mod smoltcp_device;
mod support;

use core::net::{IpAddr, Ipv4Addr};
use ix_hal::{Fragment, Instant};
use ix_net::testing::{APP_BUS, Host};
use ix_net::{Endpoint, Event};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpEndpoint};
use smoltcp_device::{Queues, clock, interface};
use support::{START, config};

const PORT: u16 = 53;
const PEER_PORT: u16 = 5000;
const IDENT: u16 = 7;

/// The engine and smoltcp on a wire without faults.
struct Lab {
    host: Host,
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
}

impl Lab {
    fn new() -> Self {
        let mut host = Host::new(config(1), START, 1 << 16);
        host.engine.udp_bind(PORT).expect("a free port");
        let mut device = Queues::new(1514);
        let interface = interface(&mut device, 1);
        Self {
            host,
            interface,
            device,
            sockets: SocketSet::new(vec![]),
        }
    }

    /// Both have their turn until nothing is under way.
    fn run(&mut self) {
        for _ in 0..20 {
            self.host.now = Instant(self.host.now.0 + 1_000_000);
            let now = clock(self.host.now);
            self.interface
                .poll(now, &mut self.device, &mut self.sockets);
            while let Some(frame) = self.device.sent.pop_front() {
                self.host.receive(&frame);
            }
            self.host.turn();
            self.device.received.extend(self.host.wire.sent.drain(..));
        }
    }

    fn icmp(&mut self) -> SocketHandle {
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket
            .bind(icmp::Endpoint::Ident(IDENT))
            .expect("an identifier");
        self.sockets.add(socket)
    }

    fn udp(&mut self) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(PEER_PORT).expect("a port");
        self.sockets.add(socket)
    }
}

/// The engine's addresses and smoltcp's.
fn addresses() -> [[IpAddr; 2]; 2] {
    let ipv4 = [1, 9].map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
    [ipv4, [1, 9].map(|last| support::ipv6(last).into())]
}

/// An echo request as smoltcp writes it, and the reply that it reads.
fn echo(peer: IpAddr, local: IpAddr, data: &[u8], is_reply: bool) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let (ident, seq_no) = (IDENT, 3);
    match (peer, local) {
        (IpAddr::V6(peer), IpAddr::V6(local)) => {
            let repr = match is_reply {
                false => Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no,
                    data,
                },
                true => Icmpv6Repr::EchoReply {
                    ident,
                    seq_no,
                    data,
                },
            };
            let mut bytes = vec![0; repr.buffer_len()];
            let mut packet = Icmpv6Packet::new_unchecked(&mut bytes);
            repr.emit(&peer, &local, &mut packet, &checksums);
            bytes
        }
        _ => {
            let repr = match is_reply {
                false => Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no,
                    data,
                },
                true => Icmpv4Repr::EchoReply {
                    ident,
                    seq_no,
                    data,
                },
            };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
            bytes
        }
    }
}

#[test]
fn smoltcp_pings_the_engine() {
    for [local, peer] in addresses() {
        for len in [0, 56, 1400] {
            let mut lab = Lab::new();
            let handle = lab.icmp();
            let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let socket = lab.sockets.get_mut::<icmp::Socket>(handle);
            let request = echo(peer, local, &data, false);
            socket.send_slice(&request, local.into()).expect("room");
            lab.run();
            let socket = lab.sockets.get_mut::<icmp::Socket>(handle);
            let (reply, from) = socket.recv().expect("a reply");
            assert_eq!(from, IpAddress::from(local));
            assert_eq!(reply, echo(local, peer, &data, true), "{local}");
            assert_eq!(lab.host.mbufs_out(), 0);
        }
    }
}

#[test]
fn smoltcp_asks_over_udp_and_is_answered() {
    for [local, peer] in addresses() {
        let mut lab = Lab::new();
        let handle = lab.udp();
        let question: Vec<u8> = (0..1200).map(|at| at as u8).collect();
        let socket = lab.sockets.get_mut::<udp::Socket>(handle);
        socket
            .send_slice(&question, IpEndpoint::new(local.into(), PORT))
            .expect("room");
        lab.run();
        let Some(Event::Datagram {
            peer: from,
            mbuf,
            offset,
            len,
            ..
        }) = lab.host.queue.events.pop_front()
        else {
            panic!("a datagram");
        };
        assert_eq!(lab.host.mbuf_bytes(mbuf, offset, len), question);
        let expected = Endpoint {
            address: match peer {
                IpAddr::V4(peer) => peer.into(),
                IpAddr::V6(peer) => peer.into(),
            },
            port: PEER_PORT,
        };
        assert_eq!(from, expected);
        lab.host.wire.app[..5].copy_from_slice(b"reply");
        let answer = [Fragment {
            bus: APP_BUS,
            len: 5,
        }];
        lab.host.with(|engine, cx| {
            engine.udp_recv_done(cx, mbuf).expect("a buffer of ours");
            engine
                .udp_send(cx, PORT, from, &answer)
                .expect("smoltcp has asked, so that it is known");
        });
        lab.run();
        let socket = lab.sockets.get_mut::<udp::Socket>(handle);
        let (reply, from) = socket.recv().expect("a reply");
        assert_eq!(
            (reply, from.endpoint),
            (&b"reply"[..], (local, PORT).into())
        );
        assert_eq!(lab.host.mbufs_out(), 0);
    }
}
