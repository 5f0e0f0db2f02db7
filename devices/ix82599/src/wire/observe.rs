//! A wire that can be spoken to while it carries frames: whoever connects to its control socket says a
//! line, and gets a line, `ok` and an answer, or `refused` and why.
//!
//! - `capture FILTER`: after the answer come the frames that the [`Filter`] wants as a pcapng stream, for as
//!   long as the observer stays. A frame that is dropped is there too, and its comment says why.
//! - Anything else is a request to the wires within ([`Wire::request`]); then the connection ends.
//!
//! Nothing waits for an observer: what it has not read is kept up to a bound, and frames beyond that are
//! left out and counted, in the stream too.

mod recording;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::epoll;

use super::{Claim, Direction, Dropped, Filter, Wire, WireError};
use recording::{Recording, SEND_BYTES};

/// Connections at the same time.
const MAX_OBSERVERS: usize = 4;
/// Longest request.
const REQUEST_BYTES: usize = 1024;

/// A wire with observers.
#[derive(Debug)]
pub struct Observed<W> {
    inner: W,
    /// What captures call the wire.
    name: String,
    door: Option<Door>,
    observers: Vec<Observer>,
    /// When it was made, by the wall and by a clock that nobody sets.
    epoch: Duration,
    start: Instant,
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

/// What came of hearing an observer.
enum Heard {
    /// It stays.
    Nothing,
    /// It has said what it wants.
    Request(String),
    /// It has left, or should.
    End,
}

impl<W: Wire> Observed<W> {
    /// Lets observers of `inner` in at `listener`, if there is one. In captures it has this name.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(inner: W, name: &str, listener: Option<UnixListener>) -> io::Result<Self> {
        Ok(Self {
            inner,
            name: name.to_owned(),
            door: listener.map(Door::new).transpose()?,
            observers: Vec::new(),
            epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            start: Instant::now(),
            now_ns: 0,
        })
    }

    fn record(&mut self, direction: Direction, frame: &[u8], comment: Option<&str>) {
        let (now_ns, time) = (self.now_ns, self.time());
        self.each_recording(|recording, stream| {
            // Before the frame is added, since the device may yet say what became of it.
            let waits = recording.is_full() || recording.unsent() < SEND_BYTES;
            let stays = waits || recording.send(now_ns, time, stream);
            if stays {
                recording.add(now_ns, time, direction, frame, comment);
            }
            stays
        });
    }

    /// Does something with each recording; those for which it is false end.
    fn each_recording(&mut self, mut work: impl FnMut(&mut Recording, &UnixStream) -> bool) {
        let before = self.observers.len();
        self.observers.retain_mut(|observer| {
            let recording = observer.recording.as_mut();
            recording.is_none_or(|recording| work(recording, &observer.stream))
        });
        if self.observers.len() != before {
            self.tell_whether_watched();
        }
    }

    fn tell_whether_watched(&mut self) {
        let watched = self.is_observed();
        self.inner.watch(watched);
    }

