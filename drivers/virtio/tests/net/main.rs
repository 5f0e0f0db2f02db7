//! The driver against a device made for it: what is asked of every driver (`conformance`), and what
//! only VIRTIO has.

mod bed;
mod device;
mod wire;

use bed::{Machine, OnDevice, Port};
use device::Traits;
use ix_conformance::Setup;
use ix_conformance::frames::{self, TCP, UDP};
use ix_hal::{Nic, RxFrame};
use ix_nic::{Redirect, Steering};
use virtio_net::{Config, Error, Features};

mod conformance {
    use super::OnDevice;

    ix_conformance::conformance!(OnDevice);
}

fn receive(port: &mut Port) -> Vec<RxFrame> {
    let mut frames = [RxFrame::default(); 64];
    let count = port.pair.receive(&mut frames, &mut port.pool);
    frames[..count].to_vec()
}

#[test]
fn flows_come_to_the_queue_foretold_with_their_hash_and_the_rest_to_the_first() {
    let mut machine = Machine::new(Traits::default());
    let control = machine.control();
    let mut driver = machine.driver(Config::new(4), control).expect("bring-up");
    let setup = Setup::default();
    let mut ports: Vec<Port> = (0..4)
        .map(|number| machine.open(&mut driver, number, &setup))
        .collect();
    driver.start().expect("start");
    for port in &mut ports {
        port.pair.refill(&mut port.pool);
    }
    for round in 0..2 {
        let steering = Steering::new(driver.rss());
        let mut used = [0; 4];
        for seed in 0..100 {
            let frame = frames::ipv4(TCP, 90, seed * 0x0101_0f05);
            let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            let foretold = steering.queue_of_tcp((number(26), port(34)), (number(30), port(36)));
            used[usize::from(foretold)] += 1;
            let mut arp = frame.clone();
            arp[13] = 6;
            let mut device = machine.device.borrow_mut();
            device.incoming.extend([frame.clone(), arp]);
            device.run();
            drop(device);
            for (queue, port) in ports.iter_mut().enumerate() {
                let received = receive(port);
                for it in &received {
                    let is_arp = machine.bytes(port, it)[13] == 6;
                    assert_eq!(it.rss_hash == 0, is_arp);
                    assert_eq!(queue, if is_arp { 0 } else { foretold.into() });
                    let group = it.rss_hash as usize % 128;
                    assert!(is_arp || driver.rss().reta[group] == foretold);
                    port.pool.give(it.mbuf);
                }
                port.pair.refill(&mut port.pool);
            }
        }
        assert_eq!(used.iter().sum::<u32>(), 100);
        assert!(
            round == 1 || used.iter().all(|&count| count > 5),
            "{used:?}"
        );
        assert!(round == 0 || used == [0, 0, 100, 0], "{used:?}");
        driver
            .redirect(u128::MAX, 2)
            .expect("all flow groups to queue 2");
    }
    assert!(driver.redirect(1, 4).is_err(), "there is no queue 4");
}

#[test]
fn a_started_device_lets_in_groups_and_no_strangers() {
    let mut machine = Machine::new(Traits::default());
    let control = machine.control();
    let mut driver = machine.driver(Config::new(1), control).expect("bring-up");
    driver.start().expect("start");
    assert_eq!(machine.device.borrow().modes, [Some(0), Some(1)]);
}

/// Why a device of such traits is refused.
fn refusal(traits: Traits, queues: u32, mtu: u32) -> Error {
    let mut machine = Machine::new(traits);
    let control = machine.control();
    let mut config = Config::new(queues);
    config.mtu = mtu;
    let driver = machine.driver(config, control);
    let error = driver.and_then(|mut driver| driver.start());
    error.expect_err("a device that will not do")
}

#[test]
fn devices_that_will_not_do_are_named_so() {
    let all = Traits::default();
    let without = |feature: Features| Traits {
        features: all.features & !feature.bits(),
        ..all
    };
    let (csum, hash) = (Features::CSUM, Features::HASH_REPORT);
    assert_eq!(refusal(without(csum), 1, 1500), Error::Missing(csum));
    let unsteered = Error::Unsteered {
        queues: 2,
        missing: hash,
    };
    assert_eq!(refusal(without(hash), 2, 1500), unsteered);
    let many = Error::QueueCount { queues: 5, max: 4 };
    assert_eq!(refusal(all, 5, 1500), many);
    let long = Error::Mtu {
        mtu: 9001,
        max: 9000,
        bytes: 0,
    };
    assert_eq!(refusal(all, 1, 9001), long);
    let stubborn = Traits {
        is_agreeable: false,
        ..all
    };
    assert!(matches!(refusal(stubborn, 1, 1500), Error::Refused(_)));
    let deaf = Traits {
        is_obedient: false,
        ..all
    };
    assert!(matches!(refusal(deaf, 1, 1500), Error::Timeout { .. }));
}

#[test]
fn one_queue_pair_needs_no_steering() {
    let single = Features::MQ | Features::RSS | Features::HASH_REPORT | Features::HOST_TSO6;
    let mut machine = Machine::new(Traits {
        features: Traits::default().features & !single.bits(),
        ..Traits::default()
    });
    let control = machine.control();
    let driver = machine.driver(Config::new(1), control);
    let mut driver = driver.expect("bring-up");
    assert_eq!(driver.mac(), ix_conformance::MAC);
    assert_eq!(driver.start(), Ok(()));
}

#[test]
fn nonsense_from_the_device_is_counted_and_changes_nothing() {
    let mut machine = Machine::new(Traits::default());
    let control = machine.control();
    let mut driver = machine.driver(Config::new(1), control).expect("bring-up");
    let mut port = machine.open(&mut driver, 0, &Setup::default());
    driver.start().expect("start");
    port.pair.refill(&mut port.pool);
    machine.device.borrow_mut().run();
    // No such descriptor, the second of a pair, a length below the header's, and one beyond all
    // buffers; the last two end the place they name.
    for (id, len) in [(9999, 100), (3, 100), (0, 5), (2, 70_000), (0, 100)] {
        machine.device.borrow_mut().report(0, id, len);
    }
    assert!(receive(&mut port).is_empty());
    assert_eq!(port.pair.statistics().rx_errors, 5);
    // The device still has the two places that it named, and uses them first.
    let frame = frames::ipv4(UDP, 100, 5);
    let mut device = machine.device.borrow_mut();
    device
        .incoming
        .extend([frame.clone(), frame.clone(), frame.clone()]);
    device.run();
    drop(device);
    let received = receive(&mut port);
    assert_eq!(received.len(), 1);
    assert_eq!(machine.bytes(&port, &received[0]), frame);
    assert_eq!(port.pair.statistics().rx_errors, 7);
}
