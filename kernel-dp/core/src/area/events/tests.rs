use super::*;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use ix_hal::MbufId;

const POOL: u64 = 0x7000_0000;

fn writer() -> EventWriter {
    let words: Vec<AtomicU64> = (0..area::WORDS).map(|_| AtomicU64::new(0)).collect();
    let geometry = MbufGeometry {
        count: 64,
        size_shift: 11,
        bus: 0,
        user: POOL,
    };
    EventWriter::new(Area::new(words.leak()), &geometry)
}

fn recv(cookie: u64, mbuf: u32) -> Event {
    Event::Recv {
        cookie,
        mbuf: MbufId(mbuf),
        offset: 66,
        len: 1000 + mbuf as u16,
    }
}

fn sent(cookie: u64, bytes: u32) -> Event {
    let window = 5000 - bytes;
    Event::Sent {
        cookie,
        bytes,
        window,
    }
}

fn address(mbuf: u64) -> u64 {
    POOL + (mbuf << 11) + 66
}

impl EventWriter {
    fn words(&self, index: usize) -> [u64; event::WORDS] {
        [0, 1, 2, 3].map(|word| self.area.words[slot(index) + word].load(Relaxed))
    }

    fn piece(&self, index: usize) -> (u64, u16) {
        let word = self.area.words[area::PIECES + index].load(Relaxed);
        (piece::address(word), piece::len(word))
    }
}

const RECV: u64 = EventKind::Recv as u64;
const SENT: u64 = EventKind::Sent as u64;

#[test]
fn a_run_of_one_connection_is_one_event() {
    let mut events = writer();
    for mbuf in 1..=3 {
        events.push(recv(9, mbuf));
    }
    assert_eq!(events.count(), 1);
    events.end_run();
    assert_eq!(events.words(0), [RECV | 3 << 48, 9, 0, 3006]);
    let pieces = [0, 1, 2].map(|index| events.piece(index));
    assert_eq!(
        pieces,
        [(address(1), 1001), (address(2), 1002), (address(3), 1003)]
    );
    // The next run's pieces follow.
    for mbuf in 4..=5 {
        events.push(recv(8, mbuf));
    }
    events.publish();
    assert_eq!(events.words(1), [RECV | 2 << 48, 8, 3, 2009]);
    events.push(recv(8, 6));
    assert_eq!(events.count(), 1);
    assert_eq!(events.words(0), [RECV, 8, address(6), 1006]);
}

#[test]
fn data_and_acknowledgements_of_one_connection_are_two_events() {
    let mut events = writer();
    for round in 1..=3 {
        events.push(sent(9, 100 * round));
        events.push(recv(9, round));
    }
    assert_eq!(events.count(), 2);
    events.publish();
    assert_eq!(events.words(0), [SENT, 9, 600, 4700]);
    assert_eq!(events.words(1), [RECV | 3 << 48, 9, 0, 3006]);
}

#[test]
fn other_connections_and_other_events_end_a_run() {
    let mut events = writer();
    events.push(recv(1, 1));
    events.push(recv(2, 2));
    events.push(recv(1, 3));
    assert_eq!(events.count(), 3);
    events.push(Event::EndOfStream { cookie: 1 });
    assert_eq!(events.words(3), [RECV, 1, 0, 0]);
    events.push(Event::Dead {
        cookie: 1,
        reason: ix_abi::DeadReason::Reset,
        handle: ix_abi::Handle(7),
    });
    // Another connection that goes by the same name.
    events.push(recv(1, 4));
    events.push(sent(1, 10));
    assert_eq!(events.count(), 7);
    assert_eq!(events.words(5), [RECV, 1, address(4), 1004]);
}

#[test]
fn what_is_appended_comes_to_the_front_later() {
    let mut events = writer();
    for mbuf in 1..=2 {
        events.push(recv(9, mbuf));
    }
    events.push(sent(8, 10));
    events.publish();
    let published = [0, 1].map(|index| events.words(index));
    events.append();
    for mbuf in 3..=4 {
        events.push(recv(9, mbuf));
        events.push(sent(9, 100));
    }
    // The application still sees what it had.
    assert_eq!([0, 1].map(|index| events.words(index)), published);
    assert_eq!(events.area.words[area::EVENT_COUNT].load(Relaxed), 2);
    assert_eq!(events.piece(1), (address(2), 1002));
    events.carry();
    assert_eq!(events.count(), 4);
    events.push(sent(7, 1));
    events.publish();
    let carried = [0, 1, 2, 3, 4].map(|index| events.words(index));
    let expected = [
        [RECV, 9, address(3), 1003],
        [SENT, 9, 100, 4900],
        [RECV, 9, address(4), 1004],
        [SENT, 9, 100, 4900],
        [SENT, 7, 1, 4999],
    ];
    assert_eq!(carried, expected);
}

#[test]
fn what_is_appended_leaves_room_for_the_round_that_follows() {
    for published in [0, 1000, EVENT_CAPACITY] {
        let mut events = writer();
        for _ in 0..published {
            events.push(Event::EndOfStream { cookie: 1 });
        }
        events.publish();
        events.append();
        while events.room() > 0 {
            events.push(Event::EndOfStream { cookie: 2 });
        }
        events.carry();
        assert!(events.room() >= CALL_CAPACITY + 4 * crate::cycle::BATCH_MAX);
        assert_eq!(
            events.count(),
            (EVENT_CAPACITY - published).min(APPENDED_MAX)
        );
    }
}

#[test]
fn a_full_array_of_pieces_leaves_an_event_to_each() {
    let mut events = writer();
    for _ in 0..PIECE_CAPACITY + 10 {
        events.push(recv(1, 1));
    }
    // The last place but one went to the last piece of the run.
    assert_eq!(events.words(0)[0] >> 48, PIECE_CAPACITY as u64 - 1);
    assert_eq!(events.count(), 1 + 11);
    assert_eq!(events.words(1), [RECV, 1, address(1), 1001]);
}
