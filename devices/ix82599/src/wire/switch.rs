//! A switch within this process: the functions of one `ixnicd` on one side, its uplink on the other.
//!
//! A function belongs to a station: its frames must have the station's address as source, and be of its
//! VLAN, or they are dropped and counted ([`PortRule`]). So nobody receives what is another's by claiming to
//! be it, and addresses of functions need not be learned. Those behind the uplink are, as in IEEE 802.1Q
//! 8.7: they age, and a full table learns no more. A frame for an address that nobody has shown goes to the
//! uplink and to functions that may be anybody, not to the others. The guest of a virtual function may claim
//! more ([`Claim`]), as far as nobody else has it.
//!
//! Each function has a queue of bounded length. What finds it full is dropped, so that a function that does
//! not take its frames costs itself alone.

mod claims;
mod header;
mod port;
mod table;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use serde::Serialize;

use super::{Claim, Direction, Dropped, MAX_CLAIMS, MAX_FRAME_BYTES, Wire, WireError};
use claims::Claims;
pub use claims::PortRule;
use header::Header;
pub use port::SwitchPort;
use table::{Mac, Table};

/// Frames that wait for a function.
const QUEUE_FRAMES: usize = 1024;
/// Buffers that are kept for the next frames.
const SPARE_BUFFERS: usize = 256;
/// Frames taken from the uplink at once.
const BATCH: usize = 256;
/// Dropped frames that are kept for whoever watches a port; it looks after each frame.
const KEPT_DROPS: usize = 64;

/// What a port let through, and what it dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounts {
    /// Frames that came in from the function or the uplink.
    pub frames_in: u64,
    /// Frames that went out to it.
    pub frames_out: u64,
    /// Dropped: not the function's source address; at the uplink, the address of a function.
    pub spoofed_address: u64,
    /// Dropped: not of the function's VLAN.
    pub spoofed_vlan: u64,
    /// Dropped: no frame, or for the neighbour on the link only; at the uplink, with a service tag.
    pub not_forwarded: u64,
    /// Dropped: the receiver is where the frame came from.
    pub same_port: u64,
    /// Dropped on the way out: the function did not take its frames.
    pub queue_full: u64,
    /// Dropped on the way out: the uplink took no frame.
    pub uplink_refused: u64,
}

/// A switch whose far side is `U`. Clones are the same one.
#[derive(Debug)]
pub struct Switch<U>(Rc<RefCell<Fabric<U>>>);

impl<U> Clone for Switch<U> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Fabric<U> {
    functions: Vec<Function>,
    uplink: U,
    uplink_counts: PortCounts,
    table: Table,
    spare: Vec<Vec<u8>>,
    /// The frame from the uplink that is looked at.
    frame: Vec<u8>,
    /// Room for a frame with the tag that a port has put on.
    tagged: Vec<u8>,
    now_ns: u64,
}

#[derive(Debug)]
struct Function {
    name: String,
    claims: Claims,
    queue: VecDeque<Vec<u8>>,
    counts: PortCounts,
    is_watched: bool,
    dropped: Vec<Dropped>,
}

/// Where a frame comes from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Function(usize),
    Uplink,
}

/// The state of a switch, for people.
#[derive(Serialize)]
struct Status<'a> {
    functions: Vec<FunctionStatus<'a>>,
    uplink: PortCounts,
    /// Addresses learned.
    learned: usize,
    /// Addresses that were not, since the table was full.
    not_learned: u64,
}

#[derive(Serialize)]
struct FunctionStatus<'a> {
    name: &'a str,
    #[serde(flatten)]
    counts: PortCounts,
}

impl<U: Wire> Switch<U> {
    /// A switch without functions.
    pub fn new(uplink: U) -> Self {
        Self(Rc::new(RefCell::new(Fabric {
            functions: Vec::new(),
            uplink,
            uplink_counts: PortCounts::default(),
            table: Table::new(),
            spare: Vec::new(),
            frame: vec![0; MAX_FRAME_BYTES],
            tagged: Vec::new(),
            now_ns: 0,
        })))
    }

