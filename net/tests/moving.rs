//! A connection that moves to another engine of the same address in the middle of everything.

use core::net::Ipv4Addr;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Fragment, Instant, LentMbuf, MbufId};
use ix_net::testing::{APP_BUS, Host};
use ix_net::{Config, Endpoint, Event, FlowGroups, Luggage, Names, Needs, Sharing};

const START: Instant = Instant(1 << 40);
const COOKIE: u64 = 7;
const GROUP: u8 = 9;

/// Host 10.0.0.`last`.
fn config(last: u8) -> Config {
    Config {
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Ipv4Addr::new(10, 0, 0, last),
        connections: 64,
        time_wait: 64,
        send_fragments: 2048,
        mbufs: 1024,
        ..Config::default()
    }
}

/// Control blocks of a member.
const BLOCKS: u32 = 64 + 16;

thread_local! {
    /// Where the connections of all members are.
    static NAMES: &'static Names = Box::leak(Box::new(Names::new(6, BLOCKS)));
}

/// An engine of 10.0.0.2.
fn member(thread: u32) -> Host {
    Host::new(member_config(thread), START, 200_000)
}

fn member_config(thread: u32) -> Config {
    Config {
        sharing: Some(Sharing {
            thread,
            groups: FlowGroups(&|_, _, _| GROUP),
            owned: u128::MAX,
            loans: 64,
            luggage: 16,
            names: NAMES.with(|names| *names),
        }),
        ..config(2)
    }
}

/// Lets frames go back and forth until none is left.
fn exchange(peer: &mut Host, member: &mut Host) {
    loop {
        peer.turn();
        member.turn();
        let (there, back) = (peer.wire.sent.pop_front(), member.wire.sent.pop_front());
        if there.is_none() && back.is_none() {
            return;
        }
        there.into_iter().for_each(|frame| member.receive(&frame));
        back.into_iter().for_each(|frame| peer.receive(&frame));
    }
}

fn pass(hosts: [&mut Host; 3], micros: u64) {
    for host in hosts {
        host.now = Instant(host.now.0 + micros * 1000);
    }
}

fn send(host: &mut Host, handle: Handle, len: u32) {
    let fragment = Fragment { bus: APP_BUS, len };
    let sent = host.with(|engine, cx| engine.send(cx, handle, &[fragment]));
    assert_eq!(sent, Ok(len));
}

/// Moves everything of the group from one engine to the other; returns the buffers that were copied.
fn relocate(from: &mut Host, to: &mut Host) -> Vec<(LentMbuf, MbufId)> {
    let mut luggage = Luggage::new(&member_config(from.engine.thread()));
    let needs = from.engine.needs(1 << GROUP);
    let promised = to.engine.promise_room(needs, to.pool.loans_left());
    let mut room = promised.expect("there is room");
    assert!(room.connections >= needs.connections && room.sends >= needs.sends);

    let (here, there) = (from.engine.thread(), to.engine.thread());
    assert!(from.with(|engine, cx| engine.pack(cx, 1 << GROUP, there, &mut room, &mut luggage)));
    assert_eq!(luggage.connections(), needs.connections as usize);
    let mut copied = Vec::new();
    let mut fetch = |lent, own, _| copied.push((lent, own));
    assert!(to.with(|engine, cx| engine.unpack(cx, here, &mut luggage, &mut fetch)));
    to.engine.end_promise();
    from.with(|engine, cx| engine.take_back(cx, &mut luggage));
    copied
}

/// Gives back what is borrowed.
fn return_loans(from: &mut Host, to: &mut Host) -> u32 {
    let mut count = 0;
    while let Some(lent) = from.pool.take_return() {
        let mbuf = to.pool.adopt(lent).expect("it comes home");
        to.pool.give(mbuf);
        count += 1;
    }
    from.engine.loans_ended(count);
    count
}

fn events(host: &mut Host) -> Vec<Event> {
    host.queue.events.drain(..).collect()
}

fn received(events: &[Event]) -> u64 {
    let received = events.iter().map(|event| match event {
        Event::Recv { len, .. } => u64::from(*len),
        _ => 0,
    });
    received.sum()
}

/// A peer with a connection to the first member: its handles on both sides.
fn connected(peer: &mut Host, member: &mut Host) -> (Handle, Handle) {
    member.engine.listen(80).unwrap();
    let remote = Endpoint {
        address: Ipv4Addr::new(10, 0, 0, 2).into(),
        port: 80,
    };
    let client = peer
        .with(|engine, cx| engine.connect(cx, 1, remote))
        .unwrap();
    exchange(peer, member);
    let [Event::Knock { handle, .. }] = events(member)[..] else {
        panic!("no knock");
    };
    member
        .with(|engine, cx| engine.accept(cx, handle, COOKIE))
        .unwrap();
    exchange(peer, member);
    events(peer);
    events(member);
    (client, handle)
}

