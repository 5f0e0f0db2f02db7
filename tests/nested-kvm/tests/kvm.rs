//! Our image under real KVM: `cargo xtask test kvm`.

use std::io::Write;
use std::time::Duration;

use ix_machine::Artifacts;
use ix_machine::qemu::{Qemu, cache_folder};
use ix_nested_kvm::{Config, ControlPlane, Guest, run};

/// QEMU's status for the exit code that the kernel reports when the application returned 0.
const APPLICATION_SUCCEEDED: i32 = 0x10 << 1 | 1;

/// The accelerator probe runs first: if it fails, KVM is at fault, not our image. It shows as well
/// that the probe says yes where KVM works. Last comes all of it: the daemon starts a dataplane with the
/// NIC model, binds its virtual CPU to the hardware thread that it grants, and a client exchanges verified
/// messages.
#[test]
#[ignore = "boots virtual machines: run by `cargo xtask test`"]
fn the_image_serves_under_kvm() {
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
        control_plane: Some(ControlPlane {
            programs: vec![
                artifacts.daemon(),
                artifacts.control_program(),
                artifacts.nic_program(),
                artifacts.load_program(),
            ],
            images: vec![artifacts.kernel(), artifacts.app("echo")],
        }),
        timeout: Duration::from_secs(400),
    };
    let outcome = run(&config, &guests).unwrap();
    outcome.check(&guests).unwrap();
    let (served, serving) = outcome.served.as_ref().unwrap();
    assert_eq!(served.accelerator, "kvm");
    assert_eq!(served.messages, 8 * 50);
    for vcpu in &served.vcpus {
        assert_eq!(vcpu.allowed, vcpu.granted.to_string());
    }
    assert_eq!(served.vcpus.len(), 1);

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
    writeln!(
        terminal,
        "the control plane: {} messages verified, virtual CPU on hardware thread {}, after {:.1} s",
        served.messages,
        served.vcpus[0].allowed,
        seconds(*serving)
    )
    .unwrap();
}
