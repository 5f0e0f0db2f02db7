//! The kernel proper. Boot order is the order of [`kernel_main`]; after it, everything happens in
//! [`run`], the loop of an elastic thread, on each CPU. The boot CPU sets everything up; the others
//! ([`smp`]) wait until they get their thread.
//!
//! Unsafe code is here and nowhere else in this package, at the bottom: `cpu`, `boot`, `stacks`,
//! `percpu`, `descriptors`, `traps`, `user`, `memory`, `privacy`, `heap`, `apic`, `smp`, `time`, `rtc`, and the
//! register accesses of `nic` and `pci`. `load`, `channel`, `run` and `background` stand on top of them.

mod apic;
mod background;
mod boot;
mod channel;
mod console;
mod cpu;
mod crossbar;
mod descriptors;
mod engine;
mod entropy;
mod heap;
mod load;
mod memory;
mod nic;
mod panic;
mod parts;
mod pci;
mod percpu;
mod privacy;
mod rtc;
mod run;
mod smp;
mod stacks;
mod text;
mod time;
mod traps;
mod user;
mod watch;

use core::fmt;
use core::sync::atomic::AtomicU64;

use alloc::boxed::Box;
use alloc::vec::Vec;

use igb::Igb;
use ix_abi::syscall::BACKGROUND_MAX;
use ix_core::{Control, ElasticThread, Inbox, ThreadConfig, ThreadParts};
use ix_hal::{MbufPool, Nic, Steer};
use ix_net::{Mailbox, Names};
use ix_nic::Rss;
use ixgbe::Ixgbe;
use ixgbevf::Ixgbevf;
use kernel_dp::LARGE_PAGE;
use kernel_dp::acpi;
use kernel_dp::application::{self, MemoryPlan, Processors, ThreadPlaces};
use kernel_dp::boot_info::BootInfo;
use kernel_dp::command_line::{NicChoice, Options, Poll};
use virtio_net::VirtioNet;

use apic::Timer;
use background::BackgroundStart;
use console::say;
use cpu::Features;
use crossbar::Crossbar;
use engine::plan_memory;
use heap::Arena;
use memory::{BootMemory, Memory};
use nic::{Delay, Driver, Mapped, NullNic, Registers, VirtualRegisters};
use panic::{ExitCode, refuse};
use parts::{Launch, Parts};
use pci::Configuration;
use percpu::{Job, PerCpu};
use run::{Idle, Runner, Spent};
use time::Clock;
use user::{User, UserState};
use watch::Watch;