fn check<const COUNT: usize>(hosts: [&Host; COUNT]) {
    for host in hosts {
        host.engine.check().unwrap();
    }
}

#[test]
fn moved_connection_goes_on_with_all_that_it_had() {
    let (mut peer, mut old, mut new) = (Host::new(config(1), START, 200_000), member(3), member(5));
    let (client, handle) = connected(&mut peer, &mut old);
    assert_eq!(handle.0 as u32 / BLOCKS, 3, "the handle names its maker");
    send(&mut peer, client, 4000);
    exchange(&mut peer, &mut old);
    assert_eq!(received(&events(&mut old)), 4000);
    // Sent and not acknowledged; then queued and not sent.
    send(&mut old, handle, 1000);
    old.turn();
    let late = old.wire.sent.pop_front().unwrap();
    send(&mut old, handle, 500);

    assert_eq!(relocate(&mut old, &mut new), []);
    let migrated = [Event::Migrated {
        cookie: COOKIE,
        handle,
        from: 3,
        to: 5,
    }];
    assert_eq!(
        (events(&mut old), events(&mut new)),
        (migrated.into(), migrated.into())
    );
    assert_eq!(old.engine.connections(), 0);
    let refused = old.with(|engine, cx| engine.recv_done(cx, handle, 1));
    assert_eq!(refused, Err(Error::BadHandle));
    check([&peer, &old, &new]);

    peer.receive(&late);
    exchange(&mut peer, &mut new);
    assert_eq!(received(&events(&mut peer)), 1500);
    new.with(|engine, cx| engine.recv_done(cx, handle, 4000))
        .unwrap();
    assert!(return_loans(&mut new, &mut old) > 0);
    assert_eq!((old.mbufs_out(), new.mbufs_out()), (0, 0));
    send(&mut peer, client, 200);
    exchange(&mut peer, &mut new);
    assert_eq!(received(&events(&mut new)), 200);
    for micros in [2_000, 300_000] {
        pass([&mut peer, &mut old, &mut new], micros);
        exchange(&mut peer, &mut new);
    }
    assert_eq!(peer.engine.counters().tcp_retransmits, 0);
    assert_eq!(new.engine.counters().tcp_retransmits, 0);
    check([&peer, &old, &new]);
}

#[test]
fn out_of_order_segments_and_timers_move() {
    let (mut peer, mut old, mut new) = (Host::new(config(1), START, 200_000), member(0), member(1));
    peer.wire.segmentation = 0;
    let (client, handle) = connected(&mut peer, &mut old);
    send(&mut peer, client, 5000);
    peer.turn();
    peer.wire
        .sent
        .pop_front()
        .expect("the first segment gets lost");
    while let Some(frame) = peer.wire.sent.pop_front() {
        old.receive(&frame);
    }
    old.turn();
    let reports: Vec<_> = old.wire.sent.drain(..).collect();
    send(&mut old, handle, 100);
    old.turn();
    old.wire.sent.pop_front().expect("the reply gets lost");
    let copied = relocate(&mut old, &mut new);
    assert_eq!(copied.len(), 3);
    assert!(
        copied
            .iter()
            .all(|(lent, own)| lent.owner == 0 && own.0 < 1024)
    );
    assert_eq!(old.mbufs_out(), 0);
    check([&peer, &old, &new]);
    reports.iter().for_each(|frame| peer.receive(frame));
    // The retransmission timer comes along.
    for _ in 0..100 {
        pass([&mut peer, &mut old, &mut new], 10_000);
        exchange(&mut peer, &mut new);
    }
    assert_eq!(received(&events(&mut new)), 5000);
    assert_eq!(received(&events(&mut peer)), 100);
    check([&peer, &old, &new]);
}

#[test]
fn time_wait_moves_and_the_connection_comes_home() {
    let (mut peer, mut old, mut new) = (Host::new(config(1), START, 200_000), member(0), member(1));
    let (client, handle) = connected(&mut peer, &mut old);
    send(&mut peer, client, 100);
    exchange(&mut peer, &mut old);
    relocate(&mut old, &mut new);
    relocate(&mut new, &mut old);
    events(&mut old);
    old.with(|engine, cx| engine.recv_done(cx, handle, 100))
        .unwrap();
    assert_eq!((old.mbufs_out(), new.pool.loans_left()), (0, 64));
    old.with(|engine, cx| engine.close(cx, handle)).unwrap();
    exchange(&mut peer, &mut old);
    peer.with(|engine, cx| engine.shutdown(cx, client)).unwrap();
    peer.turn();
    let fin = peer.wire.sent.front().cloned().expect("a FIN");
    exchange(&mut peer, &mut old);
    let ended = events(&mut old);
    let is_closed = |event: &Event| matches!(event, Event::Dead { reason: DeadReason::Closed, handle: of, .. } if *of == handle);
    assert!(ended.iter().any(is_closed), "{ended:?}");
    assert_eq!(old.engine.counters().tcp_time_waits, 1);
    relocate(&mut old, &mut new);
    new.receive(&fin);
    let answers: Vec<_> = new.wire.sent.drain(..).collect();
    assert_eq!(answers.len(), 1, "the entry answers a repeated FIN");
    assert_eq!(new.engine.counters().tcp_out_resets, 0);
    check([&peer, &old, &new]);
}

