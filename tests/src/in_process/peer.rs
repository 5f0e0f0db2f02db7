//! smoltcp at the other end of the cable: an implementation of TCP/IP that nobody here wrote. It
//! checks and computes all checksums in software, hence it also checks what the NIC inserted.

use ix82599::wire::{Cable, Wire};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address};

use super::GUEST;

const PEER: Ipv4Address = Ipv4Address::new(10, 9, 0, 1);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const FRAME_BYTES: usize = 1514;

/// A host with smoltcp's stack and any number of sockets.
pub struct Peer {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
}

impl Peer {
    /// A host at the end `cable`.
    pub fn new(cable: Cable) -> Self {
        Self::with_frames(cable, FRAME_BYTES)
    }

    /// A host at the end `cable` whose frames are no longer than that, so that it sends fragments.
    pub fn with_frames(cable: Cable, frame_bytes: usize) -> Self {
        let mut port = Port { cable, frame_bytes };
        let config = Config::new(HardwareAddress::Ethernet(PEER_MAC));
        let mut interface = Interface::new(config, &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(IpAddress::Ipv4(PEER), 24))
                .expect("room for one address");
        });
        Self {
            port,
            interface,
            sockets: SocketSet::new(Vec::new()),
            next_port: 49_152,
        }
    }

    /// Opens a connection to a port of the dataplane, with buffers of that many bytes each way.
    pub fn connect(&mut self, port: u16, buffer_bytes: usize) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; buffer_bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        let remote = (IpAddress::Ipv4(Ipv4Address::from(GUEST)), port);
        self.next_port += 1;
        socket
            .connect(self.interface.context(), remote, self.next_port)
            .expect("a fresh socket connects");
        self.sockets.add(socket)
    }

    /// Waits for a connection on a port.
    pub fn listen(&mut self, port: u16, buffer_bytes: usize) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; buffer_bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen(port).expect("a fresh socket listens");
        self.sockets.add(socket)
    }

    /// A UDP socket bound to that port.
    pub fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 64 << 10]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).expect("a fresh socket binds");
        self.sockets.add(socket)
    }

    /// Sends a datagram to a port of the dataplane.
    pub fn send_datagram(&mut self, handle: SocketHandle, port: u16, payload: &[u8]) {
        let remote = (IpAddress::Ipv4(Ipv4Address::from(GUEST)), port);
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        socket
            .send_slice(payload, remote)
            .expect("room in the socket");
    }

    /// Takes a datagram that came from the dataplane, and the port that it came from.
    pub fn receive_datagram(&mut self, handle: SocketHandle) -> Option<(u16, Vec<u8>)> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        let (payload, from) = socket.recv().ok()?;
        assert_eq!(
            from.endpoint.addr,
            IpAddress::Ipv4(Ipv4Address::from(GUEST))
        );
        Some((from.endpoint.port, payload.to_vec()))
    }

    /// A socket.
    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Moves frames both ways.
    pub fn poll(&mut self, now_ns: u64) {
        let now = Instant::from_micros((now_ns / 1_000) as i64);
        self.interface.poll(now, &mut self.port, &mut self.sockets);
    }
}

/// The cable as smoltcp sees it.
struct Port {
    cable: Cable,
    frame_bytes: usize,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a mut Cable);

impl Device for Port {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.cable.take()?;
        Some((Received(frame), Sending(&mut self.cable)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.cable))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_bytes;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        // A full cable loses the frame, as a full switch would.
        let _ = self.0.send(&frame);
        result
    }
}
