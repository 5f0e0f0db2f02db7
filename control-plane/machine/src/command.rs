//! The argument lists of QEMU and of the NIC model, and the kernel's command line: pure functions of
//! a configuration, so that tests can read them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::accel::Accel;
use crate::config::{CpuModel, MachineConfig};
use crate::net::{Ipv6Network, NicKind};

/// The TAP's name; it is alone in its namespace.
pub const TAP: &str = "ix0";

/// Descriptors of a receive queue of VIRTIO: as many as QEMU allows, since a frame takes two.
const VIRTIO_RX_QUEUE: u16 = 1024;

/// The port of isa-debug-exit: a byte `code` written there ends QEMU with `code << 1 | 1`.
const DEBUG_EXIT_PORT: &str = "isa-debug-exit,iobase=0xf4,iosize=4";

/// Arguments of QEMU for `config`, with its control socket and the card's socket.
pub fn qemu_args(
    config: &MachineConfig,
    accel: Accel,
    qmp_socket: &Path,
    nic_socket: &Path,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut pair = |flag: &str, value: OsString| {
        args.push(flag.into());
        args.push(value);
    };
    pair(
        "-machine",
        format!("q35,accel={accel},memory-backend=ram").into(),
    );
    pair("-cpu", cpu_model(&config.cpu_model, accel).into());
    pair("-smp", config.cpus.to_string().into());
    pair("-m", config.memory.to_string().into());
    // The card reads and writes guest memory through this memory's file descriptor.
    pair(
        "-object",
        format!(
            "memory-backend-memfd,id=ram,size={},share=on",
            config.memory
        )
        .into(),
    );
    pair("-kernel", config.kernel.clone().into());
    pair("-initrd", config.app.clone().into());
    pair("-append", kernel_command_line(config).into());
    for (flag, value) in nic_words(config, nic_socket) {
        pair(flag, value.into());
    }
    if let Some(channel) = &config.control {
        let mut server = OsString::from("socket,id=control,path=");
        server.push(escaped(&channel.socket));
        pair("-chardev", server);
        let vectors = channel.vectors;
        pair(
            "-device",
            format!("ivshmem-doorbell,chardev=control,vectors={vectors}").into(),
        );
    }
    pair("-device", DEBUG_EXIT_PORT.into());
    pair("-display", "none".into());
    pair("-serial", "stdio".into());
    let mut qmp = OsString::from("unix:");
    qmp.push(qmp_socket);
    qmp.push(",server=on,wait=off");
    pair("-qmp", qmp);
    args.extend(["-no-reboot".into(), "-nodefaults".into()]);
    args.extend(config.qemu_args.iter().map(OsString::from));
    args
}

/// The card and its backend. A card of QEMU's own is at the TAP itself, so that QEMU has to run where
/// the TAP is.
fn nic_words(config: &MachineConfig, nic_socket: &Path) -> Vec<(&'static str, String)> {
    let mac = config.network.mac;
    let port = ("-device", "pcie-root-port,id=rp0,chassis=1".to_owned());
    let tap = format!("tap,id=wire,ifname={TAP},script=no,downscript=no");
    match config.nic {
        NicKind::None => Vec::new(),
        NicKind::Intel82599 | NicKind::Virtual82599 => {
            let device = serde_json::json!({
                "driver": "vfio-user-pci",
                "bus": "rp0",
                "socket": { "type": "unix", "path": nic_socket },
            });
            vec![port, ("-device", device.to_string())]
        }
        NicKind::Igb => {
            let device = format!("igb,bus=rp0,netdev=wire,mac={mac}");
            vec![("-netdev", tap), port, ("-device", device)]
        }
        NicKind::Virtio => {
            let mut device = format!(
                "virtio-net-pci,bus=rp0,netdev=wire,mac={mac},disable-legacy=on,\
                 rx_queue_size={VIRTIO_RX_QUEUE},host_mtu={}",
                config.network.mtu
            );
            let mut tap = tap;
            if config.cpus > 1 {
                // Without the hash of each frame QEMU would spread them by a program of the host's
                // kernel, which it may not be allowed to load.
                tap += &format!(",queues={}", config.cpus);
                device += ",mq=on,rss=on,hash=on";
            }
            vec![("-netdev", tap), port, ("-device", device)]
        }
        NicKind::Host(address) => {
            vec![
                port,
                ("-device", format!("vfio-pci,bus=rp0,host={address}")),
            ]
        }
    }
}

