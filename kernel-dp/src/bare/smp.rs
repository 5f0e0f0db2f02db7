//! The other processors: woken one after the other by INIT and startup IPIs (Intel SDM volume 3,
//! 10.4.4), each with a block of memory of its own that holds its stacks, descriptor tables and
//! per-CPU data; then halted until they get a job. And how all of them are stopped at the end.

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc::boxed::Box;

use ix_abi::THREADS_MAX;
use kernel_dp::boot_info::{BootInfo, Range};
use kernel_dp::regions::trampoline_page;
use kernel_dp::{LARGE_PAGE, PAGE};

use super::apic::{self, Message};
use super::cpu::{Features, halt_forever, rdtsc};
use super::descriptors::{self, Tables};
use super::memory::{CPU_BLOCK_SHARED, Memory, MemoryError};
use super::percpu::{ABSENT, Job, PerCpu, STOPPED, UP};
use super::privacy;
use super::stacks::Stacks;
use super::time::{Clock, moment};
use super::traps::WAKE_VECTOR;

core::arch::global_asm!(
    include_str!("trampoline.s"),
    tables = sym TABLES,
    ticket = sym TICKET,
    main_stack_top = const offset_of!(CpuBlock, stacks) + offset_of!(Stacks, main)
        + Stacks::MAIN_BYTES,
    main = sym cpu_main,
    options(att_syntax)
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// Physical address of the tables that a starting processor loads.
static TABLES: AtomicU64 = AtomicU64::new(0);
/// The block for the next processor that starts, until one takes it.
static TICKET: AtomicPtr<CpuBlock> = AtomicPtr::new(core::ptr::null_mut());
/// The processors that came up, the boot CPU first, by the number of their thread.
static CPUS: [AtomicPtr<PerCpu>; THREADS_MAX] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; THREADS_MAX];
static CPU_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Between INIT and the startup IPI (Intel SDM volume 3, 10.4.4.1).
const INIT_MICROS: u32 = 10_000;
/// Between the two startup IPIs.
const STARTUP_MICROS: u32 = 200;
/// How long a processor may take to come up: long, since a host may have more virtual processors
/// than real ones.
const PATIENCE_MICROS: u32 = 2_000_000;
/// How long the others may take to stop, in turns of a loop.
const STOP_PATIENCE: u32 = 10_000_000;

/// What a processor other than the first has to itself, in a large page of its own, whose last small
/// page is mapped elsewhere, and holds its [`PerCpu`].
#[repr(C)]
struct CpuBlock {
    stacks: Stacks,
    tables: Tables,
    features: Features,
}

const _: () = assert!(size_of::<CpuBlock>() <= (LARGE_PAGE - PAGE) as usize);
const _: () = assert!(size_of::<PerCpu>() <= PAGE as usize);

impl CpuBlock {
    /// Where the processor's [`PerCpu`] is.
    fn cpu(block: *mut Self) -> *mut PerCpu {
        block
            .wrapping_byte_add(CPU_BLOCK_SHARED as usize)
            .cast::<PerCpu>()
    }
}

/// What [`privacy`] calls the kernel's stacks.
const STACKS: &str = "kernel stacks";

/// Makes the boot CPU the first of [`cpus`].
pub fn register_boot_cpu() {
    let cpu = PerCpu::get();
    let stacks = Range::of(Stacks::of_boot_cpu(), size_of::<Stacks>() as u64);
    privacy::keep(0, stacks, STACKS);
    cpu.apic.store(apic::id(), Ordering::Relaxed);
    cpu.tsc.store(rdtsc(), Ordering::Relaxed);
    register(cpu);
}

fn register(cpu: &'static PerCpu) {
    let index = CPU_COUNT.load(Ordering::Relaxed);
    cpu.thread.store(index as u32, Ordering::Relaxed);
    cpu.state.store(UP, Ordering::Relaxed);
    CPUS[index].store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Relaxed);
    CPU_COUNT.store(index + 1, Ordering::Release);
}

/// The processors that are up, by the number of their thread.
pub fn cpus() -> impl Iterator<Item = &'static PerCpu> {
    let count = CPU_COUNT.load(Ordering::Acquire);
    // SAFETY: the first `count` are set, to blocks that stay for ever and are shared only.
    CPUS[..count]
        .iter()
        .map(|cpu| unsafe { &*cpu.load(Ordering::Relaxed) })
}

