//! IPv6 against the device model: which queue a flow comes to.

use ix_conformance::frames::{self, TCP};
use ix_hal::Nic;
use ixgbe::{Config, Rss, Steering};

use crate::support::{Machine, Port, Sizes};

#[test]
fn flows_come_to_the_queue_foretold_and_what_has_no_ports_to_the_first() {
    let mut machine = Machine::new(64 << 20);
    let mut config = Config::new(4);
    config.rss = Rss::even(4);
    let steering = Steering::new(&config.rss);
    let mut device = machine.device(config);
    let mut ports: Vec<Port> = (0..4)
        .map(|queue| machine.open(&mut device, queue, Sizes::default()))
        .collect();
    device.start(&mut machine.delay()).expect("start");
    let mut used = [0; 4];
    for seed in 0..100 {
        let frame = frames::ipv6(TCP, 90, seed * 0x0101_0f05);
        let address = |at: usize| frame[at..at + 16].try_into().expect("sixteen bytes");
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let foretold = steering.queue_of_tcp_ipv6((address(22), port(54)), (address(38), port(56)));
        used[usize::from(foretold)] += 1;
        machine.inject(&frame);
        let mut solicitation = frame.clone();
        solicitation[20] = 58;
        machine.inject(&solicitation);
        machine.run();
        for (number, port) in ports.iter_mut().enumerate() {
            let received = port.receive();
            let expected = usize::from(number == usize::from(foretold)) + usize::from(number == 0);
            assert_eq!(received.len(), expected, "flow {seed}, queue {number}");
            port.give_back(&received);
            port.pair.refill(&mut port.pool);
        }
    }
    assert!(used.iter().all(|&count| count > 5), "{used:?}");
}
