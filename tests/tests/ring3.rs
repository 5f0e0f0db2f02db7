//! What machine code can do in ring 3, instruction by instruction: images of a few bytes, made
//! here, that the kernel has to stop, or that may go on and exit with code 7. And images that it
//! has to refuse.

use std::path::PathBuf;
use std::process;

use ix_machine::exit::GuestExit;
use ix_machine::{MachineConfig, MemorySize, NicKind};
use ix_tests::Booted;

/// Where the images are linked.
const BASE: u64 = 0x40_0000;
const CODE_AT: usize = 0x200;
const NOTE_AT: usize = 0x180;

/// `mov eax, 2; mov edi, 7; syscall`: exits with code 7.
const EXIT_7: &[u8] = b"\xb8\x02\0\0\0\xbf\x07\0\0\0\x0f\x05";
/// `mov eax, 99; syscall`: a call that does not exist, to see that the way back works.
const CALL_99: &[u8] = b"\xb8\x63\0\0\0\x0f\x05";
/// `mov rax, 1 << 47`, the first address that is not canonical.
const RAX_NOT_CANONICAL: &[u8] = b"\x48\xb8\0\0\0\0\0\x80\0\0";
/// The same with RSP.
const RSP_NOT_CANONICAL: &[u8] = b"\x48\xbc\0\0\0\0\0\x80\0\0";

/// `pushf; or dword [rsp], 1 << bit; popf`.
fn set_flag(bit: u32) -> Vec<u8> {
    [
        b"\x9c\x81\x0c\x24".as_slice(),
        &(1u32 << bit).to_le_bytes(),
        b"\x9d",
    ]
    .concat()
}

/// `mov eax, 1; mov rdi, address; mov rsi, bytes; syscall`: a log call.
fn log_call(address: u64, bytes: u64) -> Vec<u8> {
    [
        b"\xb8\x01\0\0\0\x48\xbf".as_slice(),
        &address.to_le_bytes(),
        b"\x48\xbe",
        &bytes.to_le_bytes(),
        b"\x0f\x05",
    ]
    .concat()
}

/// An image of two pages: code, which begins with the headers, and data at 0x600000.
fn image(code: &[&[u8]]) -> Vec<u8> {
    let code = code.concat();
    let mut file = vec![0; 0x1010];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &(BASE + CODE_AT as u64).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 3, 0]);
    let code_bytes = (CODE_AT + code.len()) as u64;
    let headers = [
        (1u32, 5u32, [0, BASE, BASE, code_bytes, code_bytes, 0x1000]),
        (4, 4, [NOTE_AT as u64, BASE, BASE, 20, 20, 4]),
        (1, 6, [0x1000, 0x60_0000, 0x60_0000, 16, 0x1000, 0x1000]),
    ];
    for (index, (kind, flags, fields)) in headers.into_iter().enumerate() {
        let at = 64 + 56 * index;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        put(at + 8, &fields.map(u64::to_le_bytes).concat());
    }
    put(
        NOTE_AT,
        &[3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, b'I', b'X', 0, 0],
    );
    put(NOTE_AT + 16, &ix_abi::VERSION.to_le_bytes());
    put(CODE_AT, &code);
    file
}

/// A file that goes away with its owner.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, contents: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("ix-ring3-{}-{name}.elf", process::id()));
        std::fs::write(&path, contents).expect("write an image");
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A file that is gone already is as good as removed.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Boots `image`; the console has to show `line`, and the machine to end as `end` says.
fn boot(name: &str, image: &[u8], line: &str, end: GuestExit) {
    println!("{name}");
    let file = TemporaryFile::new(name, image);
    let without_wire = |config: &mut MachineConfig| {
        config.app = file.0.clone();
        config.nic = NicKind::None;
        config.memory = MemorySize::from_mib(128);
    };
    let booted = Booted::start("probe", &[], without_wire);
    booted.line(line);
    booted.expect_end(end);
}

fn is_stopped(cases: &[(&str, &[&[u8]], &str)]) {
    for (name, code, cause) in cases {
        let line = format!("ix: application stopped: {cause}");
        // Going on is wrong: it would exit.
        let code = [*code, &[EXIT_7]].concat();
        boot(name, &image(&code), &line, GuestExit::AppFault);
    }
}

