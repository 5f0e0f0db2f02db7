//! A wire that may be listened to: whoever connects to a socket and says which frames it wants gets
//! them as a pcapng stream, for as long as it stays.
//!
//! An observer first sends a line, its [`Filter`], and gets a line: `ok`, or `refused` and why. Then the
//! stream begins, and ends when the observer hangs up. Nothing waits for an observer: what it has not
//! read is kept up to a bound, and frames beyond that are left out and counted, in the stream too.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::epoll;

use super::pcapng::{self, Direction};
use super::{Filter, Wire, WireError};

/// Observers at the same time.
const MAX_OBSERVERS: usize = 4;
/// Longest request.
const REQUEST_BYTES: usize = 1024;
/// What an observer may be behind.
const BACKLOG_BYTES: usize = 1 << 20;
/// Frames are sent when there are so many bytes of them ...
const SEND_BYTES: usize = 32 << 10;
/// ... or when they are so old. It is also the time after which a full socket is tried again.
const SEND_INTERVAL_NS: u64 = 20_000_000;

/// A wire with observers.
#[derive(Debug)]
pub struct Observed<W> {
    inner: W,
    door: Option<Door>,
    observers: Vec<Observer>,
    /// Wall-clock time of `now_ns` = 0.
    epoch: Duration,
    now_ns: u64,
}

/// Where observers come in.
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    /// Readable when somebody comes, says something or leaves.
    epoll: OwnedFd,
}

#[derive(Debug)]
struct Observer {
    stream: UnixStream,
    /// What it has said so far.
    request: Vec<u8>,
    /// Once it has said what it wants.
    recording: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    filter: Filter,
    backlog: Vec<u8>,
    /// Bytes at the start of the backlog that are sent.
    sent: usize,
    /// When the rest of it is sent at the latest; tried again, if the socket is full.
    due_ns: Option<u64>,
    /// Whether the socket took no more the last time.
    is_full: bool,
    dropped: u64,
    /// As much of `dropped` as the stream says.
    dropped_told: u64,
}

impl<W: Wire> Observed<W> {
    /// Lets observers of `inner` in at `listener`, if there is one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(inner: W, listener: Option<UnixListener>) -> io::Result<Self> {
        Ok(Self {
            inner,
            door: listener.map(Door::new).transpose()?,
            observers: Vec::new(),
            epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            now_ns: 0,
        })
    }

    fn record(&mut self, direction: Direction, frame: &[u8]) {
        let (now_ns, time) = (self.now_ns, self.time());
        self.observers.retain_mut(|observer| {
            let Some(recording) = &mut observer.recording else {
                return true;
            };
            recording.add(now_ns, time, direction, frame);
            let waits = recording.is_full || recording.unsent() < SEND_BYTES;
            waits || recording.send(now_ns, time, &observer.stream)
        });
    }

    fn time(&self) -> Duration {
        self.epoch + Duration::from_nanos(self.now_ns)
    }
}

impl Door {
    fn new(listener: UnixListener) -> io::Result<Door> {
        listener.set_nonblocking(true)?;
        let door = Door {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listener,
        };
        door.watch(&door.listener)?;
        Ok(door)
    }

    fn watch(&self, fd: impl AsFd) -> io::Result<()> {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Whoever has come. One too many is told so.
    fn next(&self, observers: usize) -> io::Result<Option<Observer>> {
        let mut stream = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            accepted => accepted?.0,
        };
        stream.set_nonblocking(true)?;
        if observers >= MAX_OBSERVERS {
            writeln!(stream, "refused {MAX_OBSERVERS} captures run already")?;
            return Ok(None);
        }
        self.watch(&stream)?;
        Ok(Some(Observer {
            stream,
            request: Vec::new(),
            recording: None,
        }))
    }
}

impl Observer {
    /// Hears what it says. `false` when it has left, or should.
    fn hear(&mut self, now_ns: u64) -> bool {
        let mut bytes = [0; REQUEST_BYTES];
        match (&self.stream).read(&mut bytes) {
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
            Ok(0) => return false,
            // It has nothing to say any more.
            Ok(_) if self.recording.is_some() => return true,
            Ok(count) => self.request.extend_from_slice(&bytes[..count]),
        }
        let Some(end) = self.request.iter().position(|byte| *byte == b'\n') else {
            return self.request.len() < REQUEST_BYTES;
        };
        let text = String::from_utf8_lossy(&self.request[..end]);
        match Filter::parse(&text) {
            Ok(filter) => {
                self.recording = Some(Recording::new(filter, now_ns));
                (&self.stream).write_all(b"ok\n").is_ok()
            }
            Err(error) => {
                // It leaves in either case.
                let _ = writeln!(&self.stream, "refused {error}");
                false
            }
        }
    }
}

