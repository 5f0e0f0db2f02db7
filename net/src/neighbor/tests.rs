use super::*;

const SECOND: u64 = 1_000_000_000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn address(last: u32) -> IpAddress {
    IpAddress::from_ipv4(0x0a00_0000 + last)
}

#[test]
fn unknown_neighbor_is_asked_three_times_and_given_up() {
    let mut cache = Neighbors::new(4, 60 * SECOND);
    assert!(matches!(
        cache.lookup(Instant(0), address(1), Asker::Ourselves),
        Lookup::Asked(_)
    ));
    let request = Request {
        address: address(1),
        mac: None,
    };
    for second in 1..=3 {
        assert_eq!(cache.take_request(), Some(request));
        assert_eq!(cache.take_request(), None);
        let silent = cache.expire(Instant(second * SECOND));
        assert_eq!(silent.is_some(), second == 3);
    }
    assert_eq!((cache.take_request(), cache.failures), (None, 1));
}

#[test]
fn known_neighbor_is_probed_when_old_and_kept_if_it_answers() {
    let mut cache = Neighbors::new(4, 60 * SECOND);
    cache.lookup(Instant(0), address(1), Asker::Ourselves);
    cache.take_request();
    cache.heard(Instant(0), address(1), MAC, false);
    assert_eq!(
        cache.lookup(Instant(0), address(1), Asker::Ourselves),
        Lookup::Known(MAC)
    );
    cache.expire(Instant(60 * SECOND));
    assert_eq!(cache.take_request().unwrap().mac, Some(MAC));
    let epoch = cache.epoch;
    cache.heard(Instant(60 * SECOND), address(1), MAC, false);
    assert_eq!(cache.epoch, epoch);
    cache.expire(Instant(61 * SECOND));
    assert_eq!(cache.take_request(), None);
}

#[test]
fn moved_neighbor_changes_the_epoch() {
    let mut cache = Neighbors::new(4, 60 * SECOND);
    cache.heard(Instant(0), address(1), MAC, true);
    let epoch = cache.epoch;
    cache.heard(Instant(0), address(1), [2, 0, 0, 0, 0, 8], false);
    assert_ne!(cache.epoch, epoch);
}

#[test]
fn unsolicited_claim_of_an_unknown_neighbor_is_not_believed() {
    let mut cache = Neighbors::new(4, 60 * SECOND);
    cache.heard(Instant(0), address(1), MAC, false);
    assert!(matches!(
        cache.lookup(Instant(0), address(1), Asker::Ourselves),
        Lookup::Asked(_)
    ));
}

#[test]
fn advertisement_is_believed_as_far_as_its_flags_go() {
    let other = [2, 0, 0, 0, 0, 8];
    let mut cache = Neighbors::new(4, 60 * SECOND);
    let now = Instant(0);
    cache.advertised(now, address(1), Some(MAC), true, true);
    assert!(matches!(
        cache.lookup(now, address(1), Asker::Ourselves),
        Lookup::Asked(_)
    ));
    cache.take_request();
    cache.advertised(now, address(1), None, true, true);
    assert!(matches!(
        cache.lookup(now, address(1), Asker::Ourselves),
        Lookup::Asked(_)
    ));
    cache.advertised(now, address(1), Some(MAC), true, false);
    assert_eq!(
        cache.lookup(now, address(1), Asker::Ourselves),
        Lookup::Known(MAC)
    );
    // Another station says that it is its, but does not insist: the known one is asked.
    cache.advertised(now, address(1), Some(other), false, false);
    cache.expire(now);
    assert_eq!(cache.take_request().unwrap().mac, Some(MAC));
    assert_eq!(
        cache.lookup(now, address(1), Asker::Ourselves),
        Lookup::Known(MAC)
    );
    // It insists: it is believed, and asked.
    cache.advertised(now, address(1), None, true, false);
    cache.advertised(now, address(1), Some(other), false, true);
    cache.expire(now);
    assert_eq!(cache.take_request().unwrap().mac, Some(other));
    assert_eq!(
        cache.lookup(now, address(1), Asker::Ourselves),
        Lookup::Known(other)
    );
}

#[test]
fn full_cache_evicts_the_one_confirmed_longest_ago() {
    let mut cache = Neighbors::new(2, 60 * SECOND);
    cache.heard(Instant(0), address(1), MAC, true);
    cache.heard(Instant(1), address(2), MAC, true);
    cache.heard(Instant(2), address(3), MAC, true);
    assert_eq!(
        cache.lookup(Instant(2), address(2), Asker::Ourselves),
        Lookup::Known(MAC)
    );
    assert_eq!(
        cache.lookup(Instant(2), address(3), Asker::Ourselves),
        Lookup::Known(MAC)
    );
    assert_eq!(cache.evictions, 1);
    assert!(matches!(
        cache.lookup(Instant(3), address(1), Asker::Ourselves),
        Lookup::Asked(_)
    ));
}

#[test]
fn strangers_evict_nobody_and_fill_half_the_cache_at_most() {
    let mut cache = Neighbors::new(8, 60 * SECOND);
    for last in 1..=3 {
        cache.heard(Instant(0), address(last), MAC, true);
    }
    for last in 10..100 {
        let lookup = cache.lookup(Instant(1), address(last), Asker::Stranger);
        assert_eq!(matches!(lookup, Lookup::Asked(_)), last < 14, "{last}");
    }
    assert_eq!((cache.evictions, cache.refusals), (0, 86));
    // One is free, and one gives way, for whoever asks on his own account.
    for last in 4..=5 {
        cache.heard(Instant(2), address(last), MAC, true);
    }
    assert_eq!(cache.evictions, 1);
    while cache.expire(Instant(10 * SECOND)).is_some() {}
    for last in 10..14 {
        let lookup = cache.lookup(Instant(10 * SECOND), address(last), Asker::Stranger);
        assert_eq!(matches!(lookup, Lookup::Asked(_)), last < 14);
    }
}
