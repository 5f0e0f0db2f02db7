//! What a machine is made of. [`MachineConfig::check`] refuses what cannot work before anything is
//! started on the host.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::accel::AccelChoice;
use crate::artifacts::Artifacts;
use crate::error::{Error, Result};
use crate::net::{IPV6_MIN_MTU, MTU_RANGE, NetworkConfig, NicKind, NicModelConfig};
use crate::passthrough;

/// Most virtual CPUs that a machine may have.
pub const MAX_CPUS: u32 = 64;

/// Everything that a machine is made of.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// The dataplane kernel.
    pub kernel: PathBuf,
    /// The application's ELF image, handed over as the boot module.
    pub app: PathBuf,
    /// Its arguments.
    pub app_args: Vec<String>,
    /// The NIC model's program.
    pub nic_program: PathBuf,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Guest memory.
    pub memory: MemorySize,
    /// Who executes the guest's instructions.
    pub accel: AccelChoice,
    /// What the guest's CPU looks like.
    pub cpu_model: CpuModel,
    /// The card.
    pub nic: NicKind,
    /// The wire; unused without a card.
    pub network: NetworkConfig,
    /// The card's model.
    pub nic_model: NicModelConfig,
    /// Where a card's model waits that somebody else has started, such as a function of an `ixnicd` that
    /// serves several machines. The wire is that one's, too: no namespace is made.
    pub nic_socket: Option<PathBuf>,
    /// How much the kernel and the NIC model say.
    pub log_level: LogLevel,
    /// Further keys of the kernel's command line, such as `("batch", "64")`.
    pub kernel_options: Vec<(String, String)>,
    /// For a kernel that is not ours, such as Linux: its whole command line. Kernel and boot module then
    /// need not be ELF files.
    pub foreign_command_line: Option<String>,
    /// The way between the kernel and the control plane; none unless somebody serves it.
    pub control: Option<ControlChannel>,
    /// Further arguments of QEMU, such as `-icount`.
    pub qemu_args: Vec<String>,
    /// The serial console is also written here.
    pub console_log: Option<PathBuf>,
    /// The serial console is also printed, with the NIC model's and QEMU's messages.
    pub echo_console: bool,
}

impl MachineConfig {
    /// One CPU, 512 MiB and the default wire, for application `app` of `artifacts`.
    pub fn new(artifacts: &Artifacts, app: &str) -> Self {
        MachineConfig {
            kernel: artifacts.kernel(),
            app: artifacts.app(app),
            app_args: Vec::new(),
            nic_program: artifacts.nic_program(),
            cpus: 1,
            memory: MemorySize::from_mib(512),
            accel: AccelChoice::Auto,
            cpu_model: CpuModel::Best,
            nic: NicKind::Intel82599,
            network: NetworkConfig::default(),
            nic_model: NicModelConfig::default(),
            nic_socket: None,
            log_level: LogLevel::Info,
            kernel_options: Vec::new(),
            foreign_command_line: None,
            control: None,
            qemu_args: Vec::new(),
            console_log: None,
            echo_console: false,
        }
    }

    /// Refuses a configuration that cannot run, with what to change.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return Err(Error::BadValue {
                what: "cpus",
                value: self.cpus.to_string(),
                why: format!("use 1 to {MAX_CPUS}"),
            });
        }
        self.check_mtu()?;
        self.check_model()?;
        self.check_queues()?;
        for (key, value) in &self.kernel_options {
            check_word("kernel option", key)?;
            check_word("kernel option", value)?;
        }
        for argument in &self.app_args {
            check_word("application argument", argument)?;
        }
        if let Some(pcap) = &self.nic_model.pcap {
            check_writable("pcap file", pcap)?;
        }
        if self.foreign_command_line.is_none() {
            check_elf("kernel image", &self.kernel)?;
            check_elf("application image", &self.app)?;
        }
        if self.nic.is_modelled() && self.nic_socket.is_none() {
            check_elf("NIC model", &self.nic_program)?;
        }
        if let NicKind::Host(address) = self.nic {
            passthrough::check(address)?;
        }
        Ok(())
    }

    /// A virtual function has one queue pair, since its owner decides over how many flows are spread.
    fn check_queues(&self) -> Result<()> {
        let is_background = |(key, value): &(String, String)| key == "background" && value == "1";
        let background = self.kernel_options.iter().any(is_background);
        let is_ours = self.foreign_command_line.is_none();
        let elastic = self.cpus.saturating_sub(u32::from(background));
        if self.nic != NicKind::Virtual82599 || !is_ours || elastic <= 1 {
            return Ok(());
        }
        Err(Error::BadValue {
            what: "cpus",
            value: self.cpus.to_string(),
            why: "a virtual function has one queue pair for one elastic thread: use 1 CPU, and one more for \
                  background threads, or a card of its own"
                .to_owned(),
        })
    }

    /// What only `ixnicd` can do is refused with another card.
    fn check_model(&self) -> Result<()> {
        let model = &self.nic_model;
        // A VLAN takes an access port, or a card whose wire is a switch's.
        let has_tags = self.network.vlan.is_some() && !matches!(self.nic, NicKind::Host(_));
        let is_own = *model != NicModelConfig::default() || has_tags;
        if self.nic.is_modelled() || self.nic == NicKind::None || !is_own {
            return Ok(());
        }
        Err(Error::BadValue {
            what: "nic",
            value: self.nic.to_string(),
            why:
                "captures, doorbells, impairments and VLANs are of the model `ixnicd`: use 82599 or vf, \
                  or leave them out"
                    .to_owned(),
        })
    }

    fn check_mtu(&self) -> Result<()> {
        let mtu = self.network.mtu;
        let refuse = |why| {
            let value = mtu.to_string();
            Err(Error::BadValue {
                what: "mtu",
                value,
                why,
            })
        };
        if !MTU_RANGE.contains(&mtu) {
            return refuse(format!("use {} to {}", MTU_RANGE.start(), MTU_RANGE.end()));
        }
        if mtu < IPV6_MIN_MTU && self.network.ipv6.is_some() {
            return refuse(format!("IPv6 needs {IPV6_MIN_MTU}; switch it off"));
        }
        Ok(())
    }
}