/// Entered from `boot.s` with the physical address of the PVH start info.
extern "C" fn kernel_main(start_info: u64) -> ! {
    console::init();
    let features = Features::probe();
    PerCpu::init_boot_cpu();
    descriptors::load_boot_cpu();
    features.enable();

    let info = or_refuse(BootInfo::parse(&BootMemory, start_info));
    let options = or_refuse(Options::parse(info.command_line()));
    console::init_log(options.log);
    let firmware = acpi::Machine::parse(&BootMemory, info.rsdp).unwrap_or_else(|error| {
        log::warn!("{error}: going on without ACPI");
        acpi::Machine::default()
    });
    let mut memory = or_refuse(Memory::take_over(&info, firmware.cpus.len()));
    or_refuse(apic::init(&features, &mut memory));
    let clock = Clock::calibrate(&features, firmware.pm_timer);
    let clock = or_refuse(clock.ok_or("no timer to measure the TSC by"));
    let free = memory.available();
    say!(
        "kernel up, {} MiB free, {} CPUs, TSC {} MHz by {}, {features}",
        free >> 20,
        firmware.cpus.len(),
        (clock.hz + 500_000) / 1_000_000,
        clock.source,
    );

    let most = match options.nic {
        NicChoice::None => ix_abi::THREADS_MAX,
        nic => nic.queues() + options.background,
    };
    smp::register_boot_cpu();
    let apics = &firmware.cpus;
    or_refuse(smp::start(
        &mut memory,
        &info,
        apics,
        most,
        &features,
        &clock,
    ));
    let cpus = smp::cpus().count();
    if cpus < firmware.cpus.len() {
        say!(
            "{cpus} CPUs serve, {} stay parked",
            firmware.cpus.len() - cpus
        );
    }
    let processors = Processors::of(cpus, options.background);
    let processors = or_refuse(processors.ok_or(
        "background=1 takes one CPU of at least two: give the machine another, or leave it out",
    ));

    let mbuf_shift = application::mbuf_shift(options.mtu);
    let plan = or_refuse(plan_memory(
        memory.available(),
        processors,
        mbuf_shift,
        options.connections,
    ));
    let shared_heap = engine::shared_heap(&options, &plan, processors);
    let shared_heap = memory.allocate_dirty(shared_heap, KERNEL_HEAP);
    heap::move_to(Arena::new(or_refuse(shared_heap)));
    let loaded = or_refuse(load::load(&mut memory, &plan, processors, mbuf_shift));
    let arenas = (0..processors.threads).map(|_| {
        let heap = memory.allocate_dirty(plan.kernel_heap + LARGE_PAGE, KERNEL_HEAP);
        Arena::new(or_refuse(heap))
    });
    let mut arenas: Vec<Arena> = arenas.collect();
    let machine = Machine {
        features,
        clock,
        options: &options,
        plan,
        entry: loaded.entry,
        processors,
        background: loaded.background,
    };
    let threads = loaded.threads;
    let elastic = smp::cpus().take(processors.threads);
    let apics: Vec<u32> = elastic.map(PerCpu::apic).collect();
    let mut config = or_refuse(Configuration::new(&mut memory, firmware.ecam));
    let page = or_refuse(channel::open(&mut memory, &mut config, &apics));
    match options.nic {
        NicChoice::None => {
            let nics = threads.iter().map(|_| NullNic::new()).collect();
            machine.serve(&mut memory, threads, nics, arenas, None, page)
        }
        choice => {
            let found = nic::find(&mut config, choice);
            let (kind, found) = found.unwrap_or_else(|error| refuse(ExitCode::NoNic, error));
            let pools: Vec<_> = threads.iter().map(|thread| thread.mbufs).collect();
            let site = nic::Site {
                memory: &mut memory,
                config: &mut config,
                clock: &clock,
                options: &options,
                pools: &pools,
                arenas: &mut arenas,
                apics: &apics,
                found,
            };
            match kind {
                NicChoice::Intel82576 => {
                    let nic = open_nic::<Igb<Registers>>(site);
                    machine.serve_on(&mut memory, threads, nic, arenas, page)
                }
                NicChoice::Virtual82599 => {
                    let nic = open_nic::<Ixgbevf<VirtualRegisters>>(site);
                    machine.serve_on(&mut memory, threads, nic, arenas, page)
                }
                NicChoice::Virtio => {
                    let nic = open_nic::<VirtioNet<Mapped, Delay>>(site);
                    machine.serve_on(&mut memory, threads, nic, arenas, page)
                }
                _ => {
                    let nic = open_nic::<Ixgbe<Registers>>(site);
                    machine.serve_on(&mut memory, threads, nic, arenas, page)
                }
            }
        }
    }
}

/// Brings the NIC up, or ends the machine.
fn open_nic<D: Driver>(site: nic::Site<'_, '_>) -> (Vec<D::Pair>, D) {
    D::open(site).unwrap_or_else(|error| refuse(ExitCode::NoNic, error))
}

const KERNEL_HEAP: &str = "the kernel's heap";

/// What is known of the machine once it is set up.
struct Machine<'a> {
    features: Features,
    clock: Clock,
    options: &'a Options<'a>,
    plan: MemoryPlan,
    /// Where every thread of the application begins.
    entry: u64,
    processors: Processors,
    background: Option<load::Background>,
}

