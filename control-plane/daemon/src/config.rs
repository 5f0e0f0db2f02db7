//! The daemon's own configuration, in TOML.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ix_policy::Topology;
use serde::Deserialize;

/// Where the configuration is, unless another file is named; it need not exist.
pub const FILE: &str = "/etc/ix/ixcpd.toml";

/// What a user can decide about the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of all state.
    pub folder: PathBuf,
    /// Where the dataplane kernel, applications and the NIC model are; unless given, beside this
    /// program, or where `cargo xtask image` puts them.
    pub artifacts: Option<PathBuf>,
    /// Hardware threads that Linux keeps, like `0-1,8`; the first core unless given.
    pub reserved: Option<String>,
    /// Makes the machine up, with that many hardware threads, and pins nothing: to try grants on a
    /// machine that has too few.
    pub emulate_cores: Option<u32>,
    /// Group whose members may use the socket, beside root and the daemon's own user.
    pub group: Option<String>,
    /// Also listens here, a loopback address, for whoever has the token.
    pub tcp: Option<SocketAddr>,
    /// The file with the token for `tcp`.
    pub token_file: Option<PathBuf>,
    /// How often policies decide, in milliseconds.
    pub policy_period_ms: u64,
    /// Whether what policies see is written to `loads.csv` in each dataplane's folder, to be replayed.
    pub record_loads: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            folder: PathBuf::from("/run/ixcp"),
            artifacts: None,
            reserved: None,
            emulate_cores: None,
            group: None,
            tcp: None,
            token_file: None,
            policy_period_ms: 100,
            record_loads: false,
        }
    }
}

impl Config {
    /// Reads `file`. The default one may be absent, one that was named may not.
    pub fn read(file: Option<&Path>) -> Result<Config> {
        let path = file.unwrap_or(Path::new(FILE));
        let text = match fs::read_to_string(path) {
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Config::default());
            }
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let config = Config::parse(&text);
        config.with_context(|| format!("configuration {}", path.display()))
    }

    fn parse(text: &str) -> Result<Config> {
        let config: Config = toml::from_str(text)?;
        if let Some(tcp) = config.tcp {
            if !tcp.ip().is_loopback() {
                bail!("tcp = {tcp}: only loopback addresses, since nothing is encrypted");
            }
            if config.token_file.is_none() {
                bail!("tcp = {tcp}: it also needs token_file");
            }
        }
        if config.policy_period_ms == 0 {
            bail!("policy_period_ms has to be at least 1");
        }
        Ok(config)
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("ixcpd.sock")
    }

    /// The machine's hardware threads, and those of them that Linux keeps.
    pub fn topology(&self) -> Result<(Topology, Vec<u32>)> {
        let topology = match self.emulate_cores {
            Some(cores) => Topology::emulated(cores),
            None => Topology::read(Path::new(ix_policy::topology::SYSTEM))?,
        };
        let reserved = match &self.reserved {
            Some(list) => ix_policy::topology::parse_list(list)
                .ok_or_else(|| anyhow!("reserved = {list:?} is no list like 0-1,8"))?,
            None if self.emulate_cores.is_some() => Vec::new(),
            None => first_core(&topology),
        };
        Ok((topology, reserved))
    }
}

fn first_core(topology: &Topology) -> Vec<u32> {
    let first = topology.places().first();
    let siblings = first.map(|first| topology.siblings(first.id).map(|place| place.id).collect());
    siblings.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_will_do() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("sockte = '/x'", "sockte"),
            ("tcp = '0.0.0.0:80'\ntoken_file = '/t'", "loopback"),
            ("tcp = '127.0.0.1:80'", "token_file"),
            ("policy_period_ms = 0", "at least 1"),
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        let config = Config::parse("reserved = 'all'").unwrap();
        assert!(config.topology().is_err());
    }

    #[test]
    fn linux_keeps_the_first_core_of_a_real_machine() {
        let (topology, reserved) = Config::default().topology().unwrap();
        assert!(reserved.contains(&topology.places()[0].id));
        let config = Config::parse("emulate_cores = 4\nreserved = '0'").unwrap();
        let (topology, reserved) = config.topology().unwrap();
        assert_eq!((topology.places().len(), reserved), (4, vec![0]));
    }
}