    /// Adds a function's port.
    pub fn port(&self, name: &str, rule: PortRule) -> SwitchPort<U> {
        let mut fabric = self.0.borrow_mut();
        fabric.functions.push(Function {
            name: name.to_owned(),
            claims: Claims::new(rule),
            queue: VecDeque::new(),
            counts: PortCounts::default(),
            is_watched: false,
            dropped: Vec::new(),
        });
        SwitchPort {
            switch: self.clone(),
            number: fabric.functions.len() - 1,
        }
    }

    /// Takes a batch of frames from the uplink to where they belong. Whether there may be more.
    ///
    /// # Errors
    /// [`WireError`] if the uplink is broken; frames between functions go on.
    pub fn poll(&self) -> Result<bool, WireError> {
        self.0.borrow_mut().poll()
    }

    /// Tells the time, in nanoseconds from an arbitrary start.
    pub fn advance(&self, now_ns: u64) {
        let mut fabric = self.0.borrow_mut();
        fabric.now_ns = now_ns;
        fabric.uplink.advance(now_ns);
    }

    /// When [`Switch::advance`] has something to do at the latest.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.0.borrow().uplink.deadline_ns()
    }

    /// Calls `with` with a descriptor that polls readable when the uplink has frames, if it has one.
    pub fn with_readiness<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        self.0.borrow().uplink.readiness().map(with)
    }

    /// What the port of a function, or with `None` of the uplink, has counted.
    pub fn counts(&self, function: Option<usize>) -> PortCounts {
        let fabric = self.0.borrow();
        match function {
            Some(number) => fabric.functions[number].counts,
            None => fabric.uplink_counts,
        }
    }

    /// Whether frames wait for a function.
    pub fn has_frames(&self, function: usize) -> bool {
        !self.0.borrow().functions[function].queue.is_empty()
    }
}

impl<U: Wire> Fabric<U> {
    fn poll(&mut self) -> Result<bool, WireError> {
        for _ in 0..BATCH {
            let mut frame = std::mem::take(&mut self.frame);
            frame.resize(MAX_FRAME_BYTES, 0);
            let received = self.uplink.receive(&mut frame);
            if let Ok(Some(length)) = received {
                self.enter_by_uplink(&frame[..length]);
            }
            self.frame = frame;
            if received?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn enter_by_uplink(&mut self, frame: &[u8]) {
        self.uplink_counts.frames_in += 1;
        let header = Header::read(frame).filter(|header| !header.hides_vlan);
        let Some(header) = header else {
            self.uplink_counts.not_forwarded += 1;
            return;
        };
        if self.function_of(header.source, header.vlan).is_some() {
            self.uplink_counts.spoofed_address += 1;
            return;
        }
        self.table
            .learn(header.vlan, header.source, Place::Uplink, self.now_ns);
        self.forward(Place::Uplink, &header, frame);
    }

    /// A function has sent a frame. Why it is dropped, if it is.
    fn enter_by_function(&mut self, number: usize, frame: &[u8]) -> Option<&'static str> {
        let function = &mut self.functions[number];
        let (claims, counts) = (&function.claims, &mut function.counts);
        counts.frames_in += 1;
        let Some(mut header) = Header::read(frame) else {
            counts.not_forwarded += 1;
            return Some("dropped by the switch: not to be forwarded");
        };
        if !(claims.is_open() || claims.has(header.source)) {
            counts.spoofed_address += 1;
            return Some("dropped by the switch: not the function's source address");
        }
        let port_vlan = claims.port_vlan();
        let is_in_vlan = match port_vlan {
            Some(_) => header.vlan == 0,
            None => claims.is_in(header.vlan),
        };
        if header.hides_vlan || !is_in_vlan {
            counts.spoofed_vlan += 1;
            return Some("dropped by the switch: not of the function's VLAN");
        }
        header.vlan = port_vlan.unwrap_or(header.vlan);
        if claims.is_open() {
            // Nobody takes an address from a function that it belongs to.
            if self.function_of(header.source, header.vlan).is_some() {
                self.functions[number].counts.spoofed_address += 1;
                return Some("dropped by the switch: the source address of another function");
            }
            let place = Place::Function(number);
            self.table
                .learn(header.vlan, header.source, place, self.now_ns);
        }
        let from = Place::Function(number);
        let Some(vlan) = port_vlan else {
            return self.forward(from, &header, frame);
        };
        let mut tagged = std::mem::take(&mut self.tagged);
        header::tag(frame, vlan, &mut tagged);
        let reason = self.forward(from, &header, &tagged);
        self.tagged = tagged;
        reason
    }

    /// The function whose address that is.
    fn function_of(&self, mac: Mac, vlan: u16) -> Option<usize> {
        self.functions
            .iter()
            .position(|it| it.claims.has(mac) && it.claims.is_in(vlan))
    }

    fn forward(&mut self, from: Place, header: &Header, frame: &[u8]) -> Option<&'static str> {
        let is_group = header.destination[0] & 1 != 0;
        let known = if is_group {
            None
        } else {
            self.function_of(header.destination, header.vlan)
                .map(Place::Function)
                .or_else(|| {
                    self.table
                        .find(header.vlan, header.destination, self.now_ns)
                })
        };
        match known {
            Some(place) if place == from => {
                self.counts(from).same_port += 1;
                Some("dropped by the switch: its receiver is where it came from")
            }
            Some(place) => self.to(place, frame),
            None => {
                self.flood(from, header, is_group, frame);
                None
            }
        }
    }