/// QEMU's `ivshmem-doorbell` device, for which somebody serves memory and interrupts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlChannel {
    /// Socket of the server, which must be listening when the machine starts.
    pub socket: PathBuf,
    /// Interrupt vectors that it serves.
    pub vectors: u32,
}

/// Memory of a guest, in whole mebibytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mib: u64,
}

impl MemorySize {
    /// The least that a kernel, its application and their pools fit in.
    pub const MIN: MemorySize = MemorySize::from_mib(64);
    /// The most that is accepted; QEMU's own limits are far higher.
    pub const MAX: MemorySize = MemorySize::from_mib(1 << 20);

    /// `mib` mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        MemorySize { mib }
    }

    /// Size in mebibytes.
    pub const fn mib(self) -> u64 {
        self.mib
    }
}

impl fmt::Display for MemorySize {
    /// As QEMU reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mib)
    }
}

impl FromStr for MemorySize {
    type Err = Error;

    /// `256M`, `5G`, or a plain number of mebibytes.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| Error::BadValue {
            what: "memory",
            value: text.to_owned(),
            why,
        };
        let (digits, mib_per_unit) = match text.char_indices().next_back() {
            Some((end, 'M' | 'm')) => (&text[..end], 1),
            Some((end, 'G' | 'g')) => (&text[..end], 1024),
            _ => (text, 1),
        };
        let mib = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(mib_per_unit))
            .ok_or_else(|| bad("write it like 512M or 5G".to_owned()))?;
        let size = MemorySize { mib };
        if !(MemorySize::MIN..=MemorySize::MAX).contains(&size) {
            return Err(bad(format!(
                "use {} to {}",
                MemorySize::MIN,
                MemorySize::MAX
            )));
        }
        Ok(size)
    }
}

/// What the guest's CPU looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuModel {
    /// All that the accelerator has to offer.
    Best,
    /// One of QEMU's models, such as `qemu64`.
    Named(String),
}

/// How much a kernel or a NIC model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what went wrong.
    Error,
    /// Also what may be wrong.
    Warn,
    /// Also what a user wants to know.
    Info,
    /// Also what a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        })
    }
}

impl FromStr for LogLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ]
        .into_iter()
        .find(|level| level.to_string() == text)
        .ok_or_else(|| Error::BadValue {
            what: "log level",
            value: text.to_owned(),
            why: "use error, warn, info, debug or trace".to_owned(),
        })
    }
}

/// The kernel's command line is split at white space and has no quotes.
fn check_word(what: &'static str, word: &str) -> Result<()> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::BadValue {
            what,
            value: word.to_owned(),
            why: "it may not be empty nor contain white space".to_owned(),
        });
    }
    Ok(())
}

/// Opens (and creates) the file, so that a wrong path is found before the machine runs.
fn check_writable(what: &'static str, path: &Path) -> Result<()> {
    let created = File::create(path).and_then(|mut file| file.flush());
    created.map_err(|source| Error::BadValue {
        what,
        value: path.display().to_string(),
        why: format!("cannot write it: {source}"),
    })
}

