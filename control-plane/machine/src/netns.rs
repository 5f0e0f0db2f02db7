//! A network namespace with one TAP in it: the host's end of a machine's wire.
//!
//! The host's own interfaces, routes and names stay as they are, so machines can run beside each
//! other with the same addresses, and nothing is reachable from outside.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result};
use crate::net::NetworkConfig;
use crate::process::{find_tool, run_tool};

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// A network namespace that has a name. Whoever made it removes it; see [`OwnedNetns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The one that somebody else has made under that name.
    pub fn named(name: &str) -> Netns {
        Netns {
            name: name.to_owned(),
        }
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. Not by `ip netns exec`, which remounts `/sys` and cannot do so
    /// where the root folder is no mount point.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(find_tool("nsenter", "util-linux")?);
        let mut file = OsString::from("--net=");
        file.push(self.file());
        command.arg(file).arg("--").arg(program);
        Ok(command)
    }

    /// Runs `work` on a thread that lives inside: sockets that it opens belong to the namespace, also
    /// after it has returned them.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.file();
        let file = File::open(&path).map_err(Error::io(format!("open {}", path.display())))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
                    |error| Error::io(format!("enter namespace {}", self.name))(error.into()),
                )?;
                Ok(work())
            });
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn file(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }
}

/// A namespace and the duty to remove it.
#[derive(Debug)]
pub struct OwnedNetns(Netns);

impl OwnedNetns {
    /// Makes namespace `name` with interface `tap` in it, up and with the address of the host's end.
    pub fn create(name: &str, tap: &str, network: &NetworkConfig) -> Result<OwnedNetns> {
        Self::create_with_queues(name, tap, 1, network)
    }

    /// The same with a TAP that several queues can be at.
    pub fn create_with_queues(
        name: &str,
        tap: &str,
        queues: u32,
        network: &NetworkConfig,
    ) -> Result<OwnedNetns> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotPermitted {
                what: "a network namespace with a TAP",
            });
        }
        if !Path::new("/dev/net/tun").exists() {
            return Err(Error::ToolFailed {
                program: "the host's kernel".to_owned(),
                doing: "making a TAP".to_owned(),
                why: "there is no /dev/net/tun; load the module with `modprobe tun`".to_owned(),
            });
        }
        ip("adding a network namespace", &["netns", "add", name], "")?;
        let owned = OwnedNetns(Netns {
            name: name.to_owned(),
        });
        let queues = if queues > 1 { " multi_queue" } else { "" };
        let mut batch = format!(
            "link set lo up\n\
             tuntap add dev {tap} mode tap{queues}\n\
             addr add {}/{} dev {tap}\n\
             link set {tap} mtu {} up\n",
            network.host, network.prefix_len, network.mtu
        );
        if let Some(ipv6) = &network.ipv6 {
            // The two ends are the only stations, so that nobody else can have the address.
            batch += &format!(
                "addr add {}/{} dev {tap} nodad\n",
                ipv6.host, ipv6.prefix_len
            );
        }
        // Programs start in the namespace of the thread that starts them.
        owned.0.run(|| {
            if network.ipv6.is_none() {
                silence_ipv6();
            }
            ip("setting up a TAP", &["-batch", "-"], &batch)
        })??;
        Ok(owned)
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.0
    }
}

impl Drop for OwnedNetns {
    fn drop(&mut self) {
        if let Err(error) = remove_if_present(&self.0.name) {
            log::warn!("{error}");
        }
    }
}

/// Removes namespace `name`, and the TAP with it, if there is one.
pub(crate) fn remove_if_present(name: &str) -> Result<()> {
    if !PathBuf::from(NAMES).join(name).exists() {
        return Ok(());
    }
    ip("removing a network namespace", &["netns", "del", name], "").map(drop)
}

/// Where IPv6 is off, the host's router solicitations and group reports would only be in every
/// capture and in every instruction count.
fn silence_ipv6() {
    for scope in ["default", "all"] {
        let switch = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        if let Err(error) = fs::write(&switch, "1") {
            log::debug!("IPv6 stays as it is: {switch}: {error}");
        }
    }
}

fn ip(doing: &str, args: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(find_tool("ip", "iproute2")?);
    command.args(args);
    run_tool(doing, command, input)
}
