//! Machines begin, end, and leave nothing behind. They run the accelerator probe's guest, which is
//! there without a build, and need QEMU; those with a namespace need root.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ix_accel_probe::guest::EXIT_STATUS;
use ix_machine::exit::{Cause, GuestExit};
use ix_machine::netns::OwnedNetns;
use ix_machine::run_dir::{RunDir, remove_all_abandoned};
use ix_machine::{
    Accel, AccelChoice, Artifacts, Error, Machine, MachineConfig, MemorySize, NetworkConfig,
    NicKind,
};

use rustix::process::{Pid, Signal, kill_process};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Set in the process of [`owner_that_is_killed`].
const OWNER_VARIABLE: &str = "IX_TEST_OWNER";

/// A machine without a card that goes to ring 3 and back and ends with a code of its own.
fn probe_machine(folder: &Path) -> MachineConfig {
    let image = folder.join("guest.elf");
    std::fs::write(&image, ix_accel_probe::guest::image()).unwrap();
    let mut config = MachineConfig::new(&Artifacts::at(folder), "guest");
    config.kernel = image;
    config.nic = NicKind::None;
    config.memory = MemorySize::from_mib(64);
    config.accel = AccelChoice::Fixed(Accel::Tcg);
    config
}

/// The same machine, stopped before its first instruction.
fn frozen_machine(folder: &Path) -> MachineConfig {
    let mut config = probe_machine(folder);
    config.qemu_args.push("-S".to_owned());
    config
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn run_folder(name: &str) -> PathBuf {
    Path::new("/run/ix").join(name)
}

fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_guest_that_ends_is_reported_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(&probe_machine(folder.path())).unwrap();
    let report = machine.wait(TIMEOUT).expect("the guest ends");
    // Its code is no kernel's, so that nobody takes it for one.
    let code = u8::try_from(EXIT_STATUS >> 1).unwrap();
    assert_eq!(
        report.cause,
        Cause::Guest(GuestExit::Unknown(code)),
        "{report}"
    );
    assert!(
        !run_folder(machine.name()).exists(),
        "removed before the report"
    );
    assert_eq!(machine.stop(), report, "a stop afterwards changes nothing");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn stopping_and_dropping_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for drop_it in [true, false] {
        let machine = Machine::start(&frozen_machine(folder.path())).unwrap();
        let (qemu, name) = (machine.pids().0, machine.name().to_owned());
        assert!(is_alive(qemu) && run_folder(&name).exists());
        let status = machine.qmp("query-status", serde_json::json!({})).unwrap();
        assert_eq!(status["running"], false);
        if drop_it {
            drop(machine);
        } else {
            assert_eq!(machine.stop().cause, Cause::Stopped);
        }
        assert!(!is_alive(qemu) && !run_folder(&name).exists());
    }
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_stop_from_another_thread_ends_a_wait() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(&frozen_machine(folder.path())).unwrap();
    let stopper = machine.stopper();
    let other = thread::spawn(move || stopper.stop());
    let error = machine.wait_for_line("never", TIMEOUT).unwrap_err();
    let Error::MachineEnded { report, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(report.cause, Cause::Stopped);
    other.join().unwrap();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_killed_qemu_is_reported_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(&frozen_machine(folder.path())).unwrap();
    kill(machine.pids().0);
    let report = machine.wait(TIMEOUT).expect("the machine ends");
    assert_eq!(report.to_string(), "QEMU ended with signal 9 (SIGKILL)");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_qemu_that_refuses_its_arguments_is_an_error_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = probe_machine(folder.path());
    config.qemu_args.push("-no-such-flag".to_owned());
    let error = Machine::start(&config).unwrap_err();
    assert!(error.is_bad_input());
    assert!(error.to_string().contains("-no-such-flag"), "{error}");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_nic_model_that_does_not_come_up_leaves_no_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = probe_machine(folder.path());
    config.nic = NicKind::Intel82599;
    config.nic_program = PathBuf::from("/bin/false");
    let before = machine_namespaces();
    let error = Machine::start(&config).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the NIC model ended with exit code 1 before it was ready"),
        "{error}"
    );
    assert_eq!(machine_namespaces(), before);
}

