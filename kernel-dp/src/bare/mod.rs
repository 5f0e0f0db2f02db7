//! The kernel proper. Boot order is the order of [`kernel_main`]; after it, everything happens in
//! [`run`], the loop of the one elastic thread.
//!
//! Unsafe code is here and nowhere else in this package, at the bottom: `cpu`, `boot`, `stacks`,
//! `percpu`, `descriptors`, `traps`, `user`, `memory`, `heap`, `apic`, `time`, and the register
//! accesses of `nic`. `load` and `run` stand on top of them.

mod apic;
mod boot;
mod console;
mod cpu;
mod descriptors;
mod entropy;
mod heap;
mod load;
mod memory;
mod nic;
mod panic;
mod percpu;
mod run;
mod stacks;
mod time;
mod traps;
mod user;

use core::fmt;
use core::net::Ipv4Addr;

use ix_core::{ElasticThread, ThreadConfig, ThreadParts};
use ix_hal::{MbufPool, Nic};
use kernel_dp::acpi;
use kernel_dp::application::MemoryPlan;
use kernel_dp::boot_info::BootInfo;
use kernel_dp::command_line::{NicChoice, Options, Poll};

use apic::Timer;
use console::say;
use cpu::Features;
use load::Application;
use memory::{BootMemory, Memory};
use nic::NullNic;
use panic::{ExitCode, refuse};
use percpu::PerCpu;
use run::{Idle, Runner};
use time::Clock;
use user::User;

/// Entered from `boot.s` with the physical address of the PVH start info.
extern "C" fn kernel_main(start_info: u64) -> ! {
    console::init();
    let features = Features::probe();
    PerCpu::init_boot_cpu();
    descriptors::load();
    features.enable();

    let info = or_refuse(BootInfo::parse(&BootMemory, start_info));
    let options = or_refuse(Options::parse(info.command_line()));
    console::init_log(options.log);
    let firmware = acpi::Machine::parse(&BootMemory, info.rsdp).unwrap_or_else(|error| {
        log::warn!("{error}: going on without ACPI");
        acpi::Machine::default()
    });
    let mut memory = or_refuse(Memory::take_over(&info));
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

    let plan = MemoryPlan::of(free);
    let plan = or_refuse(plan.ok_or("too little memory: give the machine at least 128 MiB"));
    heap::init(or_refuse(
        memory.allocate_dirty(plan.kernel_heap, "the kernel's heap"),
    ));
    let application = or_refuse(load::load(&mut memory, &plan));
    application.write_boot_block(&options, &clock);
    let machine = Machine { features, clock };
    match options.nic {
        NicChoice::None => machine.serve(NullNic::new(), &application, &options, &plan),
        NicChoice::Intel82599 => {
            let mbufs = application.mbufs;
            let nic = nic::open(&mut memory, firmware.ecam, &clock, options.mtu, mbufs);
            let nic = nic.unwrap_or_else(|error| refuse(ExitCode::NoNic, error));
            machine.serve(nic, &application, &options, &plan)
        }
    }
}

/// What is known of the machine once it is set up.
struct Machine {
    features: Features,
    clock: Clock,
}

impl Machine {
    /// Builds the elastic thread and runs it.
    fn serve<N: Nic>(
        self,
        nic: N,
        application: &Application,
        options: &Options<'_>,
        plan: &MemoryPlan,
    ) -> ! {
        let net = self.net_config(nic.mac(), application, options, plan);
        let parts = ThreadParts {
            nic,
            memory: application.frames,
            pool: MbufPool::new(application.mbufs),
            area: application.area,
            sendable: application.sendable(),
        };
        let config = ThreadConfig {
            batch_bound: usize::from(options.batch),
            net,
        };
        let (address, connections) = (config.net.ipv4, config.net.connections);
        let thread = ElasticThread::new(config, parts, self.clock.now());
        log::info!(
            "memory: kernel heap {} MiB ({} MiB left), {} mbufs, {connections} connections, \
             application heap {} MiB",
            plan.kernel_heap >> 20,
            heap::available() >> 20,
            application.mbufs.count,
            plan.heap >> 20,
        );
        say!("serving {address}");
        Runner {
            thread,
            // SAFETY: tables and per-CPU block are loaded; user mappings are user memory only, by
            // `Memory::map_user`; this is the only thread.
            user: unsafe { User::new(application.entry) },
            memory: application.memory,
            clock: self.clock,
            idle: self.idle(options),
        }
        .run()
    }

    fn idle(&self, options: &Options<'_>) -> Idle {
        if options.poll == Poll::Always {
            return Idle::Poll;
        }
        let timer = Timer::new(&self.features, self.clock.ticks_of_micros(1_000));
        let timer = or_refuse(timer.ok_or("the local APIC's timer stands still"));
        let spin_ticks = self.clock.ticks_of_micros(u64::from(options.spin_us));
        Idle::Halt(spin_ticks, timer)
    }

    /// The engine's configuration: addresses by the command line, capacities by memory.
    fn net_config(
        &self,
        mac: [u8; 6],
        application: &Application,
        options: &Options<'_>,
        plan: &MemoryPlan,
    ) -> ix_net::Config {
        let default = ix_net::Config::default();
        // Without an address there is no network either: loopback names no host.
        let (address, prefix) = options.address.unwrap_or(([127, 0, 0, 1], 32));
        let mbufs = application.mbufs.count;
        let connections = (plan.kernel_heap / HEAP_PER_CONNECTION) as u32;
        let connections = connections.clamp(CONNECTIONS_LEAST, CONNECTIONS_MOST);
        ix_net::Config {
            mac,
            ipv4: Ipv4Addr::from(address),
            ipv4_prefix: prefix,
            gateway: options.gateway.map(Ipv4Addr::from),
            mtu: options.mtu,
            secret: entropy::secret(&self.features),
            connections,
            half_open: connections / 4,
            time_wait: connections * 2,
            send_fragments: connections * 8,
            mbufs,
            // The rest is for the receive ring and for frames on their way.
            mbufs_held: mbufs / 4 * 3,
            out_of_order: mbufs / 4,
            udp_mbufs: mbufs / 16,
            udp_port_mbufs: (mbufs / 32).min(u32::from(u16::MAX)) as u16,
            rto_min_us: options.rto_min_us.unwrap_or(default.rto_min_us),
            congestion: options.congestion,
            ..default
        }
    }
}

/// Bytes of the kernel's heap for each connection: its own state, two entries of the TIME-WAIT
/// table, eight of the send records and its share of the flow table are half of this; the other
/// half is for the tables that do not depend on it.
const HEAP_PER_CONNECTION: u64 = 2048;
const CONNECTIONS_LEAST: u32 = 1024;
const CONNECTIONS_MOST: u32 = 65_536;

fn or_refuse<T, E: fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| refuse(ExitCode::BadBoot, error))
}