impl Machine<'_> {
    /// Serves with the queue pairs of that device.
    fn serve_on<D: Driver>(
        self,
        memory: &mut Memory,
        threads: Vec<load::Thread>,
        (pairs, nic): (Vec<D::Pair>, D),
        heaps: Vec<Arena>,
        page: Option<&'static [AtomicU64]>,
    ) -> ! {
        let rss = nic.rss().clone();
        let steer: &dyn Steer = Box::leak(Box::new(Crossbar::new(nic)));
        self.serve(memory, threads, pairs, heaps, Some((&rss, steer)), page)
    }

    /// Builds all elastic threads, each with its tables in an arena of the heap of its own, and
    /// runs them, each in an address space of its own: the first one on this CPU.
    fn serve<N: Nic + Send + 'static>(
        mut self,
        memory: &mut Memory,
        threads: Vec<load::Thread>,
        nics: Vec<N>,
        heaps: Vec<Arena>,
        steering: Option<(&Rss, &'static dyn Steer)>,
        page: Option<&'static [AtomicU64]>,
    ) -> ! {
        let timer = self.timer_if_needed();
        let is_shared = self.processors.threads > 1;
        let mailboxes: Vec<Mailbox> = (1..self.processors.threads)
            .map(|_| Mailbox::default())
            .collect();
        let shared = Shared {
            mailboxes: Vec::leak(mailboxes),
            secret: entropy::secret(&self.features),
            names: is_shared.then(|| &*Box::leak(Box::new(self.names()))),
            steering: steering.filter(|_| is_shared),
            inboxes: Vec::leak((0..self.processors.threads).map(|_| Inbox::new()).collect()),
            page,
        };
        let mut starts = Vec::with_capacity(self.processors.threads);
        for ((application, nic), mut heap) in threads.into_iter().zip(nics).zip(heaps) {
            let config = || self.net_config(nic.mac(), &application, &shared);
            let net = heap::within(&mut heap, config);
            let parts = or_refuse(Parts::new(application, nic, net, &mut heap));
            let build = || Box::new(self.build(parts, timer, &shared));
            starts.push(heap::within(&mut heap, build));
        }
        let background = self.background.take();
        let background = background.map(|parts| self.build_background(memory, parts));
        if let Some(page) = page {
            let owners = steering.map_or(&[][..], |(rss, _)| &rss.reta);
            Control::initialize(page, self.processors.threads, owners);
        }
        match self.processors.threads {
            1 => say!("serving {}", self.options.place()),
            threads => say!("serving {} on {threads} CPUs", self.options.place()),
        }
        let mut launches = starts.into_iter().enumerate().map(|(index, job)| {
            Box::new(Launch {
                job,
                space: or_refuse(memory.space_of(index)),
                trespasses: self.options.trespass && index == 0,
            })
        });
        let own = or_refuse(launches.next().ok_or("there is no thread to run"));
        for (cpu, launch) in smp::cpus().skip(1).zip(launches) {
            smp::give_job(cpu, launch);
        }
        if let Some((cpu, job)) = smp::cpus().nth(self.processors.threads).zip(background) {
            let launch = Launch {
                job,
                space: or_refuse(memory.space_of(self.processors.threads)),
                trespasses: false,
            };
            smp::give_job(cpu, Box::new(launch));
        }
        own.run()
    }

    /// Builds what runs the background threads on the last processor, in an arena of its own.
    fn build_background(
        &self,
        memory: &mut Memory,
        parts: load::Background,
    ) -> Box<BackgroundStart> {
        let processor = self.processors.threads;
        parts.write_boot_block(self.processors, &self.plan, &self.clock);
        let region = memory.allocate_dirty(LARGE_PAGE, KERNEL_HEAP);
        let mut heap = Arena::new(or_refuse(region));
        privacy::keep(processor, heap.range(), "kernel heap");
        background::assign(processor);
        say!("CPU {processor} runs background threads");
        let timer = self.timer();
        heap::within(&mut heap, || {
            Box::new(BackgroundStart {
                parts,
                clock: self.clock,
                timer,
                states: Box::new([const { (UserState::NONE, 0) }; BACKGROUND_MAX]),
            })
        })
    }

    /// Builds one elastic thread.
    fn build<N: Nic>(
        &self,
        parts: Parts<N>,
        timer: Option<Timer>,
        shared: &Shared<'_>,
    ) -> Start<N> {
        let Parts {
            application: part,
            nic,
            net,
            movable,
        } = parts;
        part.write_boot_block(self.processors, &self.plan, self.options, &self.clock);
        let parts = ThreadParts {
            nic,
            memory: part.frames,
            pool: match net.sharing {
                Some(sharing) => MbufPool::with_loans(part.mbufs, sharing.thread, sharing.loans),
                None => MbufPool::new(part.mbufs),
            },
            area: part.area,
            sendable: part.sendable(),
            crew: self.crew(part.index, shared),
            movable,
        };
        let config = ThreadConfig {
            batch_bound: usize::from(self.options.batch),
            net,
        };
        let connections = config.net.connections;
        let mut thread = or_refuse(ElasticThread::new(config, parts, self.clock.now()));
        if let Some(page) = shared.page {
            thread.attach(Control::new(page, part.index));
        }
        log::info!(
            "thread {}: kernel heap {} MiB ({} MiB left), {} mbufs, {connections} connections, \
             application heap {} MiB",
            part.index,
            self.plan.kernel_heap >> 20,
            heap::available() >> 20,
            part.mbufs.count,
            self.plan.heap >> 20,
        );
        Start {
            thread,
            entry: self.entry,
            places: part.places,
            memory: part.memory,
            clock: self.clock,
            timer,
            idle: self.idle(timer),
            watch: timer.and_then(|timer| Watch::new(self.options.limit, timer, self.clock)),
        }
    }

    fn timer(&self) -> Timer {
        let timer = Timer::new(&self.features, self.clock.ticks_of_micros(1_000));
        or_refuse(timer.ok_or("the local APIC's timer stands still"))
    }

    /// The timer of each CPU with an elastic thread, if anything needs it.
    fn timer_if_needed(&self) -> Option<Timer> {
        let is_needed = self.options.poll == Poll::Adaptive || self.options.limit.time.is_some();
        is_needed.then(|| self.timer())
    }

    fn idle(&self, timer: Option<Timer>) -> Idle {
        match (self.options.poll, timer) {
            (Poll::Adaptive, Some(timer)) => {
                let spin_us = u64::from(self.options.spin_us);
                Idle::Halt(self.clock.ticks_of_micros(spin_us), timer)
            }
            _ => Idle::Poll,
        }
    }
}

