//! Commands that change something.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ix_api::{
    Dataplane, Definition, GrantRequest, Kind, MigrateRequest, Mode, Moved, Policy, Refusal,
    RevokeRequest, State,
};

use super::{Bounds, PolicyChange};
use crate::client::{Client, escaped};
use crate::command::show;

/// How long a machine may take to serve; long, for hosts that emulate.
const START_PATIENCE: Duration = Duration::from_secs(120);
const START_PERIOD: Duration = Duration::from_millis(50);

/// What replaces parts of a definition.
pub struct Overrides {
    pub name: Option<String>,
    pub threads: Option<u32>,
    pub granted: Option<u32>,
    pub ip: Option<String>,
    pub ipv6: Option<String>,
    pub vlan: Option<u16>,
    pub mtu: Option<u16>,
    pub args: Vec<String>,
}

/// Starts a dataplane, and waits until it serves.
pub async fn run(
    client: &Client,
    what: &str,
    overrides: Overrides,
    wait: bool,
    json: bool,
) -> Result<ExitCode> {
    let definition = definition(what, overrides)?;
    let name = escaped(&definition.name);
    let mut dataplane: Dataplane = client.post("/v1/dataplanes", &definition).await?;
    let deadline = Instant::now() + START_PATIENCE;
    while wait && dataplane.state == State::Starting {
        if Instant::now() > deadline {
            bail!(
                "{} does not serve after {} s; `ixctl logs {0}` may say why",
                definition.name,
                START_PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(START_PERIOD).await;
        dataplane = client.get(&format!("/v1/dataplanes/{name}")).await?;
    }
    if json {
        show::json(&dataplane)?;
    } else {
        print!("{}", described(&dataplane));
    }
    Ok(match dataplane.state {
        State::Ended => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Stops a dataplane.
pub async fn stop(client: &Client, name: &str) -> Result<()> {
    client
        .delete(&format!("/v1/dataplanes/{}", escaped(name)))
        .await
}

/// Grants hardware threads.
pub async fn grant(
    client: &Client,
    name: &str,
    count: Option<u32>,
    core: Option<u32>,
    json: bool,
) -> Result<()> {
    let request = GrantRequest { count, core };
    let path = format!("/v1/dataplanes/{}/grant", escaped(name));
    show_threads(&client.post(&path, &request).await?, json)
}

/// Takes hardware threads back.
pub async fn revoke(
    client: &Client,
    name: &str,
    count: Option<u32>,
    core: Option<u32>,
    json: bool,
) -> Result<()> {
    let request = RevokeRequest { count, core };
    let path = format!("/v1/dataplanes/{}/revoke", escaped(name));
    show_threads(&client.post(&path, &request).await?, json)
}

/// Moves flow groups.
pub async fn migrate(client: &Client, name: &str, groups: &str, to: u32, json: bool) -> Result<()> {
    let request = MigrateRequest {
        groups: group_list(groups)?,
        to,
    };
    let path = format!("/v1/dataplanes/{}/migrate", escaped(name));
    let moved: Moved = client.post(&path, &request).await?;
    if json {
        return show::json(&moved);
    }
    println!("{} flow groups moved", moved.groups);
    Ok(())
}

/// Changes the policy.
pub async fn policy(client: &Client, name: &str, change: &PolicyChange, json: bool) -> Result<()> {
    let path = format!("/v1/dataplanes/{}/policy", escaped(name));
    let present: Policy = client.get(&path).await?;
    let changed: Policy = client.put(&path, &changed(present, change)).await?;
    show::print_policy(&changed, json)
}

fn changed(mut policy: Policy, change: &PolicyChange) -> Policy {
    let (mode, bounds) = match change {
        PolicyChange::Explain => return policy,
        PolicyChange::Static => (Mode::Static, None),
        PolicyChange::Manual => (Mode::Manual, None),
        PolicyChange::Elastic(bounds) => (Mode::Elastic, Some(*bounds)),
        PolicyChange::Fair(bounds) => (Mode::Fair, Some(*bounds)),
    };
    policy.mode = mode;
    if let Some(Bounds {
        min,
        max,
        weight,
        target_loop_us,
    }) = bounds
    {
        policy.min = min.unwrap_or(policy.min);
        policy.max = max.or(policy.max);
        policy.weight = weight.unwrap_or(policy.weight);
        policy.target_loop_us = target_loop_us.unwrap_or(policy.target_loop_us);
    }
    policy
}

/// A definition from a file, or of an application with everything else as it is by default. Paths in
/// a file are relative to it, and the daemon is told where they lead.
fn definition(what: &str, overrides: Overrides) -> Result<Definition> {
    let file = Path::new(what);
    let mut definition: Definition = if file.extension().is_some_and(|it| it == "toml") {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {what}"))?;
        toml::from_str(&text).map_err(|error| {
            let remedy = "change it; README.md has an example";
            Refusal::new(Kind::Invalid, format!("definition {what}: {error}"), remedy)
        })?
    } else {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let minimal = serde_json::json!({ "name": name, "app": what });
        serde_json::from_value(minimal)?
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    if definition.app.contains('/') {
        let app = std::path::absolute(folder.join(&definition.app))?;
        definition.app = app.to_string_lossy().into_owned();
    }
    if let Some(pcap) = &mut definition.pcap {
        *pcap = std::path::absolute(folder.join(&*pcap))?;
    }
    if let Some(name) = overrides.name {
        definition.name = name;
    }
    if let Some(threads) = overrides.threads {
        definition.threads = threads;
    }
    definition.granted = overrides.granted.or(definition.granted);
    if let Some(ip) = overrides.ip {
        definition.ip = ip;
    }
    if let Some(ipv6) = overrides.ipv6 {
        definition.ipv6 = ipv6;
    }
    definition.vlan = overrides.vlan.or(definition.vlan);
    definition.mtu = overrides.mtu.unwrap_or(definition.mtu);
    if !overrides.args.is_empty() {
        definition.args = overrides.args;
    }
    Ok(definition)
}

fn described(dataplane: &Dataplane) -> String {
    let name = &dataplane.name;
    let address = dataplane.ip.split('/').next().unwrap_or_default();
    match (dataplane.state, &dataplane.netns) {
        (State::Ended, _) => format!(
            "{name} has ended: {}\n",
            dataplane.ended.as_deref().unwrap_or("nobody knows how")
        ),
        (State::Starting, _) => format!("{name} starts\n"),
        (State::Running, None) => format!("{name} runs, without a card\n"),
        (State::Running, Some(netns)) => {
            let granted = match dataplane.granted() {
                1 => "1 hardware thread".to_owned(),
                several => format!("{several} hardware threads"),
            };
            format!(
                "{name} serves {address} on {granted}; reach it from its namespace:\n  \
                 ip netns exec {netns} ping {address}\n"
            )
        }
    }
}

fn show_threads(dataplane: &Dataplane, json: bool) -> Result<()> {
    if json {
        return show::json(dataplane);
    }
    let cores: Vec<String> = dataplane
        .cores
        .iter()
        .flatten()
        .map(u32::to_string)
        .collect();
    println!(
        "{} has hardware threads {}",
        dataplane.name,
        cores.join(", ")
    );
    Ok(())
}

/// A list like `0-3,17`.
fn group_list(text: &str) -> Result<Vec<u32>> {
    const MOST: u32 = 128;
    let bad = || format!("{text:?} is no list of flow groups like 0-3,17");
    let mut groups = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (
            first.parse().with_context(bad)?,
            last.parse().with_context(bad)?,
        );
        if first > last || last >= MOST {
            bail!("{}", bad());
        }
        groups.extend(first..=last);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Overrides {
        Overrides {
            name: None,
            threads: None,
            granted: None,
            ip: None,
            ipv6: None,
            vlan: None,
            mtu: None,
            args: Vec::new(),
        }
    }

    #[test]
    fn lists_of_groups_are_read_and_nonsense_is_not() {
        assert_eq!(group_list("0-3,17").unwrap(), [0, 1, 2, 3, 17]);
        for text in ["", "a", "3-1", "0-128", "1,,2"] {
            assert!(group_list(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_application_is_a_definition_and_flags_change_it() {
        let plain = definition("echo", nothing()).unwrap();
        assert_eq!((plain.name.as_str(), plain.app.as_str()), ("echo", "echo"));
        let overrides = Overrides {
            name: Some("a".to_owned()),
            threads: Some(4),
            granted: Some(2),
            ipv6: Some("off".to_owned()),
            vlan: Some(7),
            mtu: Some(1200),
            args: vec!["9".to_owned()],
            ..nothing()
        };
        let changed = definition("/images/kv.elf", overrides).unwrap();
        assert_eq!((changed.name.as_str(), changed.threads), ("a", 4));
        assert_eq!(changed.granted, Some(2));
        assert_eq!(changed.ipv6, "off");
        assert_eq!((changed.vlan, changed.mtu), (Some(7), 1200));
        assert_eq!(
            (changed.app.as_str(), changed.args.len()),
            ("/images/kv.elf", 1)
        );
    }

    #[test]
    fn paths_in_a_file_are_relative_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kv.toml");
        let text = "name = 'kv'\napp = './kv.elf'\npcap = 'wire.pcap'";
        fs::write(&file, text).unwrap();
        let read = definition(file.to_str().unwrap(), nothing()).unwrap();
        assert_eq!(Path::new(&read.app), folder.path().join("kv.elf"));
        assert_eq!(read.pcap.unwrap(), folder.path().join("wire.pcap"));
        fs::write(&file, "name = 'kv'\ncpus = 2").unwrap();
        let error = definition(file.to_str().unwrap(), nothing()).unwrap_err();
        assert!(error.to_string().contains("cpus"), "{error}");
    }

    #[test]
    fn a_change_of_policy_keeps_what_is_not_given() {
        let before = Policy {
            min: 2,
            weight: 7,
            ..Policy::default()
        };
        let bounds = Bounds {
            min: None,
            max: Some(5),
            weight: None,
            target_loop_us: None,
        };
        let after = changed(before, &PolicyChange::Fair(bounds));
        assert_eq!((after.mode, after.min, after.max), (Mode::Fair, 2, Some(5)));
        assert_eq!(after.weight, 7);
    }
}
