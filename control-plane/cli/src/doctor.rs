//! `ixctl doctor`: what the control plane needs from this machine, and what to do where it is
//! missing. What only makes things slower or smaller is a note; what prevents them is a failure.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;
use serde::Serialize;

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    what: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do; empty if nothing is to be done.
    remedy: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Note,
    Bad,
}

/// Checks and prints everything. It fails if something is missing that is needed.
pub fn run(socket: &Path, json: bool) -> Result<ExitCode> {
    let findings = [
        user(),
        kvm(),
        posted_interrupts(),
        halt_polling(),
        huge_pages(),
        isolated_cpus(),
        iommu(),
        cards(Path::new("/sys/bus/pci/devices")),
        tun(),
        namespaces(),
        tool("ip", "needs iproute2: apt install iproute2"),
        tool("nsenter", "needs util-linux: apt install util-linux"),
        tool("setpriv", "needs util-linux: apt install util-linux"),
        qemu(),
        cores(),
        daemon(socket),
    ];
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        findings
            .iter()
            .for_each(|finding| print!("{}", lines(finding)));
    }
    let is_bad = |finding: &Finding| finding.verdict == Verdict::Bad;
    Ok(match findings.iter().any(is_bad) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn lines(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Good => "good",
        Verdict::Note => "note",
        Verdict::Bad => "BAD ",
    };
    let mut text = format!("{mark}  {:20}  {}\n", finding.what, finding.found);
    if !finding.remedy.is_empty() {
        text.push_str(&format!("      {:20}  {}\n", "", finding.remedy));
    }
    text
}

fn good(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        verdict: Verdict::Good,
        found: found.into(),
        remedy: "",
    }
}

fn note(what: &'static str, found: impl Into<String>, remedy: &'static str) -> Finding {
    Finding {
        what,
        verdict: Verdict::Note,
        found: found.into(),
        remedy,
    }
}

fn bad(what: &'static str, found: impl Into<String>, remedy: &'static str) -> Finding {
    Finding {
        what,
        verdict: Verdict::Bad,
        found: found.into(),
        remedy,
    }
}

/// Effective capabilities, by the numbers of `capabilities(7)`.
fn user() -> Finding {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let needed = NET_ADMIN | SYS_ADMIN;
    match effective {
        Some(effective) if effective & needed == needed => {
            good("permissions", "network namespaces can be made")
        }
        _ => note(
            "permissions",
            "this user may make no network namespaces",
            "run `ixcpd` as root; ixctl itself needs only access to its socket",
        ),
    }
}

fn kvm() -> Finding {
    let open = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_extensions = has_flag(&cpuinfo, "vmx") || has_flag(&cpuinfo, "svm");
    match (open, has_extensions) {
        (Ok(_), true) => good("KVM", "/dev/kvm opens, and the CPU has the extensions"),
        (Ok(_), false) => note(
            "KVM",
            "/dev/kvm opens, but the CPU shows neither vmx nor svm",
            "dataplanes fall back to emulation if it does not work; enable nesting on the host",
        ),
        (Err(error), _) => note(
            "KVM",
            format!("/dev/kvm: {error}"),
            "dataplanes are emulated, which is slow: modprobe kvm_intel or kvm_amd, join group kvm",
        ),
    }
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    let lines = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    lines
        .flat_map(str::split_whitespace)
        .any(|word| word == flag)
}

/// Whether an interrupt of a card reaches a running guest without its leaving: a sleeping elastic thread
/// is woken by one. Only where KVM is Intel's; AMD's has AVIC for it.
fn posted_interrupts() -> Finding {
    let parameters = [
        "/sys/module/kvm_intel/parameters/enable_apicv",
        "/sys/module/kvm_amd/parameters/avic",
    ];
    let values = parameters
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    match values.map(|it| it.trim().to_owned()).next().as_deref() {
        Some("Y" | "1") => good("posted interrupts", "KVM uses them"),
        Some(_) => note(
            "posted interrupts",
            "KVM does without",
            "each interrupt makes the guest leave: enable_apicv=Y of kvm_intel, avic=1 of kvm_amd",
        ),
        None => note(
            "posted interrupts",
            "no KVM module is loaded",
            "only real cards and KVM gain by them",
        ),
    }
}

