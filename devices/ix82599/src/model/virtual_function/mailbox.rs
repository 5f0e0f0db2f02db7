//! The mailbox between a virtual function and the owner of the card (7.10.2.9): 64 bytes that belong to one of
//! them at a time, and bits that tell the other of a message.

use ixgbe_spec::virtual_function::Vfmailbox;
use ixgbe_spec::virtual_function::mailbox::{CTS, PF_CONTROL, Words};

/// Registers of the mailbox. The owner answers between two accesses, so that PFU is never seen.
#[derive(Debug)]
pub(in super::super) struct Mailbox {
    words: Words,
    /// The guest holds the memory.
    is_held: bool,
    /// PFSTS, PFACK and RSTD as far as they were not read.
    unread: Vfmailbox,
    /// The guest has sent a message that was not looked at.
    has_request: bool,
    /// The guest is to be told that something has changed.
    has_news: bool,
}

impl Mailbox {
    /// After a reset, which the owner has seen.
    pub(in super::super) fn new() -> Self {
        Self {
            words: Words::default(),
            is_held: false,
            unread: Vfmailbox::RSTD,
            has_request: false,
            has_news: false,
        }
    }

    pub(super) fn word(&self, index: u8) -> u32 {
        self.words[usize::from(index) % self.words.len()]
    }

    pub(super) fn set_word(&mut self, index: u8, value: u32) {
        self.words[usize::from(index) % self.words.len()] = value;
    }

    /// VFMAILBOX read: clears what it shows of the owner's doing.
    pub(super) fn read(&mut self) -> u32 {
        let mut value = std::mem::replace(&mut self.unread, Vfmailbox::empty());
        value.set(Vfmailbox::VFU, self.is_held);
        value.bits()
    }

    /// VFMAILBOX write. The owner has nothing to do about an ACK.
    pub(super) fn write(&mut self, value: u32) {
        let value = Vfmailbox::from_bits_retain(value);
        self.is_held = value.contains(Vfmailbox::VFU);
        self.has_request |= value.contains(Vfmailbox::REQ);
    }

    /// The message that the guest has sent, once it has let go of the memory.
    pub(super) fn take_request(&mut self) -> Option<Words> {
        let is_there = self.has_request && !self.is_held;
        is_there.then(|| {
            self.has_request = false;
            self.unread |= Vfmailbox::PFACK;
            self.words
        })
    }

    /// Leaves an answer to the message that was taken.
    pub(super) fn answer(&mut self, words: Words) {
        self.words = words;
        self.unread |= Vfmailbox::PFSTS;
    }

    /// The guest is to look at the link.
    pub(in super::super) fn announce(&mut self) {
        self.has_news = true;
    }

    /// Writes the news if there are any and the memory is free; what the guest has yet to read stays. Whether
    /// it did.
    pub(super) fn tell_news(&mut self, clear_to_send: bool) -> bool {
        let is_free = !self.is_held && !self.has_request && !self.unread.contains(Vfmailbox::PFSTS);
        if !(self.has_news && is_free) {
            return false;
        }
        self.has_news = false;
        self.words[0] = PF_CONTROL | if clear_to_send { CTS } else { 0 };
        self.unread |= Vfmailbox::PFSTS;
        true
    }
}