#[test]
fn knock_that_nobody_answered_comes_again() {
    let (mut peer, mut old, mut new) = (Host::new(config(1), START, 200_000), member(0), member(1));
    old.engine.listen(80).unwrap();
    let remote = Endpoint {
        address: Ipv4Addr::new(10, 0, 0, 2).into(),
        port: 80,
    };
    peer.with(|engine, cx| engine.connect(cx, 1, remote))
        .unwrap();
    exchange(&mut peer, &mut old);
    let [knock @ Event::Knock { handle, .. }] = events(&mut old)[..] else {
        panic!("no knock");
    };
    relocate(&mut old, &mut new);
    let refused = old.with(|engine, cx| engine.accept(cx, handle, COOKIE));
    assert_eq!(refused, Err(Error::BadHandle));
    assert_eq!(events(&mut new)[1..], [knock]);
    new.with(|engine, cx| engine.accept(cx, handle, COOKIE))
        .unwrap();
    exchange(&mut peer, &mut new);
    assert!(matches!(
        events(&mut peer)[..],
        [Event::Connected {
            outcome: Ok(()),
            ..
        }]
    ));
    check([&peer, &old, &new]);
}

/// A move for which the other engine has promised too little: what needs more is reset where it is, and
/// the application gives its buffers back there.
#[test]
fn what_needs_more_than_was_promised_is_reset_and_keeps_its_buffers() {
    let (mut peer, mut old) = (Host::new(config(1), START, 200_000), member(0));
    let (client, handle) = connected(&mut peer, &mut old);
    send(&mut peer, client, 3000);
    exchange(&mut peer, &mut old);
    let held = old.mbufs_out();
    assert!(held > 0);
    let mut room = Needs {
        connections: 1,
        sends: 0,
        mbufs: held as u32 - 1,
    };
    let mut luggage = Luggage::new(&member_config(0));
    assert!(old.with(|engine, cx| engine.pack(cx, 1 << GROUP, 1, &mut room, &mut luggage)));
    assert_eq!(luggage.connections(), 0);
    let dead = Event::Dead {
        cookie: COOKIE,
        reason: DeadReason::Exhausted,
        handle,
    };
    assert_eq!(events(&mut old).last(), Some(&dead));
    exchange(&mut peer, &mut old);
    assert_eq!(peer.engine.counters().tcp_established_resets, 1);
    assert_eq!(old.engine.counters().tcp_moves_refused, 1);
    assert_eq!(old.mbufs_out(), held, "the application may look into them");
    check([&peer, &old]);
    old.with(|engine, cx| engine.close(cx, handle)).unwrap();
    assert_eq!((old.mbufs_out(), old.engine.connections()), (0, 0));
    check([&peer, &old]);
}

/// Nobody else gets room that was promised.
#[test]
fn promised_room_is_kept_until_the_promise_ends() {
    let mut member = member(0);
    let loans = member.pool.loans_left();
    let needs = Needs {
        connections: 60,
        sends: 2000,
        mbufs: 64,
    };
    let too_many = [
        Needs {
            connections: 65,
            ..needs
        },
        Needs {
            sends: 2049,
            ..needs
        },
        Needs { mbufs: 65, ..needs },
    ];
    for needs in too_many {
        assert_eq!(member.engine.promise_room(needs, loans), None);
    }
    assert_eq!(member.engine.promise_room(needs, loans), Some(needs));
    let remote = Endpoint {
        address: Ipv4Addr::new(10, 0, 0, 1).into(),
        port: 80,
    };
    let mut connect = |cookie| member.with(|engine, cx| engine.connect(cx, cookie, remote));
    let first = (1..5).map(&mut connect).collect::<Result<Vec<_>, _>>();
    assert!(first.is_ok());
    assert_eq!(connect(5), Err(Error::Exhausted));
    member.engine.check().unwrap();
    member.engine.end_promise();
    member
        .with(|engine, cx| engine.connect(cx, 5, remote))
        .unwrap();
    member.engine.check().unwrap();
}