/// Arguments of `ixnicd` for `config`, with the sockets for QEMU and for captures.
pub fn nic_args(config: &MachineConfig, nic_socket: &Path, wire_socket: &Path) -> Vec<OsString> {
    let model = &config.nic_model;
    let mut args: Vec<OsString> = Vec::new();
    let mut pair = |flag: &str, value: OsString| {
        args.push(flag.into());
        args.push(value);
    };
    pair("--socket", nic_socket.into());
    pair("--control-socket", wire_socket.into());
    pair("--tap", TAP.into());
    pair("--mac", config.network.mac.to_string().into());
    pair("--log", config.log_level.to_string().into());
    if let Some(vlan) = config.network.vlan {
        pair("--access-vlan", vlan.id.to_string().into());
    }
    if config.nic == NicKind::Virtual82599 {
        pair("--kind", "vf".into());
    }
    if let Some(pcap) = &model.pcap {
        pair("--pcap", pcap.into());
    }
    if let Some(doorbells) = model.doorbells {
        pair("--doorbells", doorbells.to_string().into());
    }
    for (flag, probability) in [
        ("--loss", model.loss),
        ("--reorder", model.reorder),
        ("--duplicate", model.duplicate),
    ] {
        if let Some(probability) = probability {
            pair(flag, probability.to_string().into());
        }
    }
    if let Some(seed) = model.seed {
        pair("--seed", seed.to_string().into());
    }
    if config.nic == NicKind::Virtual82599 && config.network.vlan.is_some() {
        // The dataplane has to join the VLAN that its configuration names.
        args.push("--trust".into());
    }
    args.extend(model.extra_args.iter().map(OsString::from));
    args
}

/// The kernel's command line: `key=value` words, then `--` and the application's arguments.
pub fn kernel_command_line(config: &MachineConfig) -> String {
    if let Some(foreign) = &config.foreign_command_line {
        return foreign.clone();
    }
    let network = &config.network;
    let nic = match config.nic {
        // What it is, the kernel finds out.
        NicKind::Host(_) => "auto".to_owned(),
        nic => nic.to_string(),
    };
    let mut words = vec![format!("nic={nic}"), format!("log={}", config.log_level)];
    if config.nic != NicKind::None {
        words.push(format!("ip={}/{}", network.guest, network.prefix_len));
        words.push(format!("gw={}", network.host));
        words.push(format!("mtu={}", network.mtu));
        if let Some(ipv6) = &network.ipv6 {
            words.extend(ipv6_words(ipv6));
        }
        words.extend(network.vlan.map(|vlan| format!("vlan={vlan}")));
    }
    words.extend(
        config
            .kernel_options
            .iter()
            .map(|(key, value)| format!("{key}={value}")),
    );
    if !config.app_args.is_empty() {
        words.push("--".to_owned());
        words.extend(config.app_args.iter().cloned());
    }
    words.join(" ")
}

