//! The mailbox (7.10.2.9): asks the owner of the card, and waits for the answer with a bound.

use ix_hal::Mmio;
use ix_nic::Error;
use ix_nic::registers::Delay;
use ixgbe_spec::virtual_function::mailbox::{self, ACK, Words};
use ixgbe_spec::virtual_function::{VFMAILBOX, VFMBMEM_WORDS, Vfmailbox, vfmbmem};

/// The owner is software on another processor, which may be busy: Linux waits as long.
const TIMEOUT_US: u32 = 1_000_000;
/// How often the mailbox is looked at while waiting.
const POLL_INTERVAL_US: u32 = 10;

/// What a request needs that may be refused.
pub(crate) struct Request<'a> {
    /// The message.
    pub(crate) words: &'a [u32],
    /// What it asks for, and what to do if it is refused.
    pub(crate) what: &'static str,
    pub(crate) remedy: &'static str,
}

/// Asks, and fails if the answer is no.
pub(crate) fn demand<R: Mmio>(
    registers: &R,
    request: &Request<'_>,
    delay: Delay<'_>,
) -> Result<Words, Error> {
    let answer = ask(registers, request.words, delay)?;
    if answer[0] & ACK == 0 {
        return Err(Error::Refused {
            what: request.what,
            remedy: request.remedy,
        });
    }
    Ok(answer)
}

/// Sends a message, and returns the answer, whatever it is.
pub(crate) fn ask<R: Mmio>(
    registers: &R,
    message: &[u32],
    delay: Delay<'_>,
) -> Result<Words, Error> {
    let mut mailbox = Mailbox {
        registers,
        seen: Vfmailbox::empty(),
        waited_us: 0,
        delay,
    };
    mailbox.hold()?;
    // What the owner said without being asked is overwritten.
    mailbox.look();
    mailbox.seen = Vfmailbox::empty();
    for (n, word) in (0..VFMBMEM_WORDS).zip(message) {
        registers.write32(vfmbmem(n), *word);
    }
    // Which lets go of the memory, too.
    registers.write32(VFMAILBOX, Vfmailbox::REQ.bits());
    mailbox.wait_for(Vfmailbox::PFACK, "expected PFACK to be set")?;
    loop {
        mailbox.wait_for(Vfmailbox::PFSTS, "expected PFSTS to be set")?;
        let words = mailbox.take()?;
        // The owner may speak of the link in between.
        if mailbox::kind(words[0]) == mailbox::kind(message[0]) {
            return Ok(words);
        }
    }
}

/// Waits until the owner says that the function may be used after a reset.
pub(crate) fn wait_for_reset<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    let mut mailbox = Mailbox {
        registers,
        seen: Vfmailbox::empty(),
        waited_us: 0,
        delay,
    };
    mailbox.wait_for(Vfmailbox::RSTD, "expected RSTD to be set")
}

/// A conversation of one message.
struct Mailbox<'a, R> {
    registers: &'a R,
    /// Bits that reading has cleared.
    seen: Vfmailbox,
    waited_us: u32,
    delay: Delay<'a>,
}

impl<R: Mmio> Mailbox<'_, R> {
    /// Reads VFMAILBOX, of which some bits are there only once.
    fn look(&mut self) -> Vfmailbox {
        let value = Vfmailbox::from_bits_retain(self.registers.read32(VFMAILBOX));
        self.seen |= value & (Vfmailbox::PFSTS | Vfmailbox::PFACK | Vfmailbox::RSTD);
        value
    }

    /// Takes the memory.
    fn hold(&mut self) -> Result<(), Error> {
        loop {
            self.registers.write32(VFMAILBOX, Vfmailbox::VFU.bits());
            let value = self.look();
            if value.contains(Vfmailbox::VFU) {
                return Ok(());
            }
            self.pause(value, "expected VFU to be set")?;
        }
    }

    /// Waits for a bit, which is then forgotten.
    fn wait_for(&mut self, bit: Vfmailbox, words: &'static str) -> Result<(), Error> {
        loop {
            let value = self.look();
            if self.seen.contains(bit) {
                self.seen.remove(bit);
                return Ok(());
            }
            self.pause(value, words)?;
        }
    }

    /// Reads the message, and says so.
    fn take(&mut self) -> Result<Words, Error> {
        self.hold()?;
        let words = core::array::from_fn(|n| self.registers.read32(vfmbmem(n as u32)));
        self.registers.write32(VFMAILBOX, Vfmailbox::ACK.bits());
        Ok(words)
    }

    fn pause(&mut self, value: Vfmailbox, expected: &'static str) -> Result<(), Error> {
        if self.waited_us >= TIMEOUT_US {
            // The memory is not kept from the owner.
            self.registers.write32(VFMAILBOX, 0);
            return Err(Error::Timeout {
                register: "VFMAILBOX",
                expected,
                value: value.bits(),
                waited_us: self.waited_us,
            });
        }
        (self.delay)(POLL_INTERVAL_US);
        self.waited_us += POLL_INTERVAL_US;
        Ok(())
    }
}
