//! Registers of a virtual function (8.3): where they are, and what accesses do. Queues are those of the physical
//! function, seen through another window.

use ixgbe_spec::register::{self as physical, Ctrl, Status};
use ixgbe_spec::virtual_function::{self as reg, ALL_VECTORS};

use super::VIRTUAL_QUEUES;
use crate::model::Model;
use crate::model::interrupts::InterruptSink;
use crate::model::register::{Register, RxRegister, TxRegister};
use crate::model::statistics::Counter;
use crate::wire::Wire;

/// Bits of a VTIVAR entry that there are: valid, and a vector of two bits; four entries.
const VTIVAR_BITS: u32 = 0x8383_8383;
/// Bytes of a frame's FCS, which the byte counters count (8.3).
const FCS_BYTES: u64 = 4;

/// A register; the number tells which of several alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VirtualRegister {
    Ctrl,
    Status,
    Links,
    Timer,
    Teicr,
    Teics,
    Teims,
    Teimc,
    Teiac,
    Teiam,
    Teitr(u8),
    Tivar(u8),
    TivarMisc,
    Rscint,
    Message(u8),
    Mailbox,
    Psrtype,
    Rxmemwrap,
    Rx(RxRegister, u8),
    Tx(TxRegister, u8),
    Gprc,
    GorcLow,
    GorcHigh,
    Mprc,
    Gptc,
    GotcLow,
    GotcHigh,
}

impl VirtualRegister {
    /// The register at `offset`; `None` if there is none.
    fn at(offset: u32) -> Option<Self> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        // The place in an array of registers that begins at `base`.
        let place = |base: u32| (offset.wrapping_sub(base) / 4) as u8;
        Some(match offset {
            reg::VFCTRL => Self::Ctrl,
            reg::VFSTATUS => Self::Status,
            reg::VFLINKS => Self::Links,
            reg::VFFRTIMER => Self::Timer,
            reg::VTEICR => Self::Teicr,
            reg::VTEICS => Self::Teics,
            reg::VTEIMS => Self::Teims,
            reg::VTEIMC => Self::Teimc,
            reg::VTEIAC => Self::Teiac,
            reg::VTEIAM => Self::Teiam,
            reg::VTIVAR_MISC => Self::TivarMisc,
            reg::VFMAILBOX => Self::Mailbox,
            reg::VFPSRTYPE => Self::Psrtype,
            reg::VFRXMEMWRAP => Self::Rxmemwrap,
            reg::VFGPRC => Self::Gprc,
            reg::VFGORC_LSB => Self::GorcLow,
            reg::VFGORC_MSB => Self::GorcHigh,
            reg::VFMPRC => Self::Mprc,
            reg::VFGPTC => Self::Gptc,
            reg::VFGOTC_LSB => Self::GotcLow,
            reg::VFGOTC_MSB => Self::GotcHigh,
            _ if (reg::vteitr(0)..=reg::vteitr(2)).contains(&offset) => {
                Self::Teitr(place(reg::vteitr(0)))
            }
            _ if (reg::vtivar(0)..=reg::vtivar(3)).contains(&offset) => {
                Self::Tivar(place(reg::vtivar(0)))
            }
            _ if (reg::vtrscint(0)..reg::vtrscint(reg::QUEUES)).contains(&offset) => Self::Rscint,
            _ if (reg::vfmbmem(0)..reg::vfmbmem(reg::VFMBMEM_WORDS)).contains(&offset) => {
                Self::Message(place(reg::vfmbmem(0)))
            }
            0x1000..0x2000 => Self::queue(offset)?,
            0x2000..0x3000 => Self::queue(offset + reg::TRANSMIT_DISTANCE)?,
            _ => return None,
        })
    }

    /// The register that a queue of the physical function has at `offset`.
    fn queue(offset: u32) -> Option<Self> {
        match Register::at(offset)? {
            Register::Rx(register, n) if u32::from(n) < reg::QUEUES => Some(Self::Rx(register, n)),
            Register::Tx(register, n) if u32::from(n) < reg::QUEUES => Some(Self::Tx(register, n)),
            _ => None,
        }
    }
}

