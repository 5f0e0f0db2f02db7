//! The far end of the device's port, or of the switch that it is plugged into, as the command line chose it.

use std::os::fd::BorrowedFd;

use anyhow::Context;
use ix82599::wire::{
    DatagramSocket, Loopback, PacketSocket, StreamSocket, Tap, TapConfig, Wire, WireError,
};

use crate::options::Plugged;

/// Frames that may be under way in a loopback plug.
const LOOPBACK_FRAMES: usize = 1024;

/// A wire that `ixnicd` can plug in.
#[derive(Debug)]
pub(crate) enum Port {
    Tap(Tap),
    Packet(PacketSocket),
    Stream(StreamSocket),
    Datagram(DatagramSocket),
    Loopback(Loopback),
}

impl Port {
    pub(crate) fn open(options: &Plugged) -> anyhow::Result<Self> {
        if let Some(name) = &options.tap {
            let config = TapConfig {
                name: name.clone(),
                create_with_mtu: options.create_tap.then_some(options.mtu),
            };
            return Ok(Self::Tap(Tap::open(&config)?));
        }
        if let Some(name) = &options.interface {
            return Ok(Self::Packet(PacketSocket::open(name)?));
        }
        if let Some(path) = &options.stream {
            let socket = StreamSocket::connect(path).with_context(|| {
                let path = path.display();
                format!("nobody takes a connection at `{path}`: start who listens there first")
            });
            return Ok(Self::Stream(socket?));
        }
        if let Some([local, remote]) = options.dgram.as_deref() {
            let socket = DatagramSocket::bind(local, remote).with_context(|| {
                let (local, remote) = (local.display(), remote.display());
                format!("no datagrams from `{local}` to `{remote}`: the first must not exist, the second must")
            });
            return Ok(Self::Datagram(socket?));
        }
        Ok(Self::Loopback(Loopback::new(LOOPBACK_FRAMES)))
    }
}

/// The same call for each kind of wire.
macro_rules! each {
    ($port:expr, $wire:ident => $call:expr) => {
        match $port {
            Port::Tap($wire) => $call,
            Port::Packet($wire) => $call,
            Port::Stream($wire) => $call,
            Port::Datagram($wire) => $call,
            Port::Loopback($wire) => $call,
        }
    };
}

impl Wire for Port {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        each!(self, wire => wire.send(frame))
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        each!(self, wire => wire.receive(frame))
    }

    fn link_up(&self) -> bool {
        each!(self, wire => wire.link_up())
    }

    fn advance(&mut self, now_ns: u64) {
        each!(self, wire => wire.advance(now_ns));
    }

    fn deadline_ns(&self) -> Option<u64> {
        each!(self, wire => wire.deadline_ns())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        each!(self, wire => wire.readiness())
    }
}