/// A path in a list of QEMU's options, where a comma is written twice.
fn escaped(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut escaped = Vec::with_capacity(bytes.len());
    for byte in bytes {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}

fn ipv6_words(ipv6: &Ipv6Network) -> impl Iterator<Item = String> {
    let address = ipv6
        .guest
        .map(|guest| format!("ip6={guest}/{}", ipv6.prefix_len));
    // A router that advertises itself says so.
    let gateway = address.is_some().then(|| format!("gateway6={}", ipv6.host));
    let advertisements = ipv6.router_advertisements.then(|| "ra=on".to_owned());
    [address, gateway, advertisements].into_iter().flatten()
}

fn cpu_model(model: &CpuModel, accel: Accel) -> &str {
    match (model, accel) {
        (CpuModel::Named(name), _) => name,
        (CpuModel::Best, Accel::Kvm) => "host",
        (CpuModel::Best, Accel::Tcg) => "max",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::Artifacts;
    use crate::config::{ControlChannel, MemorySize};
    use crate::net::{Doorbells, NetworkConfig};

    fn config() -> MachineConfig {
        MachineConfig::new(&Artifacts::at("/images"), "echo")
    }

    fn joined(args: &[OsString]) -> String {
        args.iter()
            .map(|arg| arg.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn qemu_gets_shared_memory_and_the_card_behind_a_root_port() {
        let config = MachineConfig {
            memory: MemorySize::from_mib(5120),
            cpus: 2,
            ..config()
        };
        let args = qemu_args(
            &config,
            Accel::Tcg,
            Path::new("/run/q"),
            Path::new("/run/n,1"),
        );
        let line = joined(&args);
        assert!(
            line.contains("-machine q35,accel=tcg,memory-backend=ram -cpu max -smp 2 -m 5120M"),
            "{line}"
        );
        assert!(
            line.contains("memory-backend-memfd,id=ram,size=5120M,share=on"),
            "{line}"
        );
        let device = args
            .iter()
            .find(|arg| arg.to_str().unwrap().starts_with('{'))
            .unwrap();
        let device: serde_json::Value = serde_json::from_str(device.to_str().unwrap()).unwrap();
        assert_eq!(device["socket"]["path"], "/run/n,1");
        assert_eq!(device["bus"], "rp0");
    }

    #[test]
    fn a_virtual_function_is_trusted_where_it_has_to_join_a_vlan() {
        let mut config = MachineConfig {
            nic: NicKind::Virtual82599,
            ..config()
        };
        let line =
            |config: &MachineConfig| joined(&nic_args(config, Path::new("/n"), Path::new("/w")));
        let plain = line(&config);
        assert!(
            plain.contains("--kind vf") && !plain.contains("--trust"),
            "{plain}"
        );
        assert!(kernel_command_line(&config).starts_with("nic=vf "));
        config.network.vlan = "100".parse().ok();
        assert!(line(&config).ends_with("--trust"));
    }

    #[test]
    fn the_control_channel_is_a_device_with_a_vector_for_each_thread() {
        let channel = ControlChannel {
            socket: "/run/a,b/ivshmem.sock".into(),
            vectors: 4,
        };
        let config = MachineConfig {
            control: Some(channel),
            ..config()
        };
        let line = joined(&qemu_args(
            &config,
            Accel::Tcg,
            Path::new("/q"),
            Path::new("/n"),
        ));
        let device = "-chardev socket,id=control,path=/run/a,,b/ivshmem.sock \
                      -device ivshmem-doorbell,chardev=control,vectors=4 ";
        assert!(line.contains(device), "{line}");
    }

    #[test]
    fn a_machine_without_card_has_neither_device_nor_address() {
        let config = MachineConfig {
            nic: NicKind::None,
            ..config()
        };
        let line = joined(&qemu_args(
            &config,
            Accel::Kvm,
            Path::new("/q"),
            Path::new("/n"),
        ));
        assert!(
            !line.contains("vfio-user") && !line.contains("ip="),
            "{line}"
        );
        assert!(line.contains("-cpu host"), "{line}");
        assert_eq!(kernel_command_line(&config), "nic=none log=info");
    }

    #[test]
    fn a_card_of_qemu_is_at_the_tap_itself() {
        let config = MachineConfig {
            nic: NicKind::Igb,
            ..config()
        };
        let line = joined(&qemu_args(
            &config,
            Accel::Tcg,
            Path::new("/q"),
            Path::new("/n"),
        ));
        let card = "-netdev tap,id=wire,ifname=ix0,script=no,downscript=no \
                    -device pcie-root-port,id=rp0,chassis=1 \
                    -device igb,bus=rp0,netdev=wire,mac=52:54:00:12:34:56 ";
        assert!(line.contains(card) && !line.contains("vfio-user"), "{line}");
        assert!(kernel_command_line(&config).starts_with("nic=igb "));
    }

    #[test]
    fn a_card_of_the_host_is_handed_over_and_found_by_the_kernel() {
        let config = MachineConfig {
            nic: "0000:03:00.0".parse().unwrap(),
            ..config()
        };
        let (qmp, nic) = (Path::new("/q"), Path::new("/n"));
        let line = joined(&qemu_args(&config, Accel::Kvm, qmp, nic));
        let card = "-device vfio-pci,bus=rp0,host=0000:03:00.0 ";
        assert!(line.contains(card) && !line.contains("netdev"), "{line}");
        assert!(kernel_command_line(&config).starts_with("nic=auto log=info ip="));
    }

    #[test]
    fn a_virtio_card_has_a_queue_pair_for_each_cpu() {
        let mut config = MachineConfig {
            nic: NicKind::Virtio,
            ..config()
        };
        let line = |config: &MachineConfig| {
            let (qmp, nic) = (Path::new("/q"), Path::new("/n"));
            joined(&qemu_args(config, Accel::Tcg, qmp, nic))
        };
        config.cpus = 1;
        assert!(!line(&config).contains("rss="));
        config.cpus = 3;
        let line = line(&config);
        assert!(line.contains("downscript=no,queues=3 "), "{line}");
        assert!(
            line.contains(",host_mtu=1500,mq=on,rss=on,hash=on "),
            "{line}"
        );
    }

    #[test]
    fn kernel_command_line_ends_with_the_application_arguments() {
        let config = MachineConfig {
            network: NetworkConfig::for_guest("192.168.3.9/20").unwrap(),
            kernel_options: vec![("batch".to_owned(), "32".to_owned())],
            app_args: vec!["--port".to_owned(), "7".to_owned()],
            ..config()
        };
        assert_eq!(
            kernel_command_line(&config),
            "nic=82599 log=info ip=192.168.3.9/20 gw=192.168.0.1 mtu=1500 \
             ip6=fd69:7882:599::2/64 gateway6=fd69:7882:599::1 batch=32 -- --port 7"
        );
    }

    #[test]
    fn the_kernel_is_told_of_vlan_and_advertisements() {
        let mut config = config();
        config.network.vlan = "100:5".parse().ok();
        config.network.ipv6 = Some(Ipv6Network {
            guest: None,
            router_advertisements: true,
            ..Ipv6Network::default()
        });
        let line = kernel_command_line(&config);
        assert!(line.ends_with("mtu=1500 ra=on vlan=100:5"), "{line}");
        let args = joined(&nic_args(&config, Path::new("/run/n"), Path::new("/run/c")));
        assert!(args.ends_with("--access-vlan 100"), "{args}");
    }

    #[test]
    fn the_model_gets_only_what_is_set() {
        let mut config = config();
        assert_eq!(
            joined(&nic_args(&config, Path::new("/run/n"), Path::new("/run/c"))),
            "--socket /run/n --control-socket /run/c --tap ix0 --mac 52:54:00:12:34:56 --log info"
        );
        config.nic_model.loss = Some(0.01);
        config.nic_model.seed = Some(7);
        config.nic_model.doorbells = Some(Doorbells::Trapped);
        let line = joined(&nic_args(&config, Path::new("/run/n"), Path::new("/run/c")));
        assert!(
            line.ends_with("--doorbells trapped --loss 0.01 --seed 7"),
            "{line}"
        );
    }
}
