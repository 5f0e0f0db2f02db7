//! Any Ethernet interface of Linux as the other end, through a packet socket (packet(7)).
//!
//! Frames that arrive at the interface are copies of what the host itself receives: only frames for MAC
//! addresses that the host has not are nobody else's. What is sent leaves through the interface.
//!
//! An address of the kind that packet sockets are bound to is unknown to the safe interface; the unsafe
//! code of this module is confined to `link_address`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, sockopt,
};

use super::{Wire, WireError};
use link_address::LinkAddress;

/// All protocols (linux/if_ether.h, ETH_P_ALL), in network byte order.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();
/// Frames that wait are kept in so many bytes, so that a moment's absence loses none.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Why a packet socket could not be opened; each message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// There is no such interface.
    #[error("no interface `{0}` in this network namespace: `ip link` lists them")]
    Missing(String),
    /// Not allowed.
    #[error("no permission for a packet socket: run as root, or with CAP_NET_RAW")]
    Permission,
    /// Anything else.
    #[error(
        "{action} for interface `{name}` failed ({error}): check that it is an Ethernet interface"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// The operating system's answer.
        error: Errno,
    },
}

/// A packet socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// On the interface `name` of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn open(name: &str) -> Result<Self, PacketError> {
        let io = |action| {
            move |error: Errno| match error {
                Errno::PERM | Errno::ACCESS => PacketError::Permission,
                error => PacketError::Io {
                    action,
                    name: name.to_owned(),
                    error,
                },
            }
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol, and so without frames of other interfaces, until it is bound.
        let family = AddressFamily::PACKET;
        let socket = rustix::net::socket_with(family, SocketType::RAW, flags, None::<Protocol>)
            .map_err(io("making a packet socket"))?;
        let index = netdevice::name_to_index(&socket, name)
            .map_err(|_| PacketError::Missing(name.to_owned()))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)
            .map_err(io("enlarging the buffer"))?;
        let address = LinkAddress::new(ALL_PROTOCOLS, index);
        rustix::net::bind(&socket, &address).map_err(io("binding"))?;
        Ok(Self { socket })
    }
}

impl Wire for PacketSocket {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        match rustix::net::send(&self.socket, frame, SendFlags::DONTWAIT) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Err(WireError::Full),
            Err(Errno::NETDOWN | Errno::NXIO) => Err(WireError::Down),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        loop {
            return match rustix::net::recv(&self.socket, &mut *frame, flags) {
                // The second number is the whole length.
                Ok((_, whole)) if whole > frame.len() => continue,
                Ok((len, _)) => Ok(Some(len)),
                Err(Errno::AGAIN | Errno::INTR) => Ok(None),
                Err(Errno::NETDOWN) => Err(WireError::Down),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// `struct sockaddr_ll` of packet(7).
#[expect(unsafe_code, reason = "the address is handed over as bytes")]
mod link_address {
    use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

    const AF_PACKET: u16 = 17;

    #[repr(C)]
    #[derive(Debug)]
    pub(super) struct LinkAddress {
        family: u16,
        protocol: u16,
        interface: u32,
        hardware_type: u16,
        packet_type: u8,
        address_len: u8,
        address: [u8; 8],
    }

    impl LinkAddress {
        /// Of an interface; `protocol` in network byte order.
        pub(super) fn new(protocol: u16, interface: u32) -> Self {
            Self {
                family: AF_PACKET,
                protocol,
                interface,
                hardware_type: 0,
                packet_type: 0,
                address_len: 0,
                address: [0; 8],
            }
        }
    }

    // SAFETY: pointer and length given to the closure are those of `self`, which is laid out as Linux's
    // `struct sockaddr_ll`, has no padding, and begins with its family.
    unsafe impl SocketAddrArg for LinkAddress {
        unsafe fn with_sockaddr<R>(
            &self,
            f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
        ) -> R {
            f(
                (&raw const *self).cast(),
                size_of::<Self>() as SocketAddrLen,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_named() {
        // Without the privilege that is what is missing first.
        match PacketSocket::open("ixnosuchdevice") {
            Err(PacketError::Missing(name)) => assert_eq!(name, "ixnosuchdevice"),
            Err(PacketError::Permission) => {}
            other => panic!("{other:?}"),
        }
    }
}