impl<W: Wire, I: InterruptSink> Model<W, I> {
    pub(in crate::model) fn read_virtual_register(&mut self, offset: u32) -> u32 {
        let Some(register) = VirtualRegister::at(offset) else {
            return 0;
        };
        let (counters, state) = (&self.counters, &mut self.state);
        let bytes_in = counters.rx_bytes + FCS_BYTES * counters.rx_frames;
        let bytes_out = counters.tx_bytes + FCS_BYTES * counters.tx_frames;
        match register {
            // Resets are over at once, and causes are disabled by a register that is only written.
            VirtualRegister::Ctrl | VirtualRegister::Teimc | VirtualRegister::Rxmemwrap => 0,
            VirtualRegister::Status => {
                let mut status = Status::empty();
                status.set(Status::LINK_UP, state.link_up);
                status.bits()
            }
            VirtualRegister::Links => state.links(),
            VirtualRegister::Timer => (self.now_ns / 1000) as u32,
            VirtualRegister::Teicr => state.interrupts.read_eicr() & ALL_VECTORS,
            VirtualRegister::Teics => state.interrupts.causes() & ALL_VECTORS,
            VirtualRegister::Teims => state.interrupts.eims() & ALL_VECTORS,
            VirtualRegister::Teiac => state.interrupts.eiac(),
            VirtualRegister::Teiam => state.interrupts.eiam(),
            VirtualRegister::Teitr(n) => state.interrupts.eitr(n),
            VirtualRegister::Tivar(n) => *state.interrupts.ivar(n),
            VirtualRegister::TivarMisc => *state.interrupts.ivar_misc(),
            VirtualRegister::Rscint => state.stored(offset),
            VirtualRegister::Message(n) => state.mailbox.word(n),
            VirtualRegister::Mailbox => state.mailbox.read(),
            VirtualRegister::Psrtype => state.stored(physical::psrtype(0)),
            VirtualRegister::Rx(register, n) => state.rx[usize::from(n)].read(register),
            VirtualRegister::Tx(register, n) => state.tx[usize::from(n)].read(register),
            VirtualRegister::Gprc => counters.rx_frames as u32,
            VirtualRegister::GorcLow => bytes_in as u32,
            VirtualRegister::GorcHigh => (bytes_in >> 32) as u32 & 0xf,
            VirtualRegister::Mprc => state.statistics.peek(Counter::Mprc),
            VirtualRegister::Gptc => counters.tx_frames as u32,
            VirtualRegister::GotcLow => bytes_out as u32,
            VirtualRegister::GotcHigh => (bytes_out >> 32) as u32 & 0xf,
        }
    }

    pub(in crate::model) fn write_virtual_register(&mut self, offset: u32, value: u32) {
        let Some(register) = VirtualRegister::at(offset) else {
            self.counters.unknown_writes += 1;
            log::debug!("write of {value:#x} to unknown register {offset:#x}");
            return;
        };
        let interrupts = &mut self.state.interrupts;
        match register {
            VirtualRegister::Ctrl => {
                if value & Ctrl::RST.bits() != 0 {
                    self.reset();
                }
            }
            VirtualRegister::Teicr => interrupts.write_eicr(value & ALL_VECTORS),
            VirtualRegister::Teics => interrupts.write_eics(value & ALL_VECTORS),
            VirtualRegister::Teims => interrupts.write_eims(value & ALL_VECTORS),
            VirtualRegister::Teimc => interrupts.write_eimc(value & ALL_VECTORS),
            VirtualRegister::Teiac => interrupts.write_eiac(value & ALL_VECTORS),
            VirtualRegister::Teiam => interrupts.write_eiam(value & ALL_VECTORS),
            VirtualRegister::Teitr(n) => interrupts.write_eitr(n, value, self.now_ns),
            VirtualRegister::Tivar(n) => *interrupts.ivar(n) = value & VTIVAR_BITS,
            VirtualRegister::TivarMisc => *interrupts.ivar_misc() = value & VTIVAR_BITS,
            VirtualRegister::Rscint => self.state.store(offset, value),
            VirtualRegister::Message(n) => self.state.mailbox.set_word(n, value),
            VirtualRegister::Mailbox => {
                self.state.mailbox.write(value);
                self.answer_guest();
            }
            VirtualRegister::Psrtype => {
                self.state.store(physical::psrtype(0), value);
                self.spread(value);
            }
            VirtualRegister::Rx(register, n) => self.write_rx(register, usize::from(n), value),
            VirtualRegister::Tx(register, n) => self.write_tx(register, usize::from(n), value),
            // Read only.
            VirtualRegister::Status
            | VirtualRegister::Links
            | VirtualRegister::Timer
            | VirtualRegister::Rxmemwrap
            | VirtualRegister::Gprc
            | VirtualRegister::GorcLow
            | VirtualRegister::GorcHigh
            | VirtualRegister::Mprc
            | VirtualRegister::Gptc
            | VirtualRegister::GotcLow
            | VirtualRegister::GotcHigh => {}
        }
    }

    /// The owner's table, of which as many bits count as the guest has queues for (8.2.3.7.4).
    fn spread(&mut self, vfpsrtype: u32) {
        let mut queues = VIRTUAL_QUEUES.min(self.config.queues);
        if reg::rqpl(vfpsrtype) == 0 {
            queues = 1;
        }
        let entries = if queues == 2 { 0x0100_0100 } else { 0 };
        for index in 0..32 {
            self.state.rss.set_reta(index, entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_found_at_the_offsets_of_the_datasheet() {
        let known = [
            (0x00000, VirtualRegister::Ctrl),
            (0x00120, VirtualRegister::Tivar(0)),
            (0x0012c, VirtualRegister::Tivar(3)),
            (0x00828, VirtualRegister::Teitr(2)),
            (0x0023c, VirtualRegister::Message(15)),
            (0x002fc, VirtualRegister::Mailbox),
            (0x01018, VirtualRegister::Rx(RxRegister::Rdt, 0)),
            (0x011e8, VirtualRegister::Rx(RxRegister::Rxdctl, 7)),
            (0x02058, VirtualRegister::Tx(TxRegister::Tdt, 1)),
            (0x0101c, VirtualRegister::Gprc),
        ];
        for (offset, register) in known {
            assert_eq!(VirtualRegister::at(offset), Some(register), "{offset:#x}");
        }
        // Of the physical function: an eighth queue, its statistics, its masks, what is no word.
        for offset in [0x1200, 0x1030, 0x0880, 0x0082c, 0x2fd, 0x3ffc, u32::MAX - 3] {
            assert_eq!(VirtualRegister::at(offset), None, "{offset:#x}");
        }
    }
}