/// Starts processors of `apics` until `most` are up, this one included. One that does not come up
/// is reported and left out.
pub fn start(
    memory: &mut Memory,
    info: &BootInfo,
    apics: &[u32],
    most: usize,
    features: &Features,
    clock: &Clock,
) -> Result<(), MemoryError> {
    let own = apic::id();
    let others = || apics.iter().filter(|&&apic| apic != own);
    if others().next().is_none() || most < 2 {
        return Ok(());
    }
    let Some(page) = trampoline_page(&info.memory_map, &info.modules) else {
        log::warn!("no RAM below 1 MiB to start other CPUs in: going on with one");
        return Ok(());
    };
    copy_trampoline(memory, page)?;
    TABLES.store(memory.root(), Ordering::Relaxed);
    // Whoever cannot be sent this one cannot be sent the startup IPI either, which is looked at.
    for &apic in others() {
        apic::send(apic, Message::Init);
    }
    clock.wait_micros(INIT_MICROS);
    for &apic in others() {
        let index = cpus().count();
        if index == most.min(THREADS_MAX) {
            break;
        }
        let (cpu, own) = new_block(memory, apic, features)?;
        match start_one(cpu, apic, page, clock) {
            Ok(()) => own.map(|range| privacy::keep(index, range, STACKS)),
            Err(why) => {
                log::warn!("the CPU of local APIC {apic} {why}: going on without it");
                continue;
            }
        };
    }
    Ok(())
}

fn copy_trampoline(memory: &mut Memory, page: u64) -> Result<(), MemoryError> {
    let to = memory.map_low_page(page)?;
    let (start, end) = (&raw const trampoline_start, &raw const trampoline_end);
    let bytes = end as usize - start as usize;
    assert!(bytes <= kernel_dp::PAGE as usize);
    for at in 0..bytes {
        // SAFETY: both lie in ranges of `bytes` bytes; the page is RAM that nobody else uses.
        unsafe { to.add(at).write_volatile(*start.add(at)) };
    }
    Ok(())
}

/// A block for the next processor that starts, which should be that of local APIC `apic`. Each is
/// mapped at an address of its own: a processor that started and did not come up may still use one.
/// Gives where it is mapped, but for the [`PerCpu`], which others use too.
fn new_block(
    memory: &mut Memory,
    apic: u32,
    features: &Features,
) -> Result<(&'static PerCpu, [Range; 2]), MemoryError> {
    static MAPPED: AtomicUsize = AtomicUsize::new(0);
    let region = memory.allocate(LARGE_PAGE, "a CPU's stacks")?;
    let direct = region.addresses();
    let (own, shared) = region.split(LARGE_PAGE - PAGE);
    let index = MAPPED.fetch_add(1, Ordering::Relaxed);
    let block = memory.map_cpu(index, &own, &shared)?.cast::<CpuBlock>();
    let block = block.as_ptr();
    // SAFETY: the block is mapped for good but for the guards in `stacks`, and nothing else refers
    // to it; the fields are written before any reference to them is made.
    let cpu = unsafe {
        (&raw mut (*block).tables).write(Tables::EMPTY);
        (&raw mut (*block).features).write(*features);
        CpuBlock::cpu(block).write(PerCpu::new());
        &*CpuBlock::cpu(block)
    };
    cpu.apic.store(apic, Ordering::Relaxed);
    cpu.thread.store(cpus().count() as u32, Ordering::Relaxed);
    TICKET.store(block, Ordering::Release);
    // All of the large page, so that one entry hides it.
    Ok((cpu, [direct, Range::of(block as u64, LARGE_PAGE)]))
}

/// Wakes a processor, which takes the ticket, and waits until it is up.
fn start_one(
    cpu: &'static PerCpu,
    apic: u32,
    page: u64,
    clock: &Clock,
) -> Result<(), &'static str> {
    let before = rdtsc();
    if !apic::send(apic, Message::Startup(page)) {
        withdraw(cpu, clock)?;
        return Err("cannot be sent interrupts");
    }
    if !is_up_within(cpu, STARTUP_MICROS, clock) {
        apic::send(apic, Message::Startup(page));
        if !is_up_within(cpu, PATIENCE_MICROS, clock) {
            withdraw(cpu, clock)?;
        }
    }
    let tsc = cpu.tsc.load(Ordering::Relaxed);
    if !(before..=rdtsc()).contains(&tsc) {
        return Err("has a time-stamp counter of its own");
    }
    register(cpu);
    Ok(())
}

