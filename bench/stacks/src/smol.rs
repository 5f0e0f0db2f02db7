//! smoltcp: an interface, a set with a socket per connection, and a server on them. It is driven the
//! way that costs it least: the received frames are taken in one by one, the server looks only at the
//! sockets that it knows to have something, and then each socket is asked once for what it has to
//! send. Its NIC does the checksums.

use crate::play::{Sent, Stack};
use crate::record::{ADDRESS, MAC, PORT, REQUEST, introductions};
use crate::trace::{Kind, Trace};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::Socket as AnySocket;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};

const FRAME: usize = 1514;
/// Bytes of a socket's buffer, one for each direction.
const BUFFER: usize = 512;
/// Microseconds from one segment to the next.
const INTERVAL: i64 = 3;

/// A NIC that keeps the latest frame.
struct Wire {
    received: Vec<Vec<u8>>,
    taken: usize,
    latest: [u8; FRAME],
    len: usize,
    frames: u64,
    bytes: u64,
}

struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Sender<'a> {
    latest: &'a mut [u8; FRAME],
    len: &'a mut usize,
    frames: &'a mut u64,
    bytes: &'a mut u64,
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        *self.len = len;
        *self.frames += 1;
        *self.bytes += len as u64;
        f(&mut self.latest[..len])
    }
}

impl Device for Wire {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        let frame = self.received.get(self.taken)?;
        self.taken += 1;
        let sender = Sender {
            latest: &mut self.latest,
            len: &mut self.len,
            frames: &mut self.frames,
            bytes: &mut self.bytes,
        };
        Some((Received(frame), sender))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        Some(Sender {
            latest: &mut self.latest,
            len: &mut self.len,
            frames: &mut self.frames,
            bytes: &mut self.bytes,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// The interface with its sockets, and the connections of the next step.
pub struct Player {
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    /// Sockets by number of connection.
    handles: Vec<SocketHandle>,
    /// While connections are established, all of them but the latest: looking through them for each
    /// would take hours.
    aside: Option<SocketSet<'static>>,
    step: Vec<SocketHandle>,
    now: Instant,
}

impl Player {
    /// An interface that has all peers in its cache.
    pub fn new(trace: &Trace<'_>) -> Self {
        let mut wire = Wire {
            received: Vec::new(),
            taken: 0,
            latest: [0; FRAME],
            len: 0,
            frames: 0,
            bytes: 0,
        };
        let now = Instant::from_secs(1000);
        let mut config = Config::new(EthernetAddress(MAC).into());
        config.random_seed = 1;
        let mut interface = Interface::new(config, &mut wire, now);
        interface.update_ip_addrs(|addresses| {
            let address = Ipv4Address::from(ADDRESS);
            let added = addresses.push(IpCidr::new(address.into(), 8));
            added.expect("room for an address");
        });
        let mut player = Self {
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            handles: Vec::new(),
            aside: Some(SocketSet::new(Vec::new())),
            step: Vec::new(),
            now,
        };
        for frame in introductions(trace.connections) {
            player.wire.received = vec![frame];
            player.wire.taken = 0;
            player.run();
        }
        player
    }

    /// Moves the connection that was established to the others.
    fn put_aside(&mut self) {
        let established: Vec<SocketHandle> =
            self.sockets.iter().map(|(handle, _)| handle).collect();
        for handle in established {
            if let AnySocket::Tcp(socket) = self.sockets.remove(handle)
                && let Some(aside) = &mut self.aside
            {
                self.handles.push(aside.add(socket));
            }
        }
    }
}

fn listening() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.listen(PORT).expect("a port");
    socket
}

/// What the server does with a socket that a frame came for.
#[inline]
fn serve(socket: &mut Socket<'_>) {
    if socket.can_recv() {
        let received = socket.recv(|bytes| (bytes.len(), bytes.len()));
        let response = [0x55; REQUEST];
        socket
            .send_slice(&response[..received.unwrap_or(0)])
            .expect("room to send");
    } else if !socket.is_open() {
        socket.listen(PORT).expect("a port");
    } else if socket.state() == State::CloseWait {
        socket.close();
    }
}

impl Stack for Player {
    fn prepare(&mut self, kind: Kind, connection: usize) {
        let known =
            self.handles.len() + usize::from(self.aside.is_some()) * self.sockets.iter().count();
        if kind == Kind::Setup && connection == known {
            self.put_aside();
            self.sockets.add(listening());
        } else if kind != Kind::Setup && self.aside.is_some() {
            self.put_aside();
            if let Some(all) = self.aside.take() {
                self.sockets = all;
            }
        }
        if kind == Kind::Counted && connection == self.handles.len() {
            // One socket serves all connections that are opened and closed again.
            let latest = self.handles.last().copied();
            let reused = latest.filter(|handle| self.sockets.get::<Socket>(*handle).is_listening());
            let handle = reused.unwrap_or_else(|| self.sockets.add(listening()));
            self.handles.push(handle);
        }
    }

    fn receive(&mut self, frames: Vec<(usize, Vec<u8>)>) {
        self.now += smoltcp::time::Duration::from_micros(INTERVAL as u64 * frames.len() as u64);
        self.step = match self.aside {
            Some(_) => self.sockets.iter().map(|(handle, _)| handle).collect(),
            None => frames
                .iter()
                .map(|(connection, _)| self.handles[*connection])
                .collect(),
        };
        self.wire.received = frames.into_iter().map(|(_, bytes)| bytes).collect();
        self.wire.taken = 0;
    }

    fn run(&mut self) {
        loop {
            let taken =
                self.interface
                    .poll_ingress_single(self.now, &mut self.wire, &mut self.sockets);
            if taken == PollIngressSingleResult::None {
                break;
            }
        }
        for handle in &self.step {
            serve(self.sockets.get_mut::<Socket>(*handle));
        }
        self.interface
            .poll_egress(self.now, &mut self.wire, &mut self.sockets);
    }

    fn sent(&self) -> Sent<'_> {
        Sent {
            frames: self.wire.frames,
            bytes: self.wire.bytes,
            latest: &self.wire.latest[..self.wire.len],
        }
    }
}
