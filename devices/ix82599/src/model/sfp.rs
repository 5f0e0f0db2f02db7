//! The SFP+ module in the cage, as drivers find it: a 256-byte memory at address 1010000b of the
//! I2C bus (SFF-8472, section 4), whose two lines software drives bit by bit by I2CCTL (3.5.10).

/// 1010000b and the direction bit.
const WRITE: u8 = 0xa0;
const READ: u8 = 0xa1;
const BYTES: usize = 256;

/// Identification (SFF-8472, tables 5-3 to 5-6): a 10GBASE-SR module.
const IDENTIFIER_SFP: (usize, u8) = (0, 0x03);
const SERIAL_ID_ONLY: (usize, u8) = (1, 0x04);
const CONNECTOR_LC: (usize, u8) = (2, 0x07);
const TEN_GIGABIT_SR: (usize, u8) = (3, 0x10);
const BIT_RATE_100_MBD: (usize, u8) = (12, 103);
/// Drivers ask for a module of the card's own vendor; this is its identifier.
const VENDOR_OUI: (usize, [u8; 3]) = (37, [0x00, 0x1b, 0x21]);
const VENDOR_NAME: (usize, &[u8; 16]) = (20, b"IX              ");
const PART_NUMBER: (usize, &[u8; 16]) = (40, b"MODEL-10G-SR    ");
/// Each covers the bytes from the one before it on.
const CHECK_CODES: [usize; 2] = [63, 95];

/// The module: a memory, and where it is in the conversation.
#[derive(Debug)]
pub(super) struct Sfp {
    memory: Box<[u8; BYTES]>,
    clock: bool,
    data: bool,
    phase: Phase,
    /// Address of the byte that is read or written next.
    pointer: u8,
    /// The module holds the data line low.
    pulls_low: bool,
}

/// What the next clock pulses carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing for us.
    Idle,
    /// Bits of the device address, of the memory address, or of data to be written, which are ignored.
    Take { what: Byte, bits: u8, value: u8 },
    /// We acknowledge, then go on.
    Acknowledge { then: Byte },
    /// We send bits of the byte at the pointer.
    Give { bits: u8 },
    /// The host acknowledges, and wants another byte, or does not.
    Acknowledged { more: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    Device,
    Pointer,
    Data,
    Read,
}

impl Sfp {
    pub(super) fn new() -> Self {
        let mut memory = Box::new([0; BYTES]);
        for (at, value) in [
            IDENTIFIER_SFP,
            SERIAL_ID_ONLY,
            CONNECTOR_LC,
            TEN_GIGABIT_SR,
            BIT_RATE_100_MBD,
        ] {
            memory[at] = value;
        }
        memory[VENDOR_OUI.0..][..3].copy_from_slice(&VENDOR_OUI.1);
        memory[VENDOR_NAME.0..][..16].copy_from_slice(VENDOR_NAME.1);
        memory[PART_NUMBER.0..][..16].copy_from_slice(PART_NUMBER.1);
        let mut start = 0;
        for at in CHECK_CODES {
            memory[at] = memory[start..at]
                .iter()
                .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
            start = at + 1;
        }
        Self {
            memory,
            clock: true,
            data: true,
            phase: Phase::Idle,
            pointer: 0,
            pulls_low: false,
        }
    }

    /// Whether the data line is high, while the host leaves it alone.
    pub(super) fn releases_data(&self) -> bool {
        !self.pulls_low
    }

    /// The host drives its lines: `false` pulls one low, `true` leaves it alone.
    pub(super) fn drive(&mut self, clock: bool, data: bool) {
        let (had_clock, had_data) = (self.clock, self.data);
        (self.clock, self.data) = (clock, data);
        if had_clock && clock {
            match (had_data, data) {
                (true, false) => self.start(),
                (false, true) => self.stop(),
                _ => {}
            }
        } else if clock && !had_clock {
            self.rise(data);
        } else if had_clock && !clock {
            self.fall();
        }
    }

    fn start(&mut self) {
        self.pulls_low = false;
        self.phase = Phase::Take {
            what: Byte::Device,
            bits: 0,
            value: 0,
        };
    }

    fn stop(&mut self) {
        self.pulls_low = false;
        self.phase = Phase::Idle;
    }

    /// The clock rises: bits of the host are sampled.
    fn rise(&mut self, data: bool) {
        match &mut self.phase {
            Phase::Take { bits, value, .. } => {
                *value = *value << 1 | u8::from(data);
                *bits += 1;
            }
            Phase::Acknowledged { more } => *more = !data,
            Phase::Idle | Phase::Acknowledge { .. } | Phase::Give { .. } => {}
        }
    }

