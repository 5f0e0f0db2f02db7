use super::super::testing::{ipv4_frame, ipv6_frame};
use super::*;
use ixgbe_spec::register::Fdirm;

const ELSEWHERE: Steering = Steering {
    queue: 1,
    hash: 0,
    rss_type: RssType::None,
    flow: FlowMatch::Off,
};
const PERFECT: Fdirctrl = Fdirctrl::PERFECT_MATCH.union(Fdirctrl::REPORT_STATUS);

fn director(control: Fdirctrl) -> FlowDirector {
    let mut director = FlowDirector::new();
    director.write(FlowRegister::HashKey, 0x3dad_14e2);
    director.write(FlowRegister::SignatureKey, 0x174d_3614);
    let control = control
        .with_pballoc(1)
        .with_drop_queue(127)
        .with_flex_offset(6);
    director.write(FlowRegister::Control, control.bits());
    director
}

/// The bucket and signature of a frame, as software computes them.
fn hashes(director: &FlowDirector, frame: &[u8]) -> (u32, u32) {
    let parsed = Parsed::new(frame);
    let flow = Flow::of_frame(&parsed, frame, 12).unwrap();
    let flow = flow.masked(&director.masks, director.is_perfect());
    (
        u32::from(director.bucket(flow.hash(director.hash_key))),
        flow.hash(director.signature_key),
    )
}

/// Describes the flow of `ipv4_frame` in the registers, with its hash and `index`.
fn describe(director: &mut FlowDirector, frame: &[u8], index: u32) {
    let (hash, _) = hashes(director, frame);
    director.write(FlowRegister::Source, u32::from_le_bytes([10, 9, 0, 1]));
    director.write(FlowRegister::Destination, u32::from_le_bytes([10, 9, 0, 2]));
    director.write(FlowRegister::Ports, 80 << 16 | 12345);
    director.write(FlowRegister::Vlan, 0x0008 << 16);
    director.write(FlowRegister::Hash, hash | index << 16);
}

fn add(l4type: u32) -> Fdircmd {
    (Fdircmd::QUEUE_EN | Fdircmd::LAST)
        .with_cmd(Fdircmd::CMD_ADD)
        .with_l4type(l4type)
        .with_rx_queue(5)
}

fn steer(director: &FlowDirector, frame: &[u8]) -> (usize, FlowMatch) {
    let steering = director.steer(ELSEWHERE, &Parsed::new(frame), frame);
    (steering.queue, steering.flow)
}

#[test]
fn a_perfect_filter_sends_its_flow_to_its_queue_and_says_so() {
    let mut director = director(PERFECT);
    let frame = ipv4_frame(6, 10);
    assert_eq!(steer(&director, &frame), (1, FlowMatch::Miss));
    describe(&mut director, &frame, 7);
    director.write(FlowRegister::Command, add(2).bits());
    assert_eq!(director.read(FlowRegister::Command) & 3, 0, "done at once");
    assert_eq!(steer(&director, &frame), (5, FlowMatch::Hit));
    let steering = director.steer(ELSEWHERE, &Parsed::new(&frame), &frame);
    let (hash, _) = hashes(&director, &frame);
    assert_eq!(
        (steering.rss_type, steering.hash),
        (RssType::FlowDirector, hash | 7 << 16)
    );
    // Another protocol between the same ports, and another port.
    assert_eq!(steer(&director, &ipv4_frame(17, 10)).1, FlowMatch::Miss);
    let mut other = frame;
    other[35] ^= 1;
    assert_eq!(steer(&director, &other).1, FlowMatch::Miss);
}

#[test]
fn what_is_masked_is_neither_compared_nor_hashed() {
    let mut director = director(PERFECT);
    let all_fields = Fdirm::VLANID | Fdirm::VLANP | Fdirm::POOL | Fdirm::FLEX;
    director.write(FlowRegister::Mask, all_fields.bits());
    // The low four bits of the source port, in reverse, and the last byte of its address.
    director.write(FlowRegister::TcpMask, 0xf000);
    director.write(FlowRegister::SourceMask, 0xff00_0000);
    let frame = ipv4_frame(6, 10);
    describe(&mut director, &frame, 0);
    director.write(FlowRegister::Command, add(2).bits());
    let mut near = frame.clone();
    near[29] ^= 0x55;
    near[35] ^= 0x0f;
    near.splice(12..12, [0x81, 0x00, 0x20, 0x64]);
    assert_eq!(steer(&director, &near), (5, FlowMatch::Hit));
    let mut far = frame;
    far[35] ^= 0x10;
    assert_eq!(steer(&director, &far).1, FlowMatch::Miss);
}

