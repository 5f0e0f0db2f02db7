//! What a dataplane is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A dataplane, as a user defines it. Only `name` and `app` have to be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name: letters, digits, `-` and `_`, at most 32.
    pub name: String,
    /// The application: its name among the artifacts, or the path of its image.
    pub app: String,
    /// Arguments of the application.
    #[serde(default)]
    pub args: Vec<String>,
    /// Elastic threads, and with it virtual CPUs: the most hardware threads that it can be granted.
    #[serde(default = "one")]
    pub threads: u32,
    /// Threads that serve at the start; all of them unless given.
    #[serde(default)]
    pub granted: Option<u32>,
    /// Whether it can have background threads, on one virtual CPU and one hardware thread more.
    #[serde(default)]
    pub background: bool,
    /// Memory, like 512M or 5G.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// Address and prefix length; the host's end of the wire is the first other address of the subnet.
    #[serde(default = "default_ip")]
    pub ip: String,
    /// IPv6 address and prefix length, to which the same applies; `off` for IPv4 alone, `ra` to wait for
    /// a router's advertisement.
    #[serde(default = "default_ipv6")]
    pub ipv6: String,
    /// VLAN that it belongs to, 1 to 4094. The host's end is behind an access port of it.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// Priority of its frames in that VLAN, 0 to 7.
    #[serde(default)]
    pub vlan_priority: Option<u8>,
    /// Largest IP packet in bytes, 576 to 9000, and with IPv6 at least 1280.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Ethernet address.
    #[serde(default)]
    pub mac: Option<String>,
    /// The card: `82599`, `vf` (a virtual function of one), `igb` or `virtio` as QEMU and `ixnicd` model them, the PCI address of one of
    /// this machine, like `0000:03:00.0`, or `none`.
    #[serde(default = "default_nic")]
    pub nic: String,
    /// Who executes the guest's instructions.
    #[serde(default)]
    pub accel: Accel,
    /// Further keys of the dataplane kernel's command line, such as `congestion = "dctcp"`. One that it
    /// does not know, or a value out of range, ends it at the start, and its log says why.
    #[serde(default)]
    pub kernel: BTreeMap<String, String>,
    /// Polls also when idle, for the lowest latency.
    #[serde(default)]
    pub poll: bool,
    /// What its kernel and its card's model say.
    #[serde(default)]
    pub log: LogLevel,
    /// Records the wire in this file.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub pcap: Option<PathBuf>,
    /// Who decides how many hardware threads it has.
    #[serde(default)]
    pub policy: Policy,
}

/// Who executes a guest's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// The host's CPU.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// How much is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Who decides how many hardware threads a dataplane has, and by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Who decides.
    pub mode: Mode,
    /// The fewest threads that it is left with.
    pub min: u32,
    /// The most threads that it is given; all that it has unless given.
    pub max: Option<u32>,
    /// Its share among those that are `fair`.
    pub weight: u32,
    /// A busy cycle may take this long before the dataplane grows, in microseconds.
    pub target_loop_us: f64,
    /// It grows when on average more frames than this wait at each thread.
    pub grow_queue: f64,
    /// It shrinks only when fewer frames than this wait at each thread over the long horizon.
    pub shrink_queue: f64,
    /// It shrinks only when the remaining threads would be busy for less than this part of the time.
    pub shrink_busy: f64,
    /// Time after a change before it grows, in milliseconds.
    pub grow_hold_ms: u64,
    /// Time after a change before it shrinks, in milliseconds.
    pub shrink_hold_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            mode: Mode::Manual,
            min: 1,
            max: None,
            weight: 1,
            target_loop_us: 500.0,
            grow_queue: 16.0,
            shrink_queue: 2.0,
            shrink_busy: 0.6,
            grow_hold_ms: 200,
            shrink_hold_ms: 2_000,
        }
    }
}

/// Who decides how many hardware threads a dataplane has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nobody: it keeps what it started with.
    Static,
    /// Whoever grants and revokes.
    Manual,
    /// Its own load.
    Elastic,
    /// Its own load, and the weights of all that are fair.
    Fair,
}

fn one() -> u32 {
    1
}

fn default_memory() -> String {
    "512M".to_owned()
}

fn default_nic() -> String {
    "82599".to_owned()
}

fn default_ip() -> String {
    "10.9.0.2/24".to_owned()
}

fn default_ipv6() -> String {
    "fd69:7882:599::2/64".to_owned()
}

fn default_mtu() -> u16 {
    1500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_needs_a_name_and_an_application() {
        let definition: Definition = toml::from_str("name = 'kv'\napp = 'echo'").unwrap();
        assert_eq!(
            (definition.threads, definition.memory.as_str()),
            (1, "512M")
        );
        assert_eq!((definition.vlan, definition.mtu), (None, 1500));
        assert_eq!(definition.policy, Policy::default());
        assert!(toml::from_str::<Definition>("name = 'kv'").is_err());
    }

    #[test]
    fn everything_can_be_given() {
        let text = "name = 'kv'\napp = 'echo'\nargs = ['7']\nthreads = 4\ngranted = 2\n\
            background = true\nmemory = '1G'\nip = '10.1.0.2/16'\nipv6 = 'ra'\nvlan = 100\n\
            vlan_priority = 5\nmtu = 9000\nmac = '52:54:00:00:00:01'\nnic = 'none'\n\
            accel = 'tcg'\npoll = true\nlog = 'debug'\npcap = '/tmp/w.pcap'\n\
            [policy]\nmode = 'fair'\nmin = 2\nmax = 3\nweight = 5\n";
        let definition: Definition = toml::from_str(text).unwrap();
        assert_eq!(definition.nic, "none");
        assert!(definition.background);
        assert_eq!(
            (definition.vlan, definition.vlan_priority, definition.mtu),
            (Some(100), Some(5), 9000)
        );
        assert_eq!(definition.policy.mode, Mode::Fair);
        assert_eq!(
            (definition.policy.max, definition.policy.weight),
            (Some(3), 5)
        );
        let json = serde_json::to_string(&definition).unwrap();
        assert_eq!(
            serde_json::from_str::<Definition>(&json).unwrap(),
            definition
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (text, key) in [
            ("name = 'a'\napp = 'b'\ncpus = 2", "cpus"),
            ("name = 'a'\napp = 'b'\n[policy]\ngreed = 1", "greed"),
            ("name = 'a'\napp = 'b'\naccel = 'hvf'", "hvf"),
        ] {
            let error = toml::from_str::<Definition>(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
