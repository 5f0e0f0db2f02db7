//! A network namespace with a TAP in it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use ix_machine::netns::OwnedNetns;
use ix_machine::{Netns, NetworkConfig};
use ix82599::wire::{Impaired, Impairment, Tap, TapConfig};

const TAP: &str = "tap0";

/// A Linux host: a namespace that lives as long as its [`Wire`].
#[derive(Clone)]
pub struct LinuxHost(Netns);

impl LinuxHost {
    /// Runs `work` in the namespace; sockets that it opens stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let result = self.0.run(work);
        result.unwrap_or_else(|error| panic!("enter the namespace: {error}"))
    }
}

/// The other end of a Linux host's only interface.
pub struct Wire {
    namespace: OwnedNetns,
    /// Frames from and to Linux.
    pub tap: Impaired<Tap>,
}

impl Wire {
    /// Makes a Linux host with that address, on a wire that does `impairment` to frames.
    pub fn new(address: Ipv4Addr, impairment: Impairment) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ixpeer{}-{count}", std::process::id());
        let network = NetworkConfig {
            host: address,
            ..NetworkConfig::default()
        };
        let namespace = OwnedNetns::create(&name, TAP, &network)
            .unwrap_or_else(|error| panic!("make a namespace: {error}"));
        let config = TapConfig {
            name: TAP.to_owned(),
            create_with_mtu: None,
        };
        let tap = namespace.netns().run(|| Tap::open(&config));
        let tap = tap
            .unwrap_or_else(|error| panic!("enter the namespace: {error}"))
            .unwrap_or_else(|error| panic!("open the TAP: {error}"));
        Self {
            namespace,
            tap: Impaired::new(tap, impairment),
        }
    }

    /// The host.
    pub fn linux(&self) -> LinuxHost {
        LinuxHost(self.namespace.netns().clone())
    }
}

/// A wire that loses that share of the frames in each direction.
pub fn lossy(loss: f64) -> Impairment {
    Impairment {
        loss,
        seed: 7,
        ..Impairment::default()
    }
}
