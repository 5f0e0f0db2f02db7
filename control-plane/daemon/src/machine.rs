//! From a definition to a virtual machine.

use std::path::PathBuf;

use ix_api::{Accel, Definition, Kind, LogLevel, Refusal};
use ix_machine::config::ControlChannel;
use ix_machine::{
    AccelChoice, Artifacts, Ipv6Choice, MachineConfig, MemorySize, NetworkConfig, Vlan,
};

/// Longest name of a dataplane: it is part of paths of sockets, which are short.
const NAME_MAX: usize = 32;

/// The machine that `definition` describes, with its control channel served at `ivshmem`.
pub fn config(
    definition: &Definition,
    artifacts: &Artifacts,
    ivshmem: PathBuf,
) -> Result<MachineConfig, Refusal> {
    check(definition)?;
    let mut config = MachineConfig::new(artifacts, &definition.app);
    if definition.app.contains('/') {
        config.app = PathBuf::from(&definition.app);
    }
    config.app_args = definition.args.clone();
    config.cpus = definition.threads + u32::from(definition.background);
    config.memory = definition.memory.parse::<MemorySize>().map_err(invalid)?;
    config.accel = match definition.accel {
        Accel::Auto => AccelChoice::Auto,
        Accel::Kvm => AccelChoice::Fixed(ix_machine::Accel::Kvm),
        Accel::Tcg => AccelChoice::Fixed(ix_machine::Accel::Tcg),
    };
    config.nic = definition.nic.parse().map_err(invalid)?;
    config.network = NetworkConfig::for_guest(&definition.ip).map_err(invalid)?;
    config.network.ipv6 = definition.ipv6.parse::<Ipv6Choice>().map_err(invalid)?.0;
    config.network.vlan = vlan(definition)?;
    config.network.mtu = definition.mtu;
    if let Some(mac) = &definition.mac {
        config.network.mac = mac.parse().map_err(invalid)?;
    }
    config.nic_model.pcap = definition.pcap.clone();
    config.log_level = match definition.log {
        LogLevel::Error => ix_machine::LogLevel::Error,
        LogLevel::Warn => ix_machine::LogLevel::Warn,
        LogLevel::Info => ix_machine::LogLevel::Info,
        LogLevel::Debug => ix_machine::LogLevel::Debug,
        LogLevel::Trace => ix_machine::LogLevel::Trace,
    };
    let mut option = |key: &str, value: String| config.kernel_options.push((key.to_owned(), value));
    if definition.poll {
        option("poll", "on".to_owned());
    }
    if let Some(granted) = definition.granted.filter(|it| *it < definition.threads) {
        option("granted", granted.to_string());
    }
    if definition.background {
        option("background", "1".to_owned());
    }
    config.kernel_options.extend(definition.kernel.clone());
    config.control = Some(ControlChannel {
        socket: ivshmem,
        vectors: definition.threads,
    });
    config.check().map_err(invalid)?;
    Ok(config)
}

/// The VLAN that it belongs to.
fn vlan(definition: &Definition) -> Result<Option<Vlan>, Refusal> {
    match (definition.vlan, definition.vlan_priority) {
        (None, None) => Ok(None),
        (Some(id), priority) => {
            let text = format!("{id}:{}", priority.unwrap_or(0));
            text.parse().map(Some).map_err(invalid)
        }
        (None, Some(_)) => Err(Refusal::new(
            Kind::Invalid,
            format!("{}: `vlan_priority` without a VLAN", definition.name),
            "say which one, `vlan = 100`, or leave the priority out",
        )),
    }
}

/// Refuses what cannot work, before anything is made of it.
fn check(definition: &Definition) -> Result<(), Refusal> {
    let name = &definition.name;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_plain) {
        return Err(Refusal::new(
            Kind::Invalid,
            format!("{name:?} cannot be a name"),
            format!("use letters, digits, - and _, at most {NAME_MAX}"),
        ));
    }
    let threads = definition.threads;
    if definition
        .granted
        .is_some_and(|granted| !(1..=threads).contains(&granted))
    {
        return Err(Refusal::new(
            Kind::Invalid,
            format!("{name}: `granted` is out of range"),
            format!("use 1 to {threads}, the number of `threads`"),
        ));
    }
    if definition.kernel.contains_key("background") {
        return Err(Refusal::new(
            Kind::Invalid,
            format!("{name}: `background` among the kernel's options takes a CPU from its threads"),
            "write `background = true` beside `threads`, for one CPU more",
        ));
    }
    check_policy(definition)
}