/// Takes the ticket back. If it is gone, somebody comes up with it, and gets a little more time.
fn withdraw(cpu: &PerCpu, clock: &Clock) -> Result<(), &'static str> {
    let ticket = TICKET.swap(core::ptr::null_mut(), Ordering::Relaxed);
    if !ticket.is_null() {
        return Err("does not start");
    }
    if is_up_within(cpu, PATIENCE_MICROS, clock) {
        return Ok(());
    }
    Err("started and did not come up")
}

fn is_up_within(cpu: &PerCpu, micros: u32, clock: &Clock) -> bool {
    let start = rdtsc();
    let ticks = clock.ticks_of_micros(u64::from(micros));
    // Acquire: what it said of itself is there once it is up.
    while cpu.state.load(Ordering::Acquire) == ABSENT {
        if rdtsc().wrapping_sub(start) > ticks {
            return false;
        }
        moment();
    }
    true
}

/// Entered from `trampoline.s` on the stack of `block`.
extern "C" fn cpu_main(block: *mut CpuBlock) -> ! {
    let stacks = block as u64 + offset_of!(CpuBlock, stacks) as u64;
    // SAFETY: this CPU took the ticket, so that the block is its alone; `new_block` filled it in.
    // The boot CPU refers to `cpu` only, which is shared.
    let (tables, cpu, features) = unsafe {
        (
            &mut (*block).tables,
            &*CpuBlock::cpu(block),
            &(*block).features,
        )
    };
    cpu.install();
    descriptors::load(tables, stacks);
    features.enable();
    apic::enable(features);
    cpu.apic.store(apic::id(), Ordering::Relaxed);
    cpu.tsc.store(rdtsc(), Ordering::Relaxed);
    cpu.state.store(UP, Ordering::Release);
    loop {
        let job = cpu.job.swap(core::ptr::null_mut(), Ordering::Acquire);
        if !job.is_null() {
            // SAFETY: `give_job` made it of a box, and whoever swaps it out owns it.
            let job = unsafe { Box::from_raw(job) };
            job.run();
        }
        // SAFETY: handlers only acknowledge; the instruction after `sti` runs before any of them,
        // so that the interrupt that tells of a job ends the halt.
        unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
    }
}

/// Has a processor that waits for a job do this one.
pub fn give_job(cpu: &PerCpu, job: Box<dyn Job>) {
    let job = Box::into_raw(Box::new(job));
    cpu.job.store(job, Ordering::Release);
    let apic = cpu.apic();
    apic::send(apic, Message::Interrupt(WAKE_VECTOR));
}

/// Interrupts the processor of a thread, so that it does not halt, or not any longer.
pub fn wake(thread: u32) {
    if let Some(cpu) = cpus().nth(thread as usize) {
        apic::send(cpu.apic(), Message::Interrupt(WAKE_VECTOR));
    }
}

/// The processor that ends the machine, by thread number plus one.
static ENDING: AtomicU32 = AtomicU32::new(0);

/// Makes this processor the one that ends the machine, and stops all others. Where another one is
/// ahead, this one stops here. May be called again.
pub fn begin_end() {
    let own = PerCpu::get();
    let number = own.thread() + 1;
    match ENDING.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(ahead) if ahead == number => return,
        Err(_) => stop_here(),
    }
    let others = || cpus().filter(|cpu| !core::ptr::eq(*cpu, own));
    // Nobody is stopped with half a line printed.
    super::console::seize();
    for cpu in others() {
        apic::send(cpu.apic(), Message::Nmi);
    }
    for cpu in others() {
        let is_stopped = || cpu.state.load(Ordering::Acquire) == STOPPED;
        (0..STOP_PATIENCE).any(|_| {
            core::hint::spin_loop();
            is_stopped()
        });
    }
}

/// To be called on a non-maskable interrupt: if the machine ends, this processor stops here.
pub fn stop_if_ending() {
    if ENDING.load(Ordering::Relaxed) != 0 {
        stop_here();
    }
}

fn stop_here() -> ! {
    let cpu = PerCpu::get();
    cpu.publish_counters();
    // Release: what this processor has written is there for the one that reports it.
    cpu.state.store(STOPPED, Ordering::Release);
    halt_forever()
}