    /// Records what the wires within have dropped, but for `sent`, of which it returns the reason.
    fn record_drops(&mut self, sent: Option<&[u8]>) -> Option<&'static str> {
        let mut reason = None;
        while let Some(dropped) = self.inner.next_dropped() {
            if dropped.direction == Direction::Outbound && sent == Some(&dropped.frame) {
                reason = Some(dropped.reason);
            } else {
                let Dropped {
                    direction,
                    reason,
                    frame,
                } = dropped;
                self.record(direction, &frame, Some(reason));
            }
        }
        reason
    }

    /// Does what an observer asks for. Whether it stays.
    fn carry_out(&mut self, observer: &mut Observer, request: &str) -> bool {
        let (word, argument) = request.split_once(' ').unwrap_or((request, ""));
        let mut stream = &observer.stream;
        if word == "capture" {
            return match Filter::parse(argument) {
                Ok(filter) => {
                    observer.recording = Some(Recording::new(&self.name, filter, self.now_ns));
                    stream.write_all(b"ok\n").is_ok()
                }
                Err(error) => {
                    // It leaves in either case.
                    let _ = writeln!(stream, "refused {error}");
                    false
                }
            };
        }
        // Whoever has asked may be gone, which changes nothing.
        let _ = match self.inner.request(word, argument.trim()) {
            Some(Ok(answer)) => writeln!(stream, "ok {answer}"),
            Some(Err(reason)) => writeln!(stream, "refused {reason}"),
            None => writeln!(stream, "refused `{word}`: use capture or impair"),
        };
        false
    }

    /// The time of this very moment: that of the model is of the beginning of its turn, and how long a
    /// guest takes for an answer is to be seen to the microsecond.
    fn time(&self) -> Duration {
        self.epoch + self.start.elapsed()
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
    fn hear(&mut self) -> Heard {
        let mut bytes = [0; REQUEST_BYTES];
        match (&self.stream).read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
            Err(_) | Ok(0) => return Heard::End,
            // It has nothing to say any more.
            Ok(_) if self.recording.is_some() => return Heard::Nothing,
            Ok(count) => self.request.extend_from_slice(&bytes[..count]),
        }
        match self.request.iter().position(|byte| *byte == b'\n') {
            Some(end) => Heard::Request(String::from_utf8_lossy(&self.request[..end]).into_owned()),
            None if self.request.len() < REQUEST_BYTES => Heard::Nothing,
            None => Heard::End,
        }
    }
}

impl<W: Wire> Wire for Observed<W> {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        let result = self.inner.send(frame);
        if self.is_observed() {
            let refused = match &result {
                Ok(()) => None,
                Err(WireError::Full) => Some("not sent: the wire takes no more frames now"),
                Err(WireError::Down) => Some("not sent: the wire is unplugged or down"),
                Err(WireError::Io(_)) => Some("not sent: the wire failed"),
            };
            let dropped = self.record_drops(Some(frame));
            self.record(Direction::Outbound, frame, refused.or(dropped));
        }
        result
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        let result = self.inner.receive(frame);
        if self.is_observed() {
            self.record_drops(None);
            if let Ok(Some(length)) = result {
                self.record(Direction::Inbound, &frame[..length], None);
            }
        }
        result
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.inner.advance(now_ns);
        if !self.is_observed() {
            return;
        }
        self.record_drops(None);
        let time = self.time();
        self.each_recording(|recording, stream| {
            let is_due = recording.due_ns().is_some_and(|due_ns| due_ns <= now_ns);
            !is_due || recording.send(now_ns, time, stream)
        });
    }

    fn deadline_ns(&self) -> Option<u64> {
        let recordings = self.observers.iter().filter_map(|it| it.recording.as_ref());
        let due = recordings.filter_map(Recording::due_ns);
        due.chain(self.inner.deadline_ns()).min()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn door(&self) -> Option<BorrowedFd<'_>> {
        self.door.as_ref().map(|door| door.epoll.as_fd())
    }

    fn answer_door(&mut self) {
        for mut observer in std::mem::take(&mut self.observers) {
            let stays = match observer.hear() {
                Heard::Nothing => true,
                Heard::Request(request) => self.carry_out(&mut observer, &request),
                Heard::End => false,
            };
            if stays {
                self.observers.push(observer);
            }
        }
        self.tell_whether_watched();
        let Some(door) = &self.door else { return };
        match door.next(self.observers.len()) {
            Ok(observer) => self.observers.extend(observer),
            Err(error) => log::warn!("an observer could not be let in: {error}"),
        }
    }

    fn claim(&mut self, claim: Claim) -> bool {
        self.inner.claim(claim)
    }

    fn request(&mut self, what: &str, argument: &str) -> Option<Result<String, String>> {
        self.inner.request(what, argument)
    }

    fn is_observed(&self) -> bool {
        self.observers.iter().any(|it| it.recording.is_some())
    }

    fn dropped(&mut self, direction: Direction, frame: &[u8], reason: &'static str) {
        let (now_ns, time) = (self.now_ns, self.time());
        self.each_recording(|recording, _| {
            recording.add_dropped(now_ns, time, direction, frame, reason);
            true
        });
    }
}

#[cfg(test)]
mod tests;