/// Refuses bounds that contradict each other.
pub fn check_policy(definition: &Definition) -> Result<(), Refusal> {
    let policy = &definition.policy;
    let most = policy.max.unwrap_or(definition.threads);
    if policy.min < 1 || policy.min > most || most > definition.threads {
        return Err(Refusal::new(
            Kind::Invalid,
            format!(
                "{}: a policy cannot keep it between {} and {most} of {} threads",
                definition.name, policy.min, definition.threads
            ),
            "let `min` be at least 1, and `max` at least `min` and at most `threads`",
        ));
    }
    if policy.weight == 0 {
        return Err(Refusal::new(
            Kind::Invalid,
            format!("{}: a weight of 0", definition.name),
            "use 1 or more",
        ));
    }
    Ok(())
}

fn invalid(error: ix_machine::Error) -> Refusal {
    Refusal::new(
        Kind::Invalid,
        error.to_string(),
        "change the definition and run it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Refusal {
        let definition = toml::from_str(text).unwrap();
        let artifacts = Artifacts::at("/nowhere");
        config(&definition, &artifacts, PathBuf::from("/i")).unwrap_err()
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_change() {
        for (text, part) in [
            ("name = 'a b'\napp = 'x'", "cannot be a name"),
            ("name = '../a'\napp = 'x'", "cannot be a name"),
            (
                "name = 'a'\napp = 'x'\nthreads = 2\ngranted = 3",
                "use 1 to 2",
            ),
            ("name = 'a'\napp = 'x'\ngranted = 0", "use 1 to 1"),
            (
                "name = 'a'\napp = 'x'\n[kernel]\nbackground = '1'",
                "write `background = true`",
            ),
            ("name = 'a'\napp = 'x'\nthreads = 65", "use 1 to 64"),
            ("name = 'a'\napp = 'x'\nmemory = '1K'", "512M"),
            ("name = 'a'\napp = 'x'\nip = '10.0.0.0'", "broadcast"),
            ("name = 'a'\napp = 'x'\nipv6 = 'on'", "fd00:9::2"),
            ("name = 'a'\napp = 'x'\nnic = 'e1000'", "0000:03:00.0"),
            ("name = 'a'\napp = 'x'\nvlan = 4095", "use 1 to 4094"),
            ("name = 'a'\napp = 'x'\nvlan_priority = 1", "vlan = 100"),
            (
                "name = 'a'\napp = 'x'\nvlan = 5\nvlan_priority = 8",
                "0 to 7",
            ),
            ("name = 'a'\napp = 'x'\nmtu = 9001", "576 to 9000"),
            ("name = 'a'\napp = 'x'\nmtu = 1279", "IPv6 needs 1280"),
            (
                "name = 'a'\napp = 'x'\n[policy]\nmin = 2",
                "between 2 and 1",
            ),
            (
                "name = 'a'\napp = 'x'\n[policy]\nweight = 0",
                "use 1 or more",
            ),
            ("name = 'a'\napp = 'x'", "cargo xtask image"),
        ] {
            let text = refused(text).to_string();
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_definition_becomes_a_machine_with_a_channel() {
        let folder = tempfile::tempdir().unwrap();
        let elf = std::fs::read("/proc/self/exe").unwrap();
        for name in ["ixkernel.elf", "kv.elf", "ixnicd"] {
            std::fs::write(folder.path().join(name), &elf[..64]).unwrap();
        }
        let text = "name = 'a'\napp = 'kv'\nthreads = 4\ngranted = 1\npoll = true\n\
                    background = true\nipv6 = 'fd00:9::7/48'\nvlan = 100\nvlan_priority = 5\n\
                    mtu = 9000\n[kernel]\ncongestion = 'dctcp'";
        let definition = toml::from_str(text).unwrap();
        let artifacts = Artifacts::at(folder.path());
        let config = config(&definition, &artifacts, PathBuf::from("/i")).unwrap();
        assert_eq!(config.cpus, 5);
        let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            option("poll", "on"),
            option("granted", "1"),
            option("background", "1"),
            option("congestion", "dctcp"),
        ];
        assert_eq!(config.kernel_options, expected);
        let words = ix_machine::command::kernel_command_line(&config);
        for word in ["ip6=fd00:9::7/48", "vlan=100:5", "mtu=9000"] {
            assert!(words.split(' ').any(|it| it == word), "{words}");
        }
        let channel = config.control.unwrap();
        assert_eq!((channel.socket, channel.vectors), (PathBuf::from("/i"), 4));
    }
}
