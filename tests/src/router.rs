//! A router that advertises itself, from a raw socket (RFC 4861 4.2).

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

const ROUTER_ADVERTISEMENT: u8 = 134;
const PREFIX_INFORMATION: u8 = 3;
/// A receiver believes no other (RFC 4861 6.1.2).
const HOP_LIMIT: u32 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Sends router advertisements through one interface.
pub struct RouterAdvertiser {
    socket: Socket,
    to: SocketAddrV6,
}

impl RouterAdvertiser {
    /// For `interface`; to be called in its namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        let index = interface_index(interface)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_if_v6(index)?;
        Ok(Self {
            socket,
            to: SocketAddrV6::new(ALL_NODES, 0, 0, index),
        })
    }

    /// Advertises this host as a router, and the first 64 bits of `prefix` as on-link and good to
    /// make addresses of. Linux computes the checksum and takes the link-local address as source.
    pub fn advertise(&self, prefix: Ipv6Addr) -> io::Result<()> {
        // Type, code, checksum, hop limit of 64, no flags, router for 1800 seconds, two timers.
        let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
        message.extend(1800_u16.to_be_bytes());
        message.extend([0; 8]);
        // 32 bytes, 64 bits, on-link and autonomous, valid and preferred for an hour.
        message.extend([PREFIX_INFORMATION, 4, 64, 0xc0]);
        message.extend(3600_u32.to_be_bytes());
        message.extend(3600_u32.to_be_bytes());
        message.extend([0; 4]);
        message.extend(&prefix.octets()[..8]);
        message.extend([0; 8]);
        self.socket.send_to(&message, &self.to.into()).map(drop)
    }
}

/// The number of an interface, in the namespace of the calling thread.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}
