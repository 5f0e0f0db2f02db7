//! Segments, the task state segment, and the interrupt descriptor table (AMD64 Architecture
//! Programmer's Manual, volume 2, chapters 4 and 8).

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::size_of;

use super::stacks::Stacks;

/// Kernel code.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data; `syscall` takes it to follow the code.
pub const KERNEL_DATA: u16 = 0x10;
/// User data, with RPL 3; `sysret` takes it to precede the code.
pub const USER_DATA: u16 = 0x18 | 3;
/// User code, with RPL 3.
pub const USER_CODE: u16 = 0x20 | 3;
const TASK: u16 = 0x28;

/// Trap stack number for traps from user mode that name no stack of their own.
const STACK_USER: usize = 0;
/// Slots of the interrupt stack table, which are numbered from 1, as trap stack numbers.
const STACK_DEBUG: usize = 1;
const STACK_NMI: usize = 2;
const STACK_DOUBLE_FAULT: usize = 3;
const STACK_MACHINE_CHECK: usize = 4;
/// For faults that a bad stack pointer can cause, or that may hit right before `sysret`, when the
/// stack pointer is the user's already.
const STACK_FAULT: usize = 5;
const _: () = assert!(STACK_FAULT < Stacks::TRAPS);

/// A 64-bit interrupt gate, present: interrupts are off in the handler.
const INTERRUPT_GATE: u64 = 0x8e00 << 32;

#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    stacks: [u64; 3],
    reserved_2: u64,
    interrupt_stacks: [u64; 7],
    reserved_3: u64,
    reserved_4: u16,
    /// Beyond the segment's limit: user mode has no I/O port.
    io_map_base: u16,
}

const _: () = assert!(size_of::<TaskState>() == 104);

/// The tables of one processor.
#[repr(C, align(16))]
pub struct Tables {
    segments: [u64; 7],
    task: TaskState,
    gates: [[u64; 2]; 256],
}

struct Shared(UnsafeCell<Tables>);

// SAFETY: written once by `load`, before interrupts are on; after that only the processor uses it.
unsafe impl Sync for Shared {}

static TABLES: Shared = Shared(UnsafeCell::new(Tables::EMPTY));

impl Tables {
    /// Segments without a task state, and no gates.
    pub const EMPTY: Self = Self {
        segments: [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0,
            0,
        ],
        task: TaskState {
            reserved: 0,
            stacks: [0; 3],
            reserved_2: 0,
            interrupt_stacks: [0; 7],
            reserved_3: 0,
            reserved_4: 0,
            io_map_base: size_of::<TaskState>() as u16,
        },
        gates: [[0; 2]; 256],
    };
}

unsafe extern "C" {
    /// 256 stubs of 16 bytes in `entry.s`.
    static trap_stubs: u8;
}

/// What LGDT and LIDT take.
#[repr(C, packed(2))]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills and loads the boot CPU's tables. To be called once, with interrupts off.
pub fn load_boot_cpu() {
    // SAFETY: called once, before any trap can use the tables; nothing else refers to them.
    let tables = unsafe { &mut *TABLES.0.get() };
    load(tables, Stacks::of_boot_cpu());
}

/// Fills and loads a CPU's tables, for traps on the stacks at `stacks`. To be called on that CPU,
/// with interrupts off.
pub fn load(tables: &'static mut Tables, stacks: u64) {
    fill(tables, stacks);
    let segments = Pointer {
        limit: size_of::<[u64; 7]>() as u16 - 1,
        base: &raw const tables.segments as u64,
    };
    let gates = Pointer {
        limit: size_of::<[[u64; 2]; 256]>() as u16 - 1,
        base: &raw const tables.gates as u64,
    };
    // SAFETY: both tables are there for ever and complete; the selectors name descriptors of the right
    // kind in them; the far return goes to the next instruction.
    unsafe {
        asm!(
            "lgdt [{segments}]",
            "lidt [{gates}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "ltr {task:x}",
            segments = in(reg) &raw const segments,
            gates = in(reg) &raw const gates,
            code = const KERNEL_CODE,
            data = in(reg) u32::from(KERNEL_DATA),
            task = in(reg) TASK,
            scratch = out(reg) _,
        );
    }
}

fn fill(tables: &mut Tables, stacks: u64) {
    let task = &raw const tables.task as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    let base = (task & 0xff_ffff) << 16 | (task >> 24 & 0xff) << 56;
    // Present, available 64-bit task state segment.
    tables.segments[usize::from(TASK / 8)] = limit | base | 0x89 << 40;
    tables.segments[usize::from(TASK / 8) + 1] = task >> 32;
    tables.task.stacks = [Stacks::trap_top(stacks, STACK_USER), 0, 0];
    let mut interrupt_stacks = [0; 7];
    for number in STACK_DEBUG..=STACK_FAULT {
        interrupt_stacks[number - 1] = Stacks::trap_top(stacks, number);
    }
    tables.task.interrupt_stacks = interrupt_stacks;
    for (vector, gate) in tables.gates.iter_mut().enumerate() {
        let stub = &raw const trap_stubs as u64 + 16 * vector as u64;
        let stack = stack_of(vector) as u64;
        let selector = u64::from(KERNEL_CODE) << 16;
        let offset = stub & 0xffff | (stub >> 16 & 0xffff) << 48;
        *gate = [offset | selector | stack << 32 | INTERRUPT_GATE, stub >> 32];
    }
}

/// The interrupt stack of a vector, 0 for none.
fn stack_of(vector: usize) -> usize {
    match vector {
        1 => STACK_DEBUG,
        2 => STACK_NMI,
        8 => STACK_DOUBLE_FAULT,
        18 => STACK_MACHINE_CHECK,
        10..=14 => STACK_FAULT,
        _ => 0,
    }
}
