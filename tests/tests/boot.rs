//! The machine comes up on little and much memory, and on poor and rich CPUs, and serves.

use ix_machine::{CpuModel, MemorySize};
use ix_tests::Booted;

fn boots_and_echoes(memory: MemorySize, cpu: CpuModel) {
    let booted = Booted::echo(|config| {
        config.memory = memory;
        config.cpu_model = cpu;
    });
    booted.assert_echoes();
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn with_256_mib() {
    boots_and_echoes(MemorySize::from_mib(256), CpuModel::Best);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn with_5_gib_and_memory_and_bars_above_4_gib() {
    boots_and_echoes(MemorySize::from_mib(5 << 10), CpuModel::Best);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn on_a_cpu_without_smep_smap_umip_and_x2apic() {
    boots_and_echoes(
        MemorySize::from_mib(512),
        CpuModel::Named("qemu64".to_owned()),
    );
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn with_2_gib_and_tables_for_a_million_connections() {
    let booted = Booted::echo(|config| {
        config.memory = MemorySize::from_mib(2 << 10);
        config
            .kernel_options
            .push(("connections".to_owned(), "1000000".to_owned()));
    });
    let line = booted.line("thread 0: kernel heap");
    assert!(line.contains(" 1000000 connections"), "{line}");
    booted.assert_echoes();
    // As many as one address at the other end may open without being asked for more descriptors.
    let streams: Vec<_> = (0..500)
        .map(|_| booted.try_connect(7).expect("a connection"))
        .collect();
    booted.assert_echoes();
    drop(streams);
    booted.stop();
}
