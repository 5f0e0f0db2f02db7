//! A network namespace with a TAP in it.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use ix_machine::netns::OwnedNetns;
use ix_machine::{Netns, NetworkConfig};
use ix82599::wire::{Tap, TapConfig};

use super::{Distant, Path};

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

    /// Sets one of the host's `net.ipv4` parameters.
    pub fn set(&self, parameter: &str, value: &str) {
        let file = format!("/proc/sys/net/ipv4/{parameter}");
        let written = self.inside(|| fs::write(&file, value));
        written.unwrap_or_else(|error| panic!("write {value} to {file}: {error}"));
    }

    /// One of its TCP counters, as `nstat` names them without the prefix.
    pub fn counter(&self, group: &str, name: &str) -> u64 {
        let file = self.inside(|| {
            let files = [
                "/proc/thread-self/net/snmp",
                "/proc/thread-self/net/netstat",
            ];
            files.map(|file| fs::read_to_string(file).expect("Linux counts"))
        });
        let mut lines = file
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let mut pairs = names.split(' ').zip(values.split(' '));
            if let Some((_, value)) = pairs.find(|(known, _)| *known == name) {
                return value.parse().expect("a number");
            }
        }
        panic!("Linux has no counter {group}{name}");
    }
}

/// The other end of a Linux host's only interface.
pub struct Wire {
    /// None if the host is not a namespace of this machine.
    namespace: Option<OwnedNetns>,
    /// Frames from and to Linux.
    pub tap: Distant,
}

impl Wire {
    /// Makes a Linux host with that address, at the end of `path`.
    pub fn new(address: Ipv4Addr, path: Path) -> Self {
        let network = NetworkConfig {
            host: address,
            ipv6: None,
            ..NetworkConfig::default()
        };
        Self::with_network(&network, path)
    }

    /// The same with all that can be said of a network.
    pub fn with_network(network: &NetworkConfig, path: Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ixpeer{}-{count}", std::process::id());
        let namespace = OwnedNetns::create(&name, TAP, network)
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
            namespace: Some(namespace),
            tap: Distant::new(tap, path),
        }
    }

    /// The wire behind a TAP that somebody else cares for, as that of a virtual machine.
    pub fn behind(tap: Tap, path: Path) -> Self {
        Self {
            namespace: None,
            tap: Distant::new(tap, path),
        }
    }

    /// The host.
    pub fn linux(&self) -> LinuxHost {
        let namespace = self.namespace.as_ref();
        LinuxHost(namespace.expect("a namespace").netns().clone())
    }
}