    /// The clock falls: the module changes what it puts on the line.
    fn fall(&mut self) {
        self.pulls_low = false;
        self.phase = match self.phase {
            Phase::Take {
                what,
                bits: 8,
                value,
            } => self.taken(what, value),
            Phase::Acknowledge { then: Byte::Read } => self.give(0),
            Phase::Acknowledge { then } => Phase::Take {
                what: then,
                bits: 0,
                value: 0,
            },
            Phase::Give { bits: 7 } => {
                self.pointer = self.pointer.wrapping_add(1);
                Phase::Acknowledged { more: false }
            }
            Phase::Give { bits } => self.give(bits + 1),
            Phase::Acknowledged { more: true } => self.give(0),
            Phase::Acknowledged { more: false } => Phase::Idle,
            unchanged @ (Phase::Idle | Phase::Take { .. }) => unchanged,
        };
    }

    /// A byte is complete: acknowledge it if it is for us.
    fn taken(&mut self, what: Byte, value: u8) -> Phase {
        let then = match (what, value) {
            (Byte::Device, WRITE) => Byte::Pointer,
            (Byte::Device, READ) => Byte::Read,
            (Byte::Device, _) => return Phase::Idle,
            (Byte::Pointer, pointer) => {
                self.pointer = pointer;
                Byte::Data
            }
            (Byte::Data | Byte::Read, _) => Byte::Data,
        };
        self.pulls_low = true;
        Phase::Acknowledge { then }
    }

    fn give(&mut self, bits: u8) -> Phase {
        let byte = self.memory[usize::from(self.pointer)];
        self.pulls_low = byte << bits & 0x80 == 0;
        Phase::Give { bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that drives the two lines.
    struct Host(Sfp);

    impl Host {
        fn start(&mut self) {
            for (clock, data) in [(false, true), (true, true), (true, false), (false, false)] {
                self.0.drive(clock, data);
            }
        }

        fn stop(&mut self) {
            for (clock, data) in [(false, false), (true, false), (true, true)] {
                self.0.drive(clock, data);
            }
        }

        /// One clock pulse; returns the line while the clock is high.
        fn pulse(&mut self, data: bool) -> bool {
            self.0.drive(false, data);
            self.0.drive(true, data);
            let line = data && self.0.releases_data();
            self.0.drive(false, data);
            line
        }

        /// Sends a byte; returns whether it was acknowledged.
        fn send(&mut self, byte: u8) -> bool {
            for bit in (0..8).rev() {
                self.pulse(byte >> bit & 1 != 0);
            }
            !self.pulse(true)
        }

        fn receive(&mut self, more: bool) -> u8 {
            let byte = (0..8).fold(0, |byte, _| byte << 1 | u8::from(self.pulse(true)));
            self.pulse(!more);
            byte
        }

        fn read(&mut self, at: u8, bytes: usize) -> Vec<u8> {
            self.start();
            assert!(self.send(WRITE) && self.send(at));
            self.start();
            assert!(self.send(READ));
            let read = (1..=bytes).map(|n| self.receive(n < bytes)).collect();
            self.stop();
            read
        }
    }

    #[test]
    fn single_bytes_and_runs_are_read() {
        let mut host = Host(Sfp::new());
        assert_eq!(host.read(0, 1), [0x03]);
        assert_eq!(host.read(3, 1), [0x10]);
        assert_eq!(host.read(37, 3), [0x00, 0x1b, 0x21]);
        assert_eq!(host.read(255, 2), [0, 0x03], "addresses wrap");
    }

    #[test]
    fn check_codes_add_up() {
        let mut host = Host(Sfp::new());
        let memory = host.read(0, 96);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(memory[63], sum(&memory[..63]));
        assert_eq!(memory[95], sum(&memory[64..95]));
    }

    #[test]
    fn other_addresses_are_not_acknowledged() {
        let mut host = Host(Sfp::new());
        host.start();
        assert!(!host.send(0xa2));
        assert!(!host.send(0x00));
        host.stop();
        assert_eq!(host.read(0, 1), [0x03]);
    }

    #[test]
    fn writes_are_acknowledged_and_change_nothing() {
        let mut host = Host(Sfp::new());
        host.start();
        assert!(host.send(WRITE) && host.send(3) && host.send(0xff));
        host.stop();
        assert_eq!(host.read(3, 1), [0x10]);
    }
}