#[test]
fn a_signature_finds_flows_of_either_version() {
    let mut director = director(Fdirctrl::empty());
    for (frame, version) in [
        (ipv4_frame(6, 10), Fdircmd::empty()),
        (ipv6_frame(6, 10), Fdircmd::IPV6),
    ] {
        let (hash, signature) = hashes(&director, &frame);
        director.write(FlowRegister::Hash, hash | signature << 16);
        director.write(FlowRegister::Command, (add(2) | version).bits());
        assert_eq!(steer(&director, &frame), (5, FlowMatch::Hit));
    }
    assert_eq!(director.read(FlowRegister::Free), 8192 - 2 - 2);
}

#[test]
fn a_hash_is_that_of_a_sum_if_it_is_the_sum_of_hashes() {
    // What software relies on when it hashes what flows have in common once.
    let frames = [ipv4_frame(6, 10), ipv6_frame(17, 10)];
    let flows = frames.map(|frame| Flow::of_frame(&Parsed::new(&frame), &frame, 12).unwrap());
    let sum = flows[0].plus(&flows[1]);
    for key in [0x3dad_14e2, 0x174d_3614, 1, 1 << 16, u32::MAX] {
        assert_eq!(sum.hash(key), flows[0].hash(key) ^ flows[1].hash(key));
    }
}

#[test]
fn filters_are_asked_for_replaced_and_removed_by_hash_and_index() {
    let mut director = director(PERFECT);
    let frame = ipv4_frame(6, 10);
    describe(&mut director, &frame, 3);
    let query = Fdircmd::empty().with_cmd(Fdircmd::CMD_QUERY);
    let is_there = |director: &mut FlowDirector| {
        director.write(FlowRegister::Command, query.bits());
        director.read(FlowRegister::Command) & Fdircmd::FILTER_VALID.bits() != 0
    };
    assert!(!is_there(&mut director));
    director.write(FlowRegister::Command, add(2).bits());
    assert!(is_there(&mut director));
    director.write(FlowRegister::Command, add(2).with_rx_queue(6).bits());
    assert_eq!(steer(&director, &frame).0, 5, "added twice");
    let update = add(2).with_rx_queue(6) | Fdircmd::FILTER_UPDATE;
    director.write(FlowRegister::Command, update.bits());
    assert_eq!(steer(&director, &frame).0, 6);
    let remove = Fdircmd::empty().with_cmd(Fdircmd::CMD_REMOVE);
    director.write(FlowRegister::Command, remove.bits());
    assert!(!is_there(&mut director));
    director.write(FlowRegister::Command, remove.bits());
    assert_eq!(director.read(FlowRegister::Updates), 2 | 1 << 16);
    assert_eq!(director.read(FlowRegister::Failures), 1 | 1 << 16);
    assert_eq!(
        director.read(FlowRegister::Updates),
        0,
        "cleared by reading"
    );
}

#[test]
fn a_dropped_flow_goes_to_the_drop_queue_and_a_new_table_is_empty() {
    let mut director = director(PERFECT);
    let frame = ipv4_frame(6, 10);
    describe(&mut director, &frame, 0);
    director.write(FlowRegister::Command, (add(2) | Fdircmd::DROP).bits());
    assert_eq!(steer(&director, &frame).0, 127);
    director.write(FlowRegister::Command, Fdircmd::CLEARHT.bits());
    assert_eq!(steer(&director, &frame).1, FlowMatch::Miss);
    director.write(FlowRegister::Control, 0);
    assert_eq!(steer(&director, &frame).1, FlowMatch::Off);
}

#[test]
fn a_bucket_takes_no_more_than_its_limit() {
    let mut director = director(Fdirctrl::empty());
    for signature in 0..100 {
        director.write(FlowRegister::Hash, 9 | signature << 16);
        director.write(FlowRegister::Command, add(2).bits());
    }
    assert_eq!(director.read(FlowRegister::Updates), 64);
    assert_eq!(director.read(FlowRegister::Failures), 36);
    assert_eq!(director.read(FlowRegister::Length), 63 | 9 << 16);
}
