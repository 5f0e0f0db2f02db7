use super::super::{Impaired, Impairment, Loopback};
use super::recording::{BACKLOG_BYTES, SEND_INTERVAL_NS};
use super::*;
use std::io::{BufRead, BufReader};

struct Place {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    wire: Observed<Impaired<Loopback>>,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let inner = Impaired::new(Loopback::new(4), Impairment::default());
    Place {
        _folder: folder,
        path,
        wire: Observed::new(inner, "nic0", Some(listener)).unwrap(),
    }
}

impl Place {
    /// Connects, asks, and returns the answer.
    fn observe(&mut self, filter: &str) -> (String, BufReader<UnixStream>) {
        self.ask(&format!("capture {filter}"))
    }

    fn ask(&mut self, request: &str) -> (String, BufReader<UnixStream>) {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        writeln!(stream, "{request}").unwrap();
        // Lets it in, then hears it.
        self.wire.answer_door();
        self.wire.answer_door();
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        (answer.trim().to_owned(), stream)
    }

    fn exchange(&mut self, ethertype: u16) {
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        self.wire.send(&frame).unwrap();
        self.wire.receive(&mut [0; 64]).unwrap().unwrap();
    }
}

/// Kinds of the blocks in a stream.
fn kinds(bytes: &[u8]) -> Vec<u32> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut kinds = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        kinds.push(word(at));
        at += word(at + 4) as usize;
    }
    kinds
}

fn read_all(place: Place, mut stream: BufReader<UnixStream>) -> Vec<u8> {
    drop(place);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_observer_gets_what_it_wants_and_nothing_else() {
    let mut place = place();
    place.exchange(0x0806);
    let (answer, stream) = place.observe("arp");
    assert_eq!(answer, "ok");
    place.exchange(0x0806);
    place.exchange(0x0800);
    assert!(place.wire.deadline_ns().is_some());
    place.wire.advance(SEND_INTERVAL_NS);
    assert_eq!(place.wire.deadline_ns(), None);
    let kinds = kinds(&read_all(place, stream));
    assert_eq!(kinds[2..], [6, 6]);
}

#[test]
fn who_asks_nonsense_or_comes_too_late_is_told_so() {
    let mut place = place();
    let (answer, _) = place.observe("frogs");
    assert!(answer.starts_with("refused `frogs`"), "{answer}");
    let observers: Vec<_> = (0..MAX_OBSERVERS).map(|_| place.observe("")).collect();
    assert!(observers.iter().all(|(answer, _)| answer == "ok"));
    let (answer, _) = place.observe("");
    assert!(answer.starts_with("refused 4 captures"), "{answer}");
    drop(observers);
    place.wire.answer_door();
    assert!(place.wire.observers.is_empty());
    assert_eq!(place.observe("").0, "ok");
}

#[test]
fn a_slow_observer_loses_frames_and_hears_how_many() {
    let mut place = place();
    let (_, mut stream) = place.observe("");
    // More than its backlog and the socket hold.
    let rounds = 4 * BACKLOG_BYTES / 120;
    for _ in 0..rounds {
        place.exchange(0x0800);
    }
    let dropped = place.wire.observers[0]
        .recording
        .as_ref()
        .unwrap()
        .dropped();
    assert!(dropped > 0 && (dropped as usize) < 2 * rounds);
    let mut bytes = vec![0; 128 << 10];
    let mut now_ns = 0;
    let mut all = Vec::new();
    while place.wire.deadline_ns().is_some() {
        let count = stream.read(&mut bytes).unwrap();
        all.extend_from_slice(&bytes[..count]);
        now_ns += SEND_INTERVAL_NS;
        place.wire.advance(now_ns);
    }
    all.extend(read_all(place, stream));
    let kinds = kinds(&all);
    let packets = kinds.iter().filter(|kind| **kind == 6).count();
    assert_eq!(packets as u64 + dropped, 2 * rounds as u64);
    assert_eq!(kinds.last(), Some(&5));
    let last = all.len() - 20;
    assert_eq!(all[last + 4..last + 12], dropped.to_le_bytes());
}

/// Comments of the packets in a stream, in order.
fn comments(bytes: &[u8]) -> Vec<Option<String>> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut comments = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if word(at) == 6 {
            // The direction's option comes first and has 8 bytes.
            let options = at + 28 + word(at + 20).next_multiple_of(4) + 8;
            let (code, length) = (word(options) & 0xffff, word(options) >> 16);
            let text = || String::from_utf8(bytes[options + 4..][..length].to_vec()).unwrap();
            comments.push((code == 1).then(text));
        }
        at += word(at + 4);
    }
    comments
}

#[test]
fn a_frame_that_is_dropped_is_there_with_the_reason() {
    let mut place = place();
    let (_, stream) = place.observe("");
    let impaired = place.ask(r#"impair {"loss": 1, "direction": "out"}"#).0;
    assert!(impaired.starts_with("ok {"), "{impaired}");
    place.wire.send(&[1; 60]).unwrap();
    assert!(place.ask("impair {}").0.starts_with("ok"));
    place.exchange(0x0800);
    // The device does not take what it received last, ...
    place.wire.dropped(Direction::Inbound, &[0; 60], "filtered");
    // ... could not send a frame, ...
    place
        .wire
        .dropped(Direction::Outbound, &[4; 20], "unreadable");
    // ... and the wire has no room for the last.
    for _ in 0..4 {
        place.wire.send(&[5; 60]).unwrap();
    }
    assert!(place.wire.send(&[6; 60]).is_err());
    place.wire.advance(SEND_INTERVAL_NS);
    let comments = comments(&read_all(place, stream));
    let comments: Vec<_> = comments.iter().map(|it| it.as_deref()).collect();
    assert_eq!(comments[0], Some("lost by the impaired wire"));
    assert_eq!(comments[1..4], [None, Some("filtered"), Some("unreadable")]);
    assert_eq!(comments[4..8], [None; 4]);
    assert!(comments[8].unwrap().starts_with("not sent"));
}

#[test]
fn a_request_is_answered_and_then_the_connection_ends() {
    let mut place = place();
    let (answer, mut stream) = place.ask("impair");
    assert!(
        answer.starts_with("ok {\"impairment\":{\"direction\":\"both\""),
        "{answer}"
    );
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let (answer, _) = place.ask("frogs");
    assert!(answer.starts_with("refused `frogs`"), "{answer}");
    let (answer, _) = place.ask("impair {\"loss\": 2}");
    assert!(answer.contains("from 0 to 1"), "{answer}");
}
