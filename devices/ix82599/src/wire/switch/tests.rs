use super::super::Cable;
use super::header::TAG;
use super::table::{ADDRESSES, AGE_NS};
use super::*;

const ONE: Mac = [2, 0, 0, 0, 0, 1];
const TWO: Mac = [2, 0, 0, 0, 0, 2];
const HOST: Mac = [2, 0, 0, 0, 0, 9];
const ALL: Mac = [0xff; 6];

fn frame(to: Mac, from: Mac, vlan: Option<u16>) -> Vec<u8> {
    let mut frame = [to, from].concat();
    if let Some(vlan) = vlan {
        frame.extend(TAG);
        frame.extend((0x6000 | vlan).to_be_bytes());
    }
    frame.extend([0x08, 0x00]);
    frame.resize(60, 7);
    frame
}

fn switch() -> (Switch<Cable>, Cable) {
    let (near, far) = Cable::pair(4096);
    (Switch::new(near), far)
}

fn bound(mac: Mac) -> PortRule {
    PortRule {
        mac: Some(mac),
        vlan: None,
        port_tags: false,
    }
}

/// Two functions with an address each, and the far end of the uplink.
fn two() -> (Switch<Cable>, [SwitchPort<Cable>; 2], Cable) {
    let (switch, far) = switch();
    let ports = [
        switch.port("one", bound(ONE)),
        switch.port("two", bound(TWO)),
    ];
    (switch, ports, far)
}

fn take(port: &mut SwitchPort<Cable>) -> Option<Vec<u8>> {
    let mut room = [0; 2048];
    let length = port.receive(&mut room).unwrap()?;
    Some(room[..length].to_vec())
}

#[test]
fn frames_reach_whom_they_are_for_and_nobody_else() {
    let (switch, [mut one, mut two], mut host) = two();
    for (from, to) in [(ONE, TWO), (ONE, HOST), (ONE, ALL)] {
        one.send(&frame(to, from, None)).unwrap();
    }
    assert_eq!(take(&mut two), Some(frame(TWO, ONE, None)));
    assert_eq!(take(&mut two), Some(frame(ALL, ONE, None)));
    assert_eq!(take(&mut two), None);
    assert_eq!(host.take(), Some(frame(HOST, ONE, None)));
    assert_eq!(host.take(), Some(frame(ALL, ONE, None)));
    assert_eq!(host.take(), None);
    assert_eq!(take(&mut one), None);

    for to in [TWO, ALL, [2, 9, 9, 9, 9, 9]] {
        host.send(&frame(to, HOST, None)).unwrap();
    }
    assert!(!switch.poll().unwrap());
    assert_eq!(take(&mut two), Some(frame(TWO, HOST, None)));
    assert_eq!(take(&mut two), Some(frame(ALL, HOST, None)));
    assert_eq!(take(&mut two), None);
    assert_eq!(take(&mut one), Some(frame(ALL, HOST, None)));
    assert_eq!(take(&mut one), None);
    let counts = switch.counts(Some(0));
    assert_eq!((counts.frames_in, counts.frames_out), (3, 1));
}

#[test]
fn a_function_speaks_for_itself_only() {
    let (switch, [mut one, mut two], mut host) = two();
    one.watch(true);
    one.send(&frame(ALL, TWO, None)).unwrap();
    let dropped = one.next_dropped().expect("somebody watches");
    assert!(dropped.reason.contains("source address"), "{dropped:?}");
    assert_eq!(dropped.frame, frame(ALL, TWO, None));
    one.send(&frame(ALL, HOST, None)).unwrap();
    one.send(&frame(ALL, ONE, Some(5))).unwrap();
    // Nor does anybody outside speak for it.
    host.send(&frame(TWO, ONE, None)).unwrap();
    switch.poll().unwrap();
    assert_eq!((take(&mut two), host.take()), (None, None));
    let counts = switch.counts(Some(0));
    assert_eq!((counts.spoofed_address, counts.spoofed_vlan), (2, 1));
    assert_eq!(switch.counts(None).spoofed_address, 1);
}

#[test]
fn vlans_are_apart() {
    let (switch, mut host) = switch();
    let vlan = |mac, vlan| PortRule {
        mac: Some(mac),
        vlan: Some(vlan),
        port_tags: false,
    };
    let mut one = switch.port("one", vlan(ONE, 100));
    let mut two = switch.port("two", vlan(TWO, 200));
    let mut three = switch.port("three", vlan([2, 0, 0, 0, 0, 3], 100));
    one.send(&frame(ALL, ONE, Some(100))).unwrap();
    one.send(&frame(TWO, ONE, Some(100))).unwrap();
    one.send(&frame(TWO, ONE, Some(200))).unwrap();
    one.send(&frame(TWO, ONE, None)).unwrap();
    assert_eq!(take(&mut two), None);
    assert_eq!(take(&mut three), Some(frame(ALL, ONE, Some(100))));
    // In this VLAN nobody has that address, so that it may be behind the uplink.
    assert_eq!(host.take(), Some(frame(ALL, ONE, Some(100))));
    assert_eq!(host.take(), Some(frame(TWO, ONE, Some(100))));
    assert_eq!(host.take(), None);
    assert_eq!(switch.counts(Some(0)).spoofed_vlan, 2);
    host.send(&frame(ALL, HOST, Some(200))).unwrap();
    host.send(&frame(ALL, HOST, None)).unwrap();
    switch.poll().unwrap();
    assert_eq!(take(&mut one), None);
    assert_eq!(take(&mut two), Some(frame(ALL, HOST, Some(200))));
    assert_eq!(take(&mut two), None);
}

