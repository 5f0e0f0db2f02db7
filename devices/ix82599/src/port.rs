//! The far end of the device's port, as the command line chose it.

use std::os::fd::BorrowedFd;

use ix82599::wire::{Loopback, Tap, TapConfig, TapError, Wire, WireError};

use crate::options::Options;

/// Frames that may be under way in a loopback plug.
const LOOPBACK_FRAMES: usize = 1024;

/// A wire that `ixnicd` can plug in.
#[derive(Debug)]
pub(crate) enum Port {
    Tap(Tap),
    Loopback(Loopback),
}

impl Port {
    pub(crate) fn open(options: &Options) -> Result<Self, TapError> {
        let Some(name) = &options.tap else {
            return Ok(Self::Loopback(Loopback::new(LOOPBACK_FRAMES)));
        };
        let config = TapConfig {
            name: name.clone(),
            create_with_mtu: options.create_tap.then_some(options.mtu),
        };
        Ok(Self::Tap(Tap::open(&config)?))
    }
}

impl Wire for Port {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        match self {
            Self::Tap(tap) => tap.send(frame),
            Self::Loopback(plug) => plug.send(frame),
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        match self {
            Self::Tap(tap) => tap.receive(frame),
            Self::Loopback(plug) => plug.receive(frame),
        }
    }

    fn link_up(&self) -> bool {
        match self {
            Self::Tap(tap) => tap.link_up(),
            Self::Loopback(plug) => plug.link_up(),
        }
    }

    fn advance(&mut self, now_ns: u64) {
        match self {
            Self::Tap(tap) => tap.advance(now_ns),
            Self::Loopback(plug) => plug.advance(now_ns),
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        match self {
            Self::Tap(tap) => tap.deadline_ns(),
            Self::Loopback(plug) => plug.deadline_ns(),
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tap(tap) => tap.readiness(),
            Self::Loopback(plug) => plug.readiness(),
        }
    }
}
