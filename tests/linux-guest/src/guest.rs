//! A booted guest, and what is asked of it. What begins with `try_` returns an error when it fails; the
//! rest is for tests, and panics with the reason.

use std::fmt::{Debug, Display};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ix_machine::qemu::cache_folder;
use ix_machine::{Artifacts, Machine, MachineConfig};

use crate::image::{Contents, Image};
use crate::shell::{self, Outcome, Shell};

/// How long the guest may take until its shell answers, on a loaded machine under emulation that counts
/// instructions.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long it may take if it got its clock wrong, before it is booted again, and how often it is: Linux
/// measures its clock against the timer chip, and takes what it finds even if its host did something
/// else meanwhile. It then waits many times too long for everything.
const WRONG_CLOCK_TIMEOUT: Duration = Duration::from_secs(60);
const BOOTS: u32 = 3;
/// What it says of its clock then.
const WRONG_CLOCK: &str = "calibration deviates";
/// How long a command in the guest, or a single read or write, may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Linux's command line: no delays, and only warnings on the console.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 mitigations=off nokaslr \
    random.trust_cpu=on no_timer_check net.ifnames=0";
/// Where `init.sh` marks the kernel's log: what comes later is the driver's.
const LOG_MARK: &str = "guest: loading modules";

/// The guest's interface.
pub const INTERFACE: &str = "eth0";
/// Echoes what it is sent.
const ECHO_PORT: u16 = 7;

/// A running guest.
#[derive(Debug)]
pub struct LinuxGuest {
    machine: Machine,
    shell: Shell,
    image: Image,
    address: Ipv4Addr,
    host: Ipv4Addr,
    prefix_len: u8,
    _folder: tempfile::TempDir,
}

impl LinuxGuest {
    /// Boots a guest, after `change` has had its way with its machine, and loads the driver.
    pub fn boot(change: impl FnOnce(&mut MachineConfig)) -> Self {
        Self::boot_contents(Contents::default(), change)
    }

    /// Boots a guest made of `contents`, after `change` has had its way with its machine.
    pub fn boot_contents(contents: Contents, change: impl FnOnce(&mut MachineConfig)) -> Self {
        expect(Self::try_boot(contents, change), "boot a guest")
    }

    /// The same with an error for whoever can go on without it.
    pub fn try_boot(contents: Contents, change: impl FnOnce(&mut MachineConfig)) -> Result<Self> {
        let image = Image::fetch(&cache_folder(), contents).context("fetching its packages")?;
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        let initramfs = folder.path().join("initramfs");
        image.write_initramfs(&initramfs)?;
        let line = folder.path().join("shell");
        let mut config = MachineConfig::new(&Artifacts::of_workspace(), "none");
        config.kernel.clone_from(&image.kernel);
        config.app = initramfs;
        config.foreign_command_line = Some(COMMAND_LINE.to_owned());
        // The tests count frames, and the host's own would be among them.
        config.network.ipv6 = None;
        config.qemu_args = shell::qemu_args(&line);
        change(&mut config);
        let (machine, shell) = start(&config, &line)?;
        Ok(Self {
            machine,
            shell,
            image,
            address: config.network.guest,
            host: config.network.host,
            prefix_len: config.network.prefix_len,
            _folder: folder,
        })
    }

    /// Boots a guest, brings its interface up, and waits for the link.
    pub fn with_link(change: impl FnOnce(&mut MachineConfig)) -> Self {
        Self::with_link_contents(Contents::default(), change)
    }

    /// The same for a guest made of `contents`.
    pub fn with_link_contents(contents: Contents, change: impl FnOnce(&mut MachineConfig)) -> Self {
        let mut guest = Self::boot_contents(contents, change);
        guest.configure();
        guest
    }

    /// Brings the interface up with the guest's address, and waits for the link.
    pub fn configure(&mut self) {
        expect(self.try_configure(), "bring the interface up");
    }

    /// The same with an error.
    pub fn try_configure(&mut self) -> Result<()> {
        let address = format!("{}/{}", self.address, self.prefix_len);
        self.try_run(&format!("ip addr add {address} dev {INTERFACE}"))?;
        self.try_run(&format!("ip link set {INTERFACE} up"))?;
        self.try_run(&carrier(true)).map(drop)
    }

    /// Waits until the driver says that the link is there, or gone.
    pub fn wait_for_carrier(&mut self, up: bool) {
        self.run(&carrier(up));
    }

    /// The machine itself.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The guest's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The address of the host's end of the wire.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// Runs a command, which must succeed, and returns what it printed.
    pub fn run(&mut self, command: &str) -> String {
        expect(self.try_run(command), "run a command")
    }