#[test]
fn a_vlan_cannot_be_hidden_behind_another_tag() {
    let (switch, [mut one, _two], mut host) = two();
    let tagged = |tags: &[u8]| {
        let mut bytes = frame(ALL, ONE, None);
        bytes.splice(12..12, tags.iter().copied());
        bytes
    };
    let hidden: [&[u8]; 4] = [
        &[0x88, 0xa8, 0, 100],
        &[0x91, 0, 0, 100],
        &[0x81, 0, 0, 0, 0x81, 0, 0, 100],
        &[0x81, 0, 0, 0, 0x88, 0xa8, 0, 100],
    ];
    for tags in hidden {
        one.send(&tagged(tags)).unwrap();
    }
    assert_eq!(host.take(), None);
    assert_eq!(switch.counts(Some(0)).spoofed_vlan, 4);
    // A priority is no VLAN.
    one.send(&tagged(&[0x81, 0, 0xe0, 0])).unwrap();
    assert!(host.take().is_some());
}

#[test]
fn addresses_are_learned_where_anybody_may_speak_and_forgotten() {
    let (switch, mut host) = switch();
    let anybody = PortRule {
        mac: None,
        vlan: None,
        port_tags: false,
    };
    let mut open = switch.port("open", anybody);
    let mut one = switch.port("one", bound(ONE));
    let guest = [2, 0, 0, 0, 0, 5];
    one.send(&frame(guest, ONE, None)).unwrap();
    assert!(take(&mut open).is_some() && host.take().is_some());
    open.send(&frame(ONE, guest, None)).unwrap();
    one.send(&frame(guest, ONE, None)).unwrap();
    assert!(take(&mut open).is_some() && host.take().is_none());
    // It moves behind the uplink, and a frame for it does not come back there.
    host.send(&frame(ALL, guest, None)).unwrap();
    host.send(&frame(guest, HOST, None)).unwrap();
    switch.poll().unwrap();
    one.send(&frame(guest, ONE, None)).unwrap();
    assert!(host.take().is_some());
    assert_eq!(switch.counts(None).same_port, 1);
    assert!(take(&mut open).is_some() && take(&mut open).is_none());
    switch.advance(AGE_NS);
    one.send(&frame(guest, ONE, None)).unwrap();
    assert!(take(&mut open).is_some() && host.take().is_some());
    // An address that belongs to a function is nobody else's.
    open.send(&frame(ALL, ONE, None)).unwrap();
    assert_eq!(switch.counts(Some(0)).spoofed_address, 1);
}

#[test]
fn a_full_table_learns_no_more_until_others_are_old() {
    let (switch, mut host) = switch();
    let address = |n: usize| [2, 1, 0, 0, (n >> 8) as u8, n as u8];
    for n in 0..ADDRESSES + 10 {
        host.send(&frame(ALL, address(n), None)).unwrap();
        switch.poll().unwrap();
    }
    let status = |switch: &Switch<Cable>| {
        let mut port = switch.port("asks", bound(ONE));
        let answer = port.request("switch", "").unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()
    };
    let full = status(&switch);
    assert_eq!(
        (&full["learned"], &full["not_learned"]),
        (&ADDRESSES.into(), &10.into())
    );
    switch.advance(2 * AGE_NS);
    host.send(&frame(ALL, HOST, None)).unwrap();
    switch.poll().unwrap();
    assert_eq!(status(&switch)["learned"], 1);
}

#[test]
fn what_is_no_frame_or_for_the_link_only_is_dropped() {
    let (switch, [mut one, _two], mut host) = two();
    one.send(&[2; 13]).unwrap();
    one.send(&frame([1, 0x80, 0xc2, 0, 0, 0], ONE, None))
        .unwrap();
    one.send(&frame(ALL, ALL, None)).unwrap();
    // A tag that is cut off.
    one.send(&frame(ALL, ONE, Some(1))[..15]).unwrap();
    assert_eq!(switch.counts(Some(0)).not_forwarded, 4);
    assert_eq!(host.take(), None);
}