/// What KVM does when a guest halts: it polls for that long, on a processor that Linux could have.
fn halt_polling() -> Finding {
    let nanoseconds = fs::read_to_string("/sys/module/kvm/parameters/halt_poll_ns");
    match nanoseconds.as_deref().map(str::trim) {
        Ok("0") => good(
            "halt polling",
            "off: a dataplane polls as long as pays, and then sleeps",
        ),
        Ok(other) => note(
            "halt polling",
            format!("{other} ns after each halt of a guest"),
            "a parked thread's processor stays busy so long: echo 0 > /sys/module/kvm/parameters/halt_poll_ns",
        ),
        Err(_) => note(
            "halt polling",
            "no KVM module is loaded",
            "only KVM does it",
        ),
    }
}

/// A guest's memory is a memfd, whose pages are large where shared memory's may be.
fn huge_pages() -> Finding {
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let setting = fs::read_to_string(path).unwrap_or_default();
    let chosen = setting
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match chosen.map(|(chosen, _)| chosen) {
        Some("always" | "force" | "within_size") => good("huge pages", "shared memory gets them"),
        Some(chosen) => note(
            "huge pages",
            format!("shared memory: {chosen}"),
            "fewer TLB misses behind the guest: echo always > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        ),
        None => note(
            "huge pages",
            "this kernel has none for shared memory",
            "use one that has",
        ),
    }
}

/// Processors that Linux leaves alone, for elastic threads.
fn isolated_cpus() -> Finding {
    let isolated = fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    match isolated.trim() {
        "" => note(
            "isolated CPUs",
            "none: others run on a dataplane's processors as well",
            "for measurements, boot with isolcpus=, nohz_full= and rcu_nocbs= of the CPUs to grant",
        ),
        list => good("isolated CPUs", list),
    }
}

/// What people call a card that the kernel has a driver for, by the words of sysfs.
fn card_name(vendor: &str, device: &str) -> Option<&'static str> {
    let number = |word: &str| u16::from_str_radix(word.trim().strip_prefix("0x")?, 16).ok();
    match (number(vendor)?, number(device)?) {
        (igb::PCI_VENDOR, igb::PCI_DEVICE) => Some("82576"),
        (ixgbe_spec::PCI_VENDOR, device) => ixgbe::Card::of(device).map(ixgbe::Card::name),
        _ => None,
    }
}

/// Real cards that a dataplane could have, and who has them now.
fn cards(devices: &Path) -> Finding {
    let read = |folder: &Path, name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let mut found: Vec<String> = fs::read_dir(devices)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let folder = entry.path();
            let (vendor, device) = (read(&folder, "vendor"), read(&folder, "device"));
            let name = card_name(&vendor, &device)?;
            let driver = fs::read_link(folder.join("driver")).ok();
            let driver = driver
                .as_deref()
                .and_then(Path::file_name)
                .unwrap_or_default();
            let holder = driver
                .to_str()
                .filter(|it| !it.is_empty())
                .unwrap_or("nobody");
            Some(format!("{name} {} ({holder})", entry.file_name().display()))
        })
        .collect();
    found.sort();
    match found.as_slice() {
        [] => note(
            "real cards",
            "none that the kernel has a driver for",
            "`ixnicd` and QEMU model cards; docs/hardware.md says which real ones will do",
        ),
        cards => good("real cards", cards.join(", ")),
    }
}

fn iommu() -> Finding {
    let groups = fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count);
    match groups {
        0 => note(
            "IOMMU",
            "no groups",
            "only real cards need it: boot with intel_iommu=on or amd_iommu=on",
        ),
        groups => good("IOMMU", format!("{groups} groups")),
    }
}

fn tun() -> Finding {
    match Path::new("/dev/net/tun").exists() {
        true => good("TAP devices", "/dev/net/tun is there"),
        false => bad("TAP devices", "no /dev/net/tun", "modprobe tun"),
    }
}

