//! The plugin in a real QEMU, with a guest whose every instruction is known.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ix_insns::run::build_plugin;
use ix_insns::sample::{Counts, Sampler};
use ix_machine::qemu::Qemu;

const BASE: u32 = 0x10_0000;
const ITERATIONS: u32 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// 32-bit code, entered by PVH: a loop of known length, then polling for ever.
const CODE: [u8; 12] = [
    0xb9, 0x40, 0x42, 0x0f, 0x00, // mov ecx, ITERATIONS
    0x49, // dec ecx
    0x75, 0xfd, // jnz to the dec
    0xf3, 0x90, // pause
    0xeb, 0xfc, // jmp to the pause
];
const MOV: u64 = (BASE + CODE_OFFSET) as u64;
const DEC: u64 = MOV + 5;
const JNZ: u64 = MOV + 6;
const PAUSE: u64 = MOV + 8;

const HEADER_BYTES: u32 = 52;
const PROGRAM_HEADER_BYTES: u32 = 32;
const NOTE_OFFSET: u32 = HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
const NOTE_BYTES: u32 = 20;
const CODE_OFFSET: u32 = NOTE_OFFSET + NOTE_BYTES;

/// A 32-bit ELF file with the PVH entry note (Xen note type 18) and the code.
fn guest() -> Vec<u8> {
    let mut image = b"\x7fELF\x01\x01\x01".to_vec();
    image.resize(16, 0);
    let halves = |first: u32, second: u32| first | second << 16;
    let entry = BASE + CODE_OFFSET;
    let end = CODE_OFFSET + CODE.len() as u32;
    let note = BASE + NOTE_OFFSET;
    let words = [
        [halves(2, 3), 1, entry, HEADER_BYTES, 0, 0].as_slice(),
        &[
            halves(HEADER_BYTES as _, PROGRAM_HEADER_BYTES as _),
            halves(2, 0),
            0,
        ],
        &[1, 0, BASE, BASE, end, end, 7, 0x1000],
        &[4, NOTE_OFFSET, note, note, NOTE_BYTES, NOTE_BYTES, 4, 4],
        &[4, 4, 18, u32::from_le_bytes(*b"Xen\0"), entry],
    ]
    .concat();
    image.extend(words.into_iter().flat_map(u32::to_le_bytes));
    assert_eq!(image.len(), CODE_OFFSET as usize);
    image.extend(CODE);
    image
}

/// A machine that ends with its owner.
struct Guest(Child);

impl Guest {
    fn boot(qemu: &Qemu, cpus: u32, image: &Path, plugin: &Path, socket: &Path) -> Self {
        let plugin = format!("{},socket={}", plugin.display(), socket.display());
        let child = Command::new(&qemu.program)
            .args([
                "-machine", "q35", "-accel", "tcg", "-m", "32M", "-display", "none",
            ])
            .args(["-smp", &cpus.to_string()])
            .args([
                "-nodefaults",
                "-no-reboot",
                "-icount",
                "shift=0,sleep=off",
                "-kernel",
            ])
            .arg(image)
            .args(["-plugin", &plugin])
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn sample_when_polling(sampler: &mut Sampler) -> Counts {
    loop {
        let counts = sampler.sample().unwrap();
        if counts.at(PAUSE) > 0 {
            return counts;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn every_instruction_is_counted_exactly() {
    counts_exactly(1);
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn every_instruction_is_counted_exactly_beside_a_processor_that_waits() {
    counts_exactly(2);
}

fn counts_exactly(cpus: u32) {
    let directory = tempfile::tempdir().unwrap();
    let (image, socket) = (
        directory.path().join("guest"),
        directory.path().join("socket"),
    );
    std::fs::write(&image, guest()).unwrap();
    let qemu = Qemu::locate().unwrap();
    let plugin = build_plugin(&qemu).unwrap();
    let _machine = Guest::boot(&qemu, cpus, &image, &plugin, &socket);
    let mut sampler = Sampler::connect(&socket, PATIENCE).unwrap();

    let start = sample_when_polling(&mut sampler);
    assert_eq!(start.at(MOV), 1);
    assert_eq!(start.at(DEC), u64::from(ITERATIONS));
    assert_eq!(start.at(JNZ), u64::from(ITERATIONS));

    thread::sleep(Duration::from_millis(100));
    let middle = sampler.sample().unwrap();
    thread::sleep(Duration::from_millis(100));
    let window = sampler.sample().unwrap().since(&middle);
    assert_eq!(window.at(DEC), 0);
    assert!(window.at(PAUSE) > 10_000, "it polls: {}", window.at(PAUSE));
    let polling = [PAUSE, PAUSE + 2].map(|address| window.at(address));
    assert_eq!(
        window.total(),
        polling.iter().sum::<u64>(),
        "it does nothing else"
    );
    assert!(polling[0].abs_diff(polling[1]) <= 1, "{polling:?}");
}