impl Recording {
    fn new(filter: Filter, now_ns: u64) -> Recording {
        let mut backlog = Vec::new();
        pcapng::begin(&mut backlog);
        Recording {
            filter,
            backlog,
            sent: 0,
            due_ns: Some(now_ns),
            is_full: false,
            dropped: 0,
            dropped_told: 0,
        }
    }

    fn add(&mut self, now_ns: u64, time: Duration, direction: Direction, frame: &[u8]) {
        if !self.filter.wants(frame) {
            return;
        }
        // Twice, for the statistics.
        let needed = frame.len() + 2 * pcapng::PACKET_OVERHEAD;
        if self.unsent() + needed > BACKLOG_BYTES {
            self.dropped += 1;
            return;
        }
        self.tell_drops(time);
        pcapng::packet(&mut self.backlog, time, direction, frame);
        self.due_ns.get_or_insert(now_ns + SEND_INTERVAL_NS);
    }

    fn tell_drops(&mut self, time: Duration) {
        if self.dropped != self.dropped_told {
            pcapng::statistics(&mut self.backlog, time, self.dropped);
            self.dropped_told = self.dropped;
        }
    }

    fn unsent(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// Sends what the observer takes. `false` when it has left.
    fn send(&mut self, now_ns: u64, time: Duration, mut stream: &UnixStream) -> bool {
        self.is_full = false;
        self.due_ns = None;
        loop {
            if self.unsent() == 0 {
                self.forget_sent();
                self.tell_drops(time);
            }
            if self.unsent() == 0 {
                return true;
            }
            match stream.write(&self.backlog[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.forget_sent();
                    self.is_full = true;
                    self.due_ns = Some(now_ns + SEND_INTERVAL_NS);
                    return error.kind() == ErrorKind::WouldBlock;
                }
            }
        }
    }

    fn forget_sent(&mut self) {
        self.backlog.drain(..self.sent);
        self.sent = 0;
    }
}

impl<W: Wire> Wire for Observed<W> {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        self.record(Direction::Outbound, frame);
        self.inner.send(frame)
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        let length = self.inner.receive(frame)?;
        if let Some(length) = length {
            self.record(Direction::Inbound, &frame[..length]);
        }
        Ok(length)
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.inner.advance(now_ns);
        let time = self.time();
        self.observers.retain_mut(|observer| {
            let due = observer.recording.as_mut();
            let due = due.filter(|it| it.due_ns.is_some_and(|due_ns| due_ns <= now_ns));
            due.is_none_or(|recording| recording.send(now_ns, time, &observer.stream))
        });
    }

    fn deadline_ns(&self) -> Option<u64> {
        let recordings = self.observers.iter().filter_map(|it| it.recording.as_ref());
        let due = recordings.filter_map(|recording| recording.due_ns);
        due.chain(self.inner.deadline_ns()).min()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn door(&self) -> Option<BorrowedFd<'_>> {
        self.door.as_ref().map(|door| door.epoll.as_fd())
    }

    fn answer_door(&mut self) {
        let now_ns = self.now_ns;
        self.observers.retain_mut(|observer| observer.hear(now_ns));
        let Some(door) = &self.door else { return };
        match door.next(self.observers.len()) {
            Ok(observer) => self.observers.extend(observer),
            Err(error) => log::warn!("an observer could not be let in: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loopback;
    use super::*;
    use std::io::{BufRead, BufReader};

    struct Place {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        wire: Observed<Loopback>,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Place {
            _folder: folder,
            path,
            wire: Observed::new(Loopback::new(4), Some(listener)).unwrap(),
        }
    }

    impl Place {
        /// Connects, asks, and returns the answer.
        fn observe(&mut self, filter: &str) -> (String, BufReader<UnixStream>) {
            let mut stream = UnixStream::connect(&self.path).unwrap();
            writeln!(stream, "{filter}").unwrap();
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
        let dropped = place.wire.observers[0].recording.as_ref().unwrap().dropped;
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
}