fn namespaces() -> Finding {
    match Path::new("/proc/self/ns/net").exists() {
        true => good("network namespaces", "the kernel has them"),
        false => bad(
            "network namespaces",
            "the kernel has none",
            "use a kernel with CONFIG_NET_NS",
        ),
    }
}

fn tool(name: &'static str, remedy: &'static str) -> Finding {
    match find(name) {
        Some(path) => good(name, path.display().to_string()),
        None => bad(name, "not found", remedy),
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let mut folders = folders.chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

/// The host's QEMU, or the private one that setup keeps.
fn qemu() -> Finding {
    let cache = std::env::var_os("IX_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/ix"))
    });
    let private = cache.map(|cache| cache.join("qemu/qemu-system-x86_64"));
    let named = std::env::var_os("IX_QEMU").map(PathBuf::from);
    let candidates = [named, find("qemu-system-x86_64"), private];
    let devices = ["vfio-user-pci", "ivshmem-doorbell"];
    for program in candidates.into_iter().flatten().filter(|it| it.is_file()) {
        if devices.iter().all(|device| has_device(&program, device)) {
            return good("QEMU", format!("{} has both devices", program.display()));
        }
    }
    bad(
        "QEMU",
        "none with vfio-user-pci and ivshmem-doorbell",
        "run `cargo xtask setup`, or set IX_QEMU to a QEMU 10.1 or newer",
    )
}

fn has_device(program: &Path, device: &str) -> bool {
    let help = Command::new(program)
        .args(["-device", &format!("{device},help")])
        .output();
    help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(device))
}

fn cores() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    match count {
        0..=2 => note(
            "hardware threads",
            format!("{count}: one is Linux's, which leaves little to grant"),
            "`emulate_cores` in /etc/ix/ixcpd.toml makes some up, to try grants",
        ),
        count => good("hardware threads", count.to_string()),
    }
}

fn daemon(socket: &Path) -> Finding {
    match UnixStream::connect(socket) {
        Ok(_) => good("daemon", format!("answers at {}", socket.display())),
        Err(error) => note(
            "daemon",
            format!("{}: {error}", socket.display()),
            "start it with `ixcpd`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_a_word_of_the_flags_line() {
        let cpuinfo = "model name : vmx lookalike\nflags\t\t: fpu svm_lock sse\n";
        assert!(!has_flag(cpuinfo, "vmx") && !has_flag(cpuinfo, "svm"));
        assert!(has_flag("flags : fpu svm", "svm"));
    }

    #[test]
    fn findings_say_what_to_do() {
        let text = lines(&bad("QEMU", "none", "install one"));
        assert!(
            text.starts_with("BAD   QEMU") && text.contains("install one"),
            "{text}"
        );
        assert_eq!(lines(&good("ip", "/sbin/ip")).lines().count(), 1);
    }

    #[test]
    fn cards_are_listed_with_who_has_them() {
        let host = tempfile::tempdir().unwrap();
        assert_eq!(cards(host.path()).verdict, Verdict::Note);
        let cards_there = [
            ("0000:03:00.0", "0x10fb"),
            ("0000:04:00.0", "0x1234"),
            ("0000:05:00.0", "0x1528"),
        ];
        for (address, device) in cards_there {
            let folder = host.path().join(address);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("vendor"), "0x8086\n").unwrap();
            fs::write(folder.join("device"), format!("{device}\n")).unwrap();
            std::os::unix::fs::symlink("/drivers/vfio-pci", folder.join("driver")).unwrap();
        }
        let found = cards(host.path()).found;
        for card in [
            "82599 0000:03:00.0 (vfio-pci)",
            "X540 0000:05:00.0 (vfio-pci)",
        ] {
            assert!(found.contains(card), "{found}");
        }
        assert!(!found.contains("0000:04:00.0"), "{found}");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_no_failure() {
        let finding = daemon(Path::new("/no/such/socket"));
        assert_eq!(finding.verdict, Verdict::Note);
    }
}
