//! Our image under real KVM: `cargo xtask test kvm`.

use std::io::Write;
use std::time::Duration;

use ix_machine::Artifacts;
use ix_machine::qemu::{Qemu, cache_folder};
use ix_nested_kvm::{Config, Guest, run};

/// QEMU's status for the exit code that the kernel reports when the application returned 0.
const APPLICATION_SUCCEEDED: i32 = 0x10 << 1 | 1;

/// The accelerator probe runs first: if it fails, KVM is at fault, not our image. It shows as well
/// that the probe says yes where KVM works.
#[test]
#[ignore = "boots virtual machines: run by `cargo xtask test`"]
fn the_image_reaches_ring_3_under_kvm() {
    let artifacts = Artifacts::of_workspace();
    let probe = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&probe, ix_accel_probe::guest::image()).unwrap();
    let guests = [
        Guest::probe(probe.path()),
        Guest {
            name: "the dataplane".to_owned(),
            kernel: artifacts.kernel(),
            boot: Some((
                artifacts.app("probe"),
                "nic=none log=info -- hello".to_owned(),
            )),
            memory_mib: 256,
            expected_line: Some("ix: app: hello from ring 3".to_owned()),
            expected_status: APPLICATION_SUCCEEDED,
        },
    ];
    let config = Config {
        qemu: ix_nested_kvm::Qemu::of_program(&Qemu::locate().unwrap().program).unwrap(),
        cache: cache_folder(),
        timeout: Duration::from_secs(60),
    };
    let outcome = run(&config, &guests).unwrap();
    outcome.check(&guests).unwrap();

    // Past the test harness, which keeps what a passing test prints: the time matters here.
    let seconds = |time: Duration| time.as_secs_f64();
    let mut terminal = std::io::stdout();
    writeln!(
        terminal,
        "nested KVM was ready after {:.1} s",
        seconds(outcome.kvm_ready)
    )
    .unwrap();
    for (guest, outcome) in guests.iter().zip(&outcome.guests) {
        let time = seconds(outcome.duration);
        writeln!(
            terminal,
            "{}: status {} after {time:.1} s",
            guest.name, outcome.status
        )
        .unwrap();
    }
}
