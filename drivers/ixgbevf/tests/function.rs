//! The driver against the device model, in process: what is asked of every driver, and what only a virtual
//! function has.

#[path = "../../ixgbe/tests/support/machine.rs"]
mod machine;
#[path = "../../ixgbe/tests/support/on_model.rs"]
mod on_model;

use ix_conformance::frames::{self, TCP, UDP};
use ix_conformance::{MAC, Offers};
use ix_hal::{Mmio, Nic};
use ix_nic::{Config, Error, Link, Redirect, VlanTag};
use ix82599::model::{ModelConfig, VirtualConfig};
use ix82599::wire::Wire;
use ixgbe_spec::virtual_function::{VFMAILBOX, VFPSRTYPE};
use ixgbevf::{Function, Ixgbevf, QueuePair};
use machine::{Machine, Registers, Sizes};
use on_model::{OnModel, Tried};

type Port = machine::Port<QueuePair<Registers>>;

const OTHER: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];

fn machine(virtual_function: VirtualConfig) -> Machine {
    let config = ModelConfig {
        mac: MAC,
        queues: 2,
        virtual_function: Some(virtual_function),
        ..ModelConfig::default()
    };
    Machine::with_device(config, 64 << 20)
}

fn trusted() -> VirtualConfig {
    VirtualConfig {
        trusted: true,
        port_vlan: false,
    }
}

fn bring_up(machine: &Machine, config: Config) -> Result<Ixgbevf<Registers>, Error> {
    let registers = machine.registers.clone();
    Ixgbevf::new(Function::I82599, registers, config, &mut machine.delay())
}

fn open(machine: &mut Machine, device: &mut Ixgbevf<Registers>, sizes: Sizes) -> Port {
    machine.open_with(0, sizes, |config, memory, delay| {
        device.open(0, config, memory, delay).expect("open")
    })
}

/// The driver on a function that is trusted, as one with a VLAN of its own has to be.
struct Trusted;

impl Tried for Trusted {
    type Controller = Function;
    const CONTROLLER: Function = Function::I82599;
    const OFFERS: Offers = Offers {
        verifies: true,
        counts_missed: false,
        waits_for_buffers: false,
        tags: true,
        filters_vlans: true,
    };

    fn machine() -> Machine {
        machine(trusted())
    }
}

mod conformance {
    use super::{OnModel, Trusted};
    ix_conformance::conformance!(OnModel<Trusted>);
}

#[test]
fn bring_up_learns_the_address_of_the_owner_and_finds_the_link() {
    let machine = machine(VirtualConfig::default());
    let mut device = bring_up(&machine, Config::new(1)).unwrap();
    assert_eq!(device.mac(), machine.config.mac);
    assert_eq!(device.redirect(1, 0), Ok(()));
    assert!(device.redirect(1, 1).is_err());
    let link = device.wait_for_link(1_000_000, &mut machine.delay());
    let ten_gigabit = Link {
        up: true,
        megabits: 10_000,
    };
    assert_eq!(link, Ok(ten_gigabit));
}

#[test]
fn what_the_owner_does_not_give_is_an_error_that_says_what_to_do() {
    let refused = |config| {
        let error = bring_up(&machine(VirtualConfig::default()), config).unwrap_err();
        error.to_string()
    };
    let mut config = Config::new(1);
    config.mac = Some(OTHER);
    assert!(refused(config).contains("trust the function"));
    let mut config = Config::new(1);
    config.vlan = VlanTag::new(5, 0);
    assert!(refused(config).contains("VLAN"));
    assert!(refused(Config::new(2)).contains("fewer CPUs"));
    let mut config = Config::new(1);
    config.mtu = 9711;
    assert!(refused(config).contains("MTU"));
}

