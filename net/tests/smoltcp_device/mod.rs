//! smoltcp as the peer: its interface at 10.0.0.9 and fd00::9, on a device made of two queues.

#![allow(dead_code, reason = "each test file uses its part")]

use crate::support;
use core::net::Ipv4Addr;
use ix_hal::Instant;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::{EthernetAddress, IpCidr};
use std::collections::VecDeque;

/// A device made of two queues.
pub struct Queues {
    pub received: VecDeque<Vec<u8>>,
    pub sent: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Queues {
    /// Empty, with frames of up to `mtu` bytes.
    pub fn new(mtu: usize) -> Self {
        Self {
            received: VecDeque::new(),
            sent: VecDeque::new(),
            mtu,
        }
    }
}

/// A frame on its way up.
pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame on its way down.
pub struct Sender<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Received, Sender<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sender(&mut self.sent)))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// The time as smoltcp has it.
pub fn clock(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.0 / 1000) as i64)
}

/// The interface.
pub fn interface(device: &mut Queues, seed: u64) -> Interface {
    let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 9]).into());
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, clock(support::START));
    interface.update_ip_addrs(|addresses| {
        for address in [
            IpCidr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 24),
            IpCidr::new(support::ipv6(9).into(), 64),
        ] {
            addresses.push(address).expect("room for an address");
        }
    });
    interface
}