#[test]
fn who_takes_nothing_costs_itself_alone() {
    let (switch, [mut one, mut two], mut host) = two();
    for _ in 0..QUEUE_FRAMES + 5 {
        one.send(&frame(TWO, ONE, None)).unwrap();
    }
    one.send(&frame(HOST, ONE, None)).unwrap();
    assert!(host.take().is_some());
    assert!(switch.has_frames(1));
    assert_eq!(switch.counts(Some(1)).queue_full, 5);
    let waiting = std::iter::from_fn(|| take(&mut two)).count();
    assert_eq!(waiting, QUEUE_FRAMES);
}

#[test]
fn a_port_that_tags_keeps_its_vlan_from_the_function() {
    let (switch, mut host) = switch();
    let rule = |mac, vlan| PortRule {
        mac: Some(mac),
        vlan: Some(vlan),
        port_tags: true,
    };
    let mut one = switch.port("one", rule(ONE, 100));
    let mut two = switch.port("two", rule(TWO, 100));
    let mut three = switch.port("three", rule([2, 0, 0, 0, 0, 3], 200));
    one.send(&frame(ALL, ONE, None)).unwrap();
    assert_eq!(take(&mut two), Some(frame(ALL, ONE, None)));
    assert_eq!(take(&mut three), None);
    let mut tagged = frame(ALL, ONE, None);
    tagged.splice(12..12, [0x81, 0, 0, 100]);
    assert_eq!(host.take(), Some(tagged));
    host.send(&frame(ONE, HOST, Some(100))).unwrap();
    host.send(&frame(ONE, HOST, Some(200))).unwrap();
    host.send(&frame(ONE, HOST, None)).unwrap();
    switch.poll().unwrap();
    let mut untagged = frame(ONE, HOST, Some(100));
    untagged.drain(12..16);
    assert_eq!(take(&mut one), Some(untagged));
    assert_eq!(take(&mut one), None);
    // A tag of the function's own names no VLAN, be it the right one.
    one.send(&frame(TWO, ONE, Some(100))).unwrap();
    assert_eq!(take(&mut two), None);
    assert_eq!(switch.counts(Some(0)).spoofed_vlan, 1);
    // Its priority is kept.
    let mut priority = frame(HOST, ONE, None);
    priority.splice(12..12, [0x81, 0, 0xe0, 0]);
    one.send(&priority).unwrap();
    assert_eq!(host.take().unwrap()[12..16], [0x81, 0, 0xe0, 100]);
}

#[test]
fn a_claim_holds_until_it_is_given_up_and_never_for_what_is_another_s() {
    let (switch, [mut one, mut two], mut host) = two();
    let new = [2, 0, 0, 0, 0, 7];
    let other = [2, 0, 0, 0, 0, 8];
    assert!(!one.claim(Claim::Station(TWO)) && !one.claim(Claim::Other(TWO)));
    assert!(one.claim(Claim::Station(new)) && one.claim(Claim::Other(other)));
    assert!(one.claim(Claim::Vlan {
        vlan: 5,
        joins: true
    }));
    for sent in [
        frame(TWO, new, None),
        frame(TWO, other, None),
        frame(HOST, new, Some(5)),
    ] {
        one.send(&sent).unwrap();
    }
    assert!(take(&mut two).is_some() && take(&mut two).is_some() && host.take().is_some());
    two.send(&frame(other, TWO, None)).unwrap();
    assert!(take(&mut one).is_some());
    // What it was made for is not its address now, and kept for it all the same.
    one.send(&frame(TWO, ONE, None)).unwrap();
    assert!(!two.claim(Claim::Station(ONE)) && !two.claim(Claim::Other(other)));
    assert!(one.claim(Claim::Nothing));
    one.send(&frame(TWO, other, None)).unwrap();
    one.send(&frame(HOST, new, Some(5))).unwrap();
    let counts = switch.counts(Some(0));
    assert_eq!((counts.spoofed_address, counts.spoofed_vlan), (2, 1));
    assert!(two.claim(Claim::Other(other)));
    assert!(one.claim(Claim::Original));
    one.send(&frame(TWO, ONE, None)).unwrap();
    assert_eq!(take(&mut two), Some(frame(TWO, ONE, None)));
}

#[test]
fn claims_are_bounded() {
    let (_switch, [mut one, _two], _host) = two();
    for n in 0..=MAX_CLAIMS {
        let mac = [2, 1, 0, 0, 0, n as u8];
        let vlan = n as u16 + 1;
        assert_eq!(one.claim(Claim::Other(mac)), n < MAX_CLAIMS);
        let joined = one.claim(Claim::Vlan { vlan, joins: true });
        assert_eq!(joined, n < MAX_CLAIMS);
    }
    assert!(one.claim(Claim::Other([2, 1, 0, 0, 0, 0])), "there already");
    assert!(one.claim(Claim::NoOthers));
    assert!(one.claim(Claim::Other([2, 1, 0, 0, 0, 99])));
}