/// A frozen machine with a card, by the NIC model that `cargo xtask image` has built.
fn wired_machine(folder: &Path) -> MachineConfig {
    let mut config = frozen_machine(folder);
    config.nic = NicKind::Intel82599;
    config.nic_program = Artifacts::of_workspace().nic_program();
    config
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_killed_nic_model_ends_the_machine_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(&wired_machine(folder.path())).unwrap();
    let (qemu, nic) = machine.pids();
    let name = machine.name().to_owned();
    kill(nic.unwrap());
    let report = machine.wait(TIMEOUT).expect("the machine ends");
    assert!(matches!(report.cause, Cause::NicModel(_)), "{report}");
    assert!(
        report.to_string().contains("signal 9 (SIGKILL)"),
        "{report}"
    );
    assert!(!is_alive(qemu) && !run_folder(&name).exists() && !namespace(&name).exists());
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_partner_that_hangs_does_not_survive_the_death_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    for nic_dies in [true, false] {
        let machine = Machine::start(&wired_machine(folder.path())).unwrap();
        let (qemu, nic) = machine.pids();
        let nic = nic.unwrap();
        let (dies, hangs) = if nic_dies { (nic, qemu) } else { (qemu, nic) };
        signal(hangs, Signal::STOP);
        let killed = Instant::now();
        kill(dies);
        let report = machine.wait(TIMEOUT).expect("the machine ends");
        println!("both gone and reported after {:?}", killed.elapsed());
        let blamed = match report.cause {
            Cause::NicModel(status) => (true, status.success()),
            Cause::Qemu(status) => (false, status.success()),
            _ => panic!("{report}"),
        };
        assert_eq!(blamed, (nic_dies, false), "{report}");
        assert!(!is_alive(qemu) && !is_alive(nic));
        assert!(!run_folder(machine.name()).exists() && !namespace(machine.name()).exists());
    }
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_with_a_card_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(&wired_machine(folder.path())).unwrap();
    let (qemu, nic) = machine.pids();
    let name = machine.name().to_owned();
    assert!(namespace(&name).exists());
    let report = machine.stop();
    assert_eq!(report.cause, Cause::Stopped, "{report}");
    assert!(!is_alive(qemu) && !is_alive(nic.unwrap()));
    assert!(!run_folder(&name).exists() && !namespace(&name).exists());
}

/// Namespaces of this process's machines.
fn machine_namespaces() -> Vec<String> {
    let own = format!("ix-{}-", std::process::id());
    let names = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&own)).collect()
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn what_a_killed_owner_leaves_is_removed() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "owner_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(OWNER_VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut words = lines.filter_map(|line| line.strip_prefix("owner: ").map(str::to_owned));
    let names = words.next().unwrap();
    let names: Vec<&str> = names.split(' ').collect();
    let [machine, wire, pid] = names[..] else {
        panic!("{names:?}")
    };
    let qemu: u32 = pid.parse().unwrap();
    assert!(is_alive(qemu) && run_folder(machine).exists() && namespace(wire).exists());

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("QEMU dies with its owner", || !is_alive(qemu));
    remove_all_abandoned();
    assert!(
        !run_folder(machine).exists() && !run_folder(wire).exists() && !namespace(wire).exists()
    );
}

/// Not a test by itself: the process that the test above kills.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn owner_that_is_killed() {
    if std::env::var_os(OWNER_VARIABLE).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(&frozen_machine(folder.path())).unwrap();
    let wire = RunDir::create().unwrap();
    let _netns = OwnedNetns::create(wire.name(), "ix0", &NetworkConfig::default()).unwrap();
    println!(
        "\nowner: {} {} {}",
        machine.name(),
        wire.name(),
        machine.pids().0
    );
    std::io::stdout().flush().unwrap();
    thread::sleep(TIMEOUT);
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test boot"]
fn a_namespace_has_the_hosts_end_and_nothing_else() {
    let folder = RunDir::create().unwrap();
    let wire = NetworkConfig::for_guest("192.168.77.9/28").unwrap();
    let owned = OwnedNetns::create(folder.name(), "ix0", &wire).unwrap();
    // A socket bound inside keeps its namespace when it is used outside.
    let socket = owned
        .netns()
        .run(|| std::net::UdpSocket::bind((wire.host, 0)))
        .unwrap()
        .unwrap();
    assert_eq!(socket.local_addr().unwrap().ip(), wire.host);
    assert!(
        std::net::UdpSocket::bind((wire.host, 0)).is_err(),
        "not an address of the host"
    );
    let output = owned
        .netns()
        .command(Path::new("ip"))
        .unwrap()
        .args(["-o", "addr"])
        .output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(
        output.contains("inet 192.168.77.1/28") && !output.contains("inet6 fe80"),
        "{output}"
    );
    let path = namespace(folder.name());
    assert!(path.exists());
    drop(owned);
    assert!(!path.exists());
}
