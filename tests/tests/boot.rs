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
