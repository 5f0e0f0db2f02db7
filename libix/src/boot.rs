//! The boot block: what the kernel tells a thread once, before it starts.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use ix_abi::area::BOOT;
use ix_abi::boot::{self, ARGUMENTS, ARGUMENTS_BYTES, ARGUMENTS_MAX};

use crate::area::Area;

/// The boot block of an area.
#[derive(Clone, Copy, Debug)]
pub struct BootBlock {
    area: Area,
}

impl BootBlock {
    /// The boot block of this area.
    pub fn new(area: Area) -> Self {
        Self { area }
    }

    /// First byte of the heap.
    pub fn heap_base(&self) -> u64 {
        self.area.load(BOOT + boot::HEAP_BASE)
    }

    /// Bytes of the heap.
    pub fn heap_bytes(&self) -> u64 {
        self.area.load(BOOT + boot::HEAP_BYTES)
    }

    /// First byte of the mbuf pool.
    pub fn mbuf_base(&self) -> u64 {
        self.area.load(BOOT + boot::MBUF_BASE)
    }

    /// Own IPv4 address.
    pub fn local_ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.area.load(BOOT + boot::LOCAL_IPV4) as u32)
    }

    /// Own IPv6 address, if one was configured.
    pub fn local_ipv6(&self) -> Option<Ipv6Addr> {
        let high = self.area.load(BOOT + boot::LOCAL_IPV6_HIGH);
        let low = self.area.load(BOOT + boot::LOCAL_IPV6_LOW);
        let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        Some(address).filter(|address| !address.is_unspecified())
    }

    /// TSC ticks per second, if known.
    pub fn tsc_hz(&self) -> Option<u64> {
        Some(self.area.load(BOOT + boot::TSC_HZ)).filter(|&hz| hz != 0)
    }

    /// Seconds from 1970 to time zero of [`Context::now`](crate::Context::now), if the machine has a
    /// clock that knows.
    pub fn unix_seconds(&self) -> Option<u64> {
        Some(self.area.load(BOOT + boot::UNIX_SECONDS)).filter(|&seconds| seconds != 0)
    }

    /// Index of this elastic thread.
    pub fn thread(&self) -> u64 {
        self.area.load(BOOT + boot::THREAD)
    }

    /// Number of elastic threads.
    pub fn threads(&self) -> u64 {
        self.area.load(BOOT + boot::THREADS).max(1)
    }

    /// Whether the machine has a processor for [`background`](crate::background) threads.
    pub fn has_background(&self) -> bool {
        self.area.load(BOOT + boot::BACKGROUND) != 0
    }

    /// The arguments; bytes that are no UTF-8 are replaced.
    pub fn arguments(&self) -> Vec<String> {
        let count = (self.area.load(BOOT + ARGUMENTS_BYTES) as usize).min(ARGUMENTS_MAX);
        let text: Vec<u8> = (0..count)
            .map(|index| {
                let word = self.area.load(BOOT + ARGUMENTS + index / 8);
                word.to_le_bytes()[index % 8]
            })
            .collect();
        text.split(|&byte| byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }
}