    /// The same with an error.
    pub fn try_run(&mut self, command: &str) -> Result<String> {
        let Outcome { status, text } = self.shell.run(command, TIMEOUT)?;
        ensure!(
            status == 0,
            "`{command}` in the guest failed ({status}): {text}"
        );
        Ok(text)
    }

    /// The driver's and the device's counters, by `ethtool -S`.
    pub fn counters(&mut self) -> Counters {
        Counters(self.run(&format!("ethtool -S {INTERFACE}")))
    }

    /// Starts the echo server.
    pub fn serve_echo(&mut self) {
        let command = format!("nc -ll -p {ECHO_PORT} -e cat");
        expect(self.try_serve(&command, ECHO_PORT), "serve echo");
    }

    /// Starts a server in the background, and waits until somebody listens on that TCP port.
    pub fn try_serve(&mut self, command: &str, port: u16) -> Result<()> {
        self.try_run(&format!(
            "(ulimit -n 300000; exec {command}) >/dev/null 2>&1 &"
        ))?;
        let listening = format!(
            "i=0; until netstat -tln | grep -q ':{port} ' || [ $i = 200 ]; do \
             i=$((i+1)); usleep 50000; done; [ $i -lt 200 ]"
        );
        self.try_run(&listening)
            .with_context(|| format!("`{command}` does not listen"))?;
        Ok(())
    }

    /// A connection to the echo server.
    pub fn connect(&self) -> TcpStream {
        let address = SocketAddr::from((self.address, ECHO_PORT));
        let stream = self.inside(|| TcpStream::connect_timeout(&address, TIMEOUT));
        let stream = expect(stream, "connect to the guest");
        expect(stream.set_read_timeout(Some(TIMEOUT)), "set a timeout");
        expect(stream.set_write_timeout(Some(TIMEOUT)), "set a timeout");
        stream
    }

    /// Sends `bytes` bytes to the echo server while reading what comes back; each must be right.
    pub fn echo(&self, bytes: usize) {
        let stream = self.connect();
        let sent = pattern(bytes);
        thread::scope(|scope| {
            let mut writer = &stream;
            let data = &sent;
            scope.spawn(move || expect(writer.write_all(data), "send to the guest"));
            let mut received = vec![0; bytes];
            expect((&stream).read_exact(&mut received), "receive an echo");
            let wrong = sent.iter().zip(&received).position(|(a, b)| a != b);
            assert!(wrong.is_none(), "byte {wrong:?} of the echo is wrong");
        });
    }

    /// Sends requests from the guest; each must be answered.
    pub fn ping(&mut self, count: u32, payload: usize) {
        let host = self.host;
        self.run(&format!("ping -q -c {count} -s {payload} -W 10 {host}"));
    }

    /// Runs `work` at the host's end of the wire.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        expect(self.try_inside(work), "enter the namespace")
    }

    /// The same with an error.
    pub fn try_inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let netns = self.machine.netns().context("the machine has no wire")?;
        Ok(netns.run(work)?)
    }

    /// A command at the host's end of the wire.
    pub fn host_command(&self, program: &Path) -> Command {
        expect(self.machine.command(program), "enter the namespace")
    }

    /// A program of the guest's packages, to be run at the host's end of the wire.
    pub fn host_program(&self, name: &str) -> Command {
        let (program, arguments) = expect(self.image.host_command(name), "find a program");
        let mut command = self.host_command(&program);
        command.args(arguments);
        command
    }

    /// What the kernel has logged since it loaded the driver: level and message.
    pub fn log(&mut self) -> Vec<(u8, String)> {
        expect(self.try_log(), "read the kernel's log")
    }

    fn try_log(&mut self) -> Result<Vec<(u8, String)>> {
        let text = self.try_run("dmesg -r")?;
        let mut lines = text.lines().skip_while(|line| !line.contains(LOG_MARK));
        ensure!(lines.next().is_some(), "the log has lost its mark: {text}");
        Ok(lines.filter_map(level_and_message).collect())
    }

    /// Stops the guest. Its kernel must have logged no warning since it loaded the driver, and the
    /// model must have ended well.
    pub fn stop(self) {
        self.stop_expecting(&[]);
    }

    /// The same with an error.
    pub fn try_stop(self) -> Result<()> {
        self.end(&[])
    }

    /// The same where the driver has reason to warn: of what contains one of these.
    pub fn stop_expecting(self, expected: &[&str]) {
        expect(self.end(expected), "end the guest well");
    }

    fn end(mut self, expected: &[&str]) -> Result<()> {
        let log = self.try_log()?;
        let is_unexpected = |(level, message): &&(u8, String)| {
            let mut known = expected.iter().chain(&NOT_OF_THE_DRIVER);
            *level <= WARNING && !known.any(|known| message.contains(known))
        };
        let warnings: Vec<_> = log.iter().filter(is_unexpected).collect();
        ensure!(warnings.is_empty(), "Linux warned: {warnings:#?}");
        let report = self.machine.stop();
        ensure!(report.is_success(), "{report}");
        Ok(())
    }
}