/// What all threads are told alike.
struct Shared<'a> {
    mailboxes: &'static [Mailbox],
    /// Where connections are, if there are more threads.
    names: Option<&'static Names>,
    secret: [u8; 16],
    /// How the NIC spreads flows at first, and what changes that, if there are more threads.
    steering: Option<(&'a Rss, &'static dyn Steer)>,
    inboxes: &'static [Inbox],
    page: Option<&'static [AtomicU64]>,
}

/// A thread that is to be run on its own CPU.
struct Start<N> {
    thread: ElasticThread<N, load::Frames>,
    entry: u64,
    places: ThreadPlaces,
    memory: load::UserMemory,
    clock: Clock,
    timer: Option<Timer>,
    idle: Idle,
    watch: Option<Watch>,
}

impl<N: Nic + Send> Job for Start<N> {
    /// Runs it on this CPU.
    fn run(self: Box<Self>) -> ! {
        self.timer.iter().for_each(Timer::adopt);
        Runner {
            thread: self.thread,
            // SAFETY: tables and per-CPU block are loaded; user mappings are user memory only, by
            // `Memory::map_user`; this CPU runs no other thread.
            user: unsafe { User::new(self.entry, &self.places) },
            memory: self.memory,
            clock: self.clock,
            idle: self.idle,
            watch: self.watch,
            spent: Spent::default(),
        }
        .run()
    }
}

fn or_refuse<T, E: fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| refuse(ExitCode::BadBoot, error))
}