const PROTECTION: &str = "general protection fault";
const OPCODE: &str = "invalid opcode";

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn instructions_of_the_kernel_stop_it() {
    is_stopped(&[
        ("in", &[b"\xec"], PROTECTION),
        (
            "out-to-the-exit-port",
            &[b"\xb8\x10\0\0\0\x66\xba\xf4\0\xef"],
            PROTECTION,
        ),
        ("wrmsr", &[b"\x0f\x30"], PROTECTION),
        ("mov-to-cr4", &[b"\x0f\x22\xe0"], PROTECTION),
        ("swapgs", &[b"\x0f\x01\xf8"], PROTECTION),
        ("sysret", &[b"\x48\x0f\x07"], PROTECTION),
        ("wrgsbase", &[b"\xf3\x48\x0f\xae\xd8"], OPCODE),
        (
            "cli-with-iopl",
            &[&set_flag(12), &set_flag(13), b"\xfa"],
            PROTECTION,
        ),
    ]);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn software_interrupts_reach_no_handler_of_the_kernel() {
    is_stopped(&[
        ("int-8", &[b"\xcd\x08"], PROTECTION),
        ("int-0x40", &[b"\xcd\x40"], PROTECTION),
        (
            "far-return-to-ring-0",
            &[b"\x6a\x08\x6a\x00\x48\xcb"],
            PROTECTION,
        ),
    ]);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn faults_in_any_state_stop_it() {
    let ud2: &[u8] = b"\x0f\x0b";
    is_stopped(&[
        ("divide-by-zero", &[b"\x31\xc9\xf7\xf1"], "divide error"),
        (
            "x87-unmasked",
            &[b"\x6a\0\xd9\x2c\x24\xd9\xe8\xd9\xee\xde\xf9\x9b"],
            "x87",
        ),
        (
            "null-segments",
            &[b"\x31\xc0\x8e\xe8\x8e\xe0\x8e\xd8\x8e\xc0", ud2],
            OPCODE,
        ),
        ("nested-task-flag", &[&set_flag(14), ud2], OPCODE),
        ("alignment-check-flag", &[&set_flag(18), ud2], OPCODE),
        ("single-step", &[&set_flag(8), b"\x90"], "debug exception"),
        // mov eax, 0x1b; pushf; or dword [rsp], TF; popf; mov ss, eax; syscall
        (
            "single-step-into-syscall",
            &[b"\xb8\x1b\0\0\0", &set_flag(8), b"\x8e\xd0", CALL_99],
            "debug exception",
        ),
        ("no-stack", &[b"\x31\xe4", ud2], OPCODE),
        ("stack-not-canonical", &[RSP_NOT_CANONICAL, ud2], OPCODE),
        (
            "jump-not-canonical",
            &[RAX_NOT_CANONICAL, b"\xff\xe0"],
            PROTECTION,
        ),
    ]);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn memory_is_either_writable_or_executable() {
    is_stopped(&[
        (
            "write-to-code",
            &[b"\xc6\x04\x25\0\0\x40\0\x01"],
            "page fault (vector 14, error code 0x7",
        ),
        (
            "run-data",
            &[b"\xb8\0\0\x60\0\xff\xe0"],
            "page fault (vector 14, error code 0x15",
        ),
        // lea rax, [rsp - 8]; jmp rax
        (
            "run-stack",
            &[b"\x48\x8d\x44\x24\xf8\xff\xe0"],
            "page fault (vector 14, error code 0x15",
        ),
        // mov rax, 0x40_0000_0000; jmp rax: the first byte of the heap.
        (
            "run-heap",
            &[b"\x48\xb8\0\0\0\0\x40\0\0\0\xff\xe0"],
            "page fault (vector 14, error code 0x15",
        ),
    ]);
}

/// One image does all of it in turn: only if it comes back from each call does it exit with code 7.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn system_calls_work_from_any_state() {
    let code: &[&[u8]] = &[
        // mov qword [rdi + 16], -1; mov qword [rdi + 40], 1; three times RUN_IO: more calls than
        // there is room for, and no wish to wait for events.
        b"\x48\xc7\x47\x10\xff\xff\xff\xff\x48\xc7\x47\x28\x01\0\0\0",
        b"\x31\xc0\x0f\x05\x31\xc0\x0f\x05\x31\xc0\x0f\x05",
        // SSE and x87 arithmetic.
        b"\x0f\x57\xc0\xf2\x0f\x58\xc0\xd9\xe8\xd9\xee\xde\xf9\x9b",
        CALL_99,
        // Texts of the kernel, around the end of the address space, too long, and half outside.
        &log_call(0xffff_ffff_8020_0000, 64),
        &log_call(u64::MAX - 15, 64),
        &log_call(BASE, 1 << 40),
        &log_call(BASE - 1, 16),
        // User data segments in GS, FS, DS.
        b"\xb8\x1b\0\0\0\x8e\xe8\x8e\xe0\x8e\xd8",
        CALL_99,
        &set_flag(18),
        CALL_99,
        &set_flag(14),
        CALL_99,
        // std, and the copy of a text.
        b"\xfd",
        &log_call(BASE, 64),
        // mov rsp, 0xffffffff80640000: inside the kernel.
        b"\x48\xc7\xc4\0\0\x64\x80",
        CALL_99,
        RSP_NOT_CANONICAL,
        CALL_99,
        EXIT_7,
    ];
    let line = "ix: application exited with code 7";
    boot("any-state", &image(code), line, GuestExit::AppFailed);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn broken_images_are_refused() {
    let good = image(&[EXIT_7]);
    let damaged = |at: usize, value: u8| {
        let mut file = good.clone();
        file[at] = value;
        file
    };
    let code_flags = 64 + 4;
    for (name, file, reason) in [
        ("cut-off", good[..0x1000].to_vec(), "outside of the file"),
        (
            "writable-code",
            damaged(code_flags, 7),
            "writable and executable",
        ),
        (
            "another-version",
            damaged(NOTE_AT + 16, 77),
            "ABI version 77",
        ),
    ] {
        boot(name, &file, reason, GuestExit::BadBoot);
    }
}