/// A command that waits until the interface has carrier, or has not.
fn carrier(up: bool) -> String {
    let wanted = if up { "1" } else { "0" };
    let path = format!("/sys/class/net/{INTERFACE}/carrier");
    format!(
        "i=0; until [ \"$(cat {path})\" = {wanted} ] || [ $i = 300 ]; do \
         i=$((i+1)); usleep 100000; done; [ $i -lt 300 ]"
    )
}

/// Starts the machine and waits until the guest's shell answers on `line`.
fn start(config: &MachineConfig, line: &Path) -> Result<(Machine, Shell)> {
    let ready = "guest: ready";
    let mut boots = 1;
    loop {
        let machine = Machine::start(config).context("starting the machine")?;
        let shell = Shell::connect(line)?;
        if let Err(error) = machine.wait_for_line(ready, WRONG_CLOCK_TIMEOUT) {
            if boots < BOOTS && error.to_string().contains(WRONG_CLOCK) {
                println!("booting again: {error}");
                boots += 1;
                continue;
            }
            let rest = BOOT_TIMEOUT - WRONG_CLOCK_TIMEOUT;
            machine
                .wait_for_line(ready, rest)
                .context("booting Linux")?;
        }
        return Ok((machine, shell));
    }
}

/// Warnings that say nothing of the driver or the card.
const NOT_OF_THE_DRIVER: [&str; 4] = [UDP_RSS_ADVICE, SLOW_TIMER, SLOW_CLOCK, NO_INTX];

/// What ixgbe tells whoever switches UDP ports into the hash, as a test does.
const UDP_RSS_ADVICE: &str = "enabling UDP RSS: fragmented packets may arrive out of order";

/// What Linux says when a process takes the card: the model has no INTx, which is all that this driver
/// would hand on.
const NO_INTX: &str = "uio_pci_generic 0000:01:00.0: No IRQ assigned to device";

/// What Linux tells once when an interrupt of its clock took long, because the host ran something
/// else in the middle of it.
const SLOW_TIMER: &str = "hrtimer: interrupt took";
/// What it tells of its clocks for the same reason.
const SLOW_CLOCK: &str = "clocksource: ";

/// Level of warnings; more urgent ones have lower numbers (syslog(2)).
const WARNING: u8 = 4;

/// Reads a line `<level>[time] message`; the level shares its number with the facility.
fn level_and_message(line: &str) -> Option<(u8, String)> {
    let (number, message) = line.strip_prefix('<')?.split_once('>')?;
    Some((number.parse::<u16>().ok()? as u8 & 7, message.to_owned()))
}

/// The output of `ethtool -S`.
#[derive(Debug, Clone)]
pub struct Counters(String);

impl Counters {
    /// The counter `name`.
    pub fn get(&self, name: &str) -> u64 {
        self.find(name)
            .unwrap_or_else(|| panic!("no counter {name}: {}", self.0))
    }

    /// How much `name` has grown since `earlier`.
    pub fn since(&self, earlier: &Self, name: &str) -> u64 {
        self.get(name) - earlier.get(name)
    }

    fn find(&self, name: &str) -> Option<u64> {
        let values = self
            .0
            .lines()
            .filter_map(|line| line.trim().split_once(": "));
        let mut found = values.filter(|(known, _)| *known == name);
        found.next()?.1.parse().ok()
    }
}

/// Waits until `done` returns something.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes that depend on their position, so that a shifted or swapped piece shows.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        // A 64-bit linear congruential step (Knuth, TAOCP 3.3.4); its top bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn expect<T, E: Debug + Display>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("cannot {what}: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_read_with_their_level() {
        assert_eq!(
            level_and_message("<12>[    3.1] eth0: odd"),
            Some((4, "[    3.1] eth0: odd".to_owned()))
        );
        assert_eq!(level_and_message("no level"), None);
    }

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let counters =
            Counters("NIC statistics:\n     rx_packets: 3\n     packets: 5\n".to_owned());
        assert_eq!(counters.get("packets"), 5);
        assert_eq!(counters.find("rx"), None);
    }
}