#[test]
fn a_trusted_function_speaks_under_the_configured_address() {
    let mut machine = machine(trusted());
    let mut config = Config::new(1);
    config.mac = Some(OTHER);
    let mut device = bring_up(&machine, config).unwrap();
    let mut port = open(&mut machine, &mut device, Sizes::default());
    assert_eq!((device.mac(), port.pair.mac()), (OTHER, OTHER));
    let mut frame = frames::ipv4(TCP, 100, 1);
    machine.inject(&frame);
    frame[..6].copy_from_slice(&OTHER);
    machine.inject(&frame);
    machine.run();
    let received = port.receive();
    assert_eq!(received.len(), 1, "{}", machine.counters());
    assert_eq!(machine.bytes(&port, &received[0]), frame);
    port.give_back(&received);
}

#[test]
fn groups_come_in_once_they_are_joined() {
    let mut machine = machine(VirtualConfig::default());
    let mut device = bring_up(&machine, Config::new(1)).unwrap();
    let mut port = open(&mut machine, &mut device, Sizes::default());
    let mut count = |machine: &mut Machine, address: [u8; 6]| {
        let mut frame = frames::ipv4(UDP, 80, 1);
        frame[..6].copy_from_slice(&address);
        machine.inject(&frame);
        machine.run();
        port.receive().len()
    };
    let group = |last| [0x33, 0x33, 0xff, 0, 0, last];
    assert_eq!(count(&mut machine, [0xff; 6]), 1);
    assert_eq!(count(&mut machine, OTHER), 0);
    assert_eq!(count(&mut machine, group(1)), 0);
    let delay = &mut machine.delay();
    for last in 1..=30 {
        device.join_multicast(group(last), delay).unwrap();
    }
    assert!(device.join_multicast(group(31), delay).is_err());
    let no_group = Err(Error::NotMulticast(OTHER));
    assert_eq!(device.join_multicast(OTHER, delay), no_group);
    for last in [1, 2, 30] {
        assert_eq!(count(&mut machine, group(last)), 1, "{last}");
    }
    assert_eq!(count(&mut machine, group(31)), 0);
}

#[test]
fn the_link_goes_down_with_the_cable() {
    let mut machine = machine(VirtualConfig::default());
    let mut device = bring_up(&machine, Config::new(1)).unwrap();
    let mut port = open(&mut machine, &mut device, Sizes::default());
    assert!(port.pair.link_up());
    let Machine { registers, far, .. } = machine;
    drop(far);
    // The model follows the wire when time passes.
    registers.advance(1_000_000);
    assert!(!port.pair.link_up());
}

#[test]
fn a_function_shut_down_touches_no_memory() {
    let mut machine = machine(VirtualConfig::default());
    let mut device = bring_up(&machine, Config::new(1)).unwrap();
    let mut port = open(&mut machine, &mut device, Sizes::default());
    device.shut_down(&mut machine.delay()).unwrap();
    machine.far.send(&frames::ipv4(TCP, 64, 1)).unwrap();
    assert!(port.send_short(&frames::ipv4(TCP, 64, 2)));
    port.pair.flush();
    machine.run_for(1);
    assert_eq!((port.receive().len(), machine.arrived().len()), (0, 0));
}

/// A function whose owner never answers.
#[derive(Clone, Debug)]
struct Deaf;

impl Mmio for Deaf {
    fn read32(&self, offset: u32) -> u32 {
        // The memory can always be had, and the reset is over.
        if offset == VFMAILBOX { 0x84 } else { 0 }
    }

    fn write32(&self, offset: u32, _value: u32) {
        assert_ne!(offset, VFPSRTYPE, "it goes on without an answer");
    }
}

#[test]
fn an_owner_that_never_answers_is_waited_for_with_a_bound() {
    let mut waited_us = 0u64;
    let error = Ixgbevf::new(Function::I82599, Deaf, Config::new(1), &mut |us| {
        waited_us += u64::from(us)
    });
    let error = error.unwrap_err();
    assert!(error.to_string().contains("PFACK"), "{error}");
    assert!((500_000..5_000_000).contains(&waited_us), "{waited_us}");
}