/// Checks the identification and the machine of an ELF header (System V ABI, chapter 4); the kernel's
/// loader checks the rest.
fn check_elf(what: &'static str, path: &Path) -> Result<()> {
    let bad = |why: &str| Error::BadImage {
        what,
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let mut file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NoArtifact {
            what: what.to_owned(),
            path: path.to_owned(),
        },
        _ => bad(&source.to_string()),
    })?;
    let mut header = [0; 20];
    file.read_exact(&mut header)
        .map_err(|_| bad("it is shorter than an ELF header"))?;
    const ELF64_LITTLE_ENDIAN: [u8; 6] = *b"\x7fELF\x02\x01";
    const EM_X86_64: [u8; 2] = [62, 0];
    if header[..6] != ELF64_LITTLE_ENDIAN || header[18..] != EM_X86_64 {
        return Err(bad("it is not a 64-bit x86 ELF file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_with_and_without_unit() {
        for (text, mib) in [
            ("512M", 512),
            ("5G", 5120),
            ("256", 256),
            ("64m", 64),
            ("1g", 1024),
        ] {
            assert_eq!(text.parse::<MemorySize>().unwrap().mib(), mib, "{text}");
        }
        for text in [
            "",
            "G",
            "0",
            "63M",
            "-1G",
            "1.5G",
            "512K",
            "99999999999999999999G",
            "18446744073709551615G",
            "2048G",
        ] {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
        assert_eq!(MemorySize::from_mib(5120).to_string(), "5120M");
    }

    #[test]
    fn log_levels_round_trip() {
        assert_eq!("debug".parse::<LogLevel>().unwrap(), LogLevel::Debug);
        assert!("verbose".parse::<LogLevel>().is_err());
    }

    fn config_in(folder: &Path) -> MachineConfig {
        let elf = std::fs::read("/proc/self/exe").unwrap();
        for name in ["ixkernel.elf", "echo.elf", "ixnicd"] {
            std::fs::write(folder.join(name), &elf[..64]).unwrap();
        }
        MachineConfig::new(&Artifacts::at(folder), "echo")
    }

    #[test]
    fn broken_and_missing_images_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config_in(folder.path());
        config.check().unwrap();
        std::fs::write(&config.app, b"#!/bin/sh\nexit 0 # longer than a header").unwrap();
        assert!(matches!(
            config.check(),
            Err(Error::BadImage {
                what: "application image",
                ..
            })
        ));
        std::fs::write(&config.app, b"\x7fELF").unwrap();
        assert!(matches!(config.check(), Err(Error::BadImage { .. })));
        config.app = folder.path().join("absent.elf");
        assert!(matches!(config.check(), Err(Error::NoArtifact { .. })));
    }

    #[test]
    fn an_mtu_that_a_protocol_cannot_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config_in(folder.path());
        for (mtu, ipv6, is_good) in [
            (9000, true, true),
            (9001, true, false),
            (1279, true, false),
            (1279, false, true),
            (575, false, false),
        ] {
            config.network.mtu = mtu;
            config.network.ipv6 = ipv6.then(crate::Ipv6Network::default);
            assert_eq!(config.check().is_ok(), is_good, "{mtu} {ipv6}");
        }
    }

    #[test]
    fn arguments_that_the_kernel_would_split_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for word in ["", "two words", "line\nfeed", "nul\0"] {
            let mut config = config_in(folder.path());
            config.app_args = vec![word.to_owned()];
            assert!(
                matches!(config.check(), Err(Error::BadValue { .. })),
                "{word:?}"
            );
        }
    }

    #[test]
    fn what_only_the_model_can_do_is_refused_with_another_card() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config_in(folder.path());
        config.nic = NicKind::Igb;
        config.check().unwrap();
        let mut lossy = config.clone();
        lossy.nic_model.loss = Some(0.1);
        let mut tagged = config;
        tagged.network.vlan = "100".parse().ok();
        for config in [lossy, tagged] {
            let error = config.check().unwrap_err();
            assert!(matches!(error, Error::BadValue { what: "nic", .. }));
        }
    }

    #[test]
    fn a_virtual_function_is_for_one_elastic_thread() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config_in(folder.path());
        config.nic = NicKind::Virtual82599;
        config.nic_model.loss = Some(0.1);
        config.check().unwrap();
        config.cpus = 2;
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("one queue pair"), "{error}");
        let background = ("background".to_owned(), "1".to_owned());
        config.kernel_options.push(background);
        config.check().unwrap();
    }

    #[test]
    fn a_pcap_file_that_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config_in(folder.path());
        config.nic_model.pcap = Some(folder.path().join("no/such/folder/wire.pcap"));
        assert!(matches!(
            config.check(),
            Err(Error::BadValue {
                what: "pcap file",
                ..
            })
        ));
        config.cpus = 0;
        assert!(matches!(
            config.check(),
            Err(Error::BadValue { what: "cpus", .. })
        ));
    }
}
