//! Debian's passt, which connects a machine to the world by a `stream` socket, without any privilege.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ix_machine::{Netns, qemu};
use ix_small_linux::packages::{self, Source};

/// How long it may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// What it is to do.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// Address of the machine.
    pub guest: Ipv4Addr,
    /// Length of its subnet's prefix.
    pub prefix_len: u8,
    /// The gateway, which is also who connections of the host itself come from.
    pub gateway: Ipv4Addr,
    /// The host's port, and the machine's that it leads to.
    pub ports: (u16, u16),
}

/// A running passt, which ends with this.
pub struct Passt {
    process: Child,
    folder: tempfile::TempDir,
}

impl Passt {
    /// Starts it in a namespace, which has a default route.
    ///
    /// # Errors
    /// What it says when it does not come up.
    pub fn start(netns: &Netns, forward: &Forward) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        // Started by root it goes on as nobody, and makes its socket then.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))
            .context("cannot open the folder for passt")?;
        let mut command = netns.command(&fetched()?)?;
        command.args(["--foreground", "--stderr", "-4", "-u", "none", "--socket"]);
        command.arg(socket_in(folder.path()));
        let (host, guest) = forward.ports;
        command.args(["-t", &format!("{host}:{guest}")]);
        command.args(["-a", &forward.guest.to_string()]);
        command.args(["-n", &forward.prefix_len.to_string()]);
        command.args(["-g", &forward.gateway.to_string()]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let process = command.spawn().context("cannot start passt")?;
        let mut passt = Self { process, folder };
        passt.wait_for_socket()?;
        Ok(passt)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    fn wait_for_socket(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.socket().exists() {
            if let Some(status) = self.process.try_wait().context("cannot ask for passt")? {
                let mut words = String::new();
                if let Some(mut errors) = self.process.stderr.take() {
                    errors.read_to_string(&mut words)?;
                }
                bail!("passt ended ({status}): {}", words.trim());
            }
            if Instant::now() > deadline {
                bail!("passt makes no socket");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        // What is left after a failure goes with the process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("passt")
}

/// The program, from the cache or fetched into it. The folder appears only when it is complete.
fn fetched() -> Result<PathBuf> {
    let cache = qemu::cache_folder();
    let folder = cache.join("passt");
    let program = folder.join("usr/bin/passt");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let work = tempfile::tempdir_in(&cache).context("cannot create a temporary folder")?;
    let tree = work.path().join("tree");
    // All that it needs is the C library, which the host has.
    packages::unpack(Source::Host, &["passt"], |_| false, &tree)?;
    match fs::rename(&tree, &folder) {
        // Another test has fetched it meanwhile.
        Err(_) if program.exists() => Ok(program),
        result => {
            result.with_context(|| format!("cannot move passt to {}", folder.display()))?;
            Ok(program)
        }
    }
}