    /// To all of the VLAN that may be meant.
    fn flood(&mut self, from: Place, header: &Header, is_group: bool, frame: &[u8]) {
        for number in 0..self.functions.len() {
            let claims = &self.functions[number].claims;
            let may_be_meant = is_group || claims.is_open();
            let in_vlan = claims.is_in(header.vlan);
            if may_be_meant && in_vlan && from != Place::Function(number) {
                self.to(Place::Function(number), frame);
            }
        }
        if from != Place::Uplink {
            self.to(Place::Uplink, frame);
        }
    }

    /// Hands a frame over. Why it is dropped, if it is.
    fn to(&mut self, place: Place, frame: &[u8]) -> Option<&'static str> {
        let Place::Function(number) = place else {
            if let Err(error) = self.uplink.send(frame) {
                log::debug!("the uplink: {error}");
                self.uplink_counts.uplink_refused += 1;
                return Some("dropped by the switch: the uplink takes no frames now");
            }
            self.uplink_counts.frames_out += 1;
            return None;
        };
        let function = &mut self.functions[number];
        if function.queue.len() >= QUEUE_FRAMES {
            function.counts.queue_full += 1;
            let reason = "dropped by the switch: the queue is full";
            function.note(Direction::Inbound, frame, reason);
            return Some("dropped by the switch: the queue of its receiver is full");
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        if function.claims.port_vlan().is_some() {
            header::untag(&mut buffer);
        }
        function.queue.push_back(buffer);
        function.counts.frames_out += 1;
        None
    }

    fn counts(&mut self, place: Place) -> &mut PortCounts {
        match place {
            Place::Function(number) => &mut self.functions[number].counts,
            Place::Uplink => &mut self.uplink_counts,
        }
    }

    /// Puts the next frame for a function into `into`.
    fn take(&mut self, number: usize, into: &mut [u8]) -> Option<usize> {
        while let Some(frame) = self.functions[number].queue.pop_front() {
            let length = frame.len();
            let room = into.get_mut(..length);
            let fits = room.map(|room| room.copy_from_slice(&frame)).is_some();
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(frame);
            }
            if fits {
                return Some(length);
            }
        }
        None
    }

    fn status(&self) -> Status<'_> {
        let functions = self.functions.iter().map(|function| FunctionStatus {
            name: &function.name,
            counts: function.counts,
        });
        Status {
            functions: functions.collect(),
            uplink: self.uplink_counts,
            learned: self.table.len(),
            not_learned: self.table.not_learned(),
        }
    }
}

impl Function {
    /// Keeps a dropped frame for whoever watches.
    fn note(&mut self, direction: Direction, frame: &[u8], reason: &'static str) {
        if self.is_watched && self.dropped.len() < KEPT_DROPS {
            self.dropped.push(Dropped {
                direction,
                reason,
                frame: frame.to_vec(),
            });
        }
    }
}
