//! The other end of the mailbox: what a hypervisor's driver of the physical function would answer, for the owner
//! of the card, who has decided what a guest may ask for ([`VirtualConfig`](super::VirtualConfig)).
//!
//! A guest is heard after it has said RESET. What it may not have or nobody knows is refused and counted.

use ixgbe_spec::register::{Dmatxctl, Fctrl, Mcstctrl, RAH_AV, Rxctrl, with_maxfrs_mfs};
use ixgbe_spec::virtual_function::mailbox::{self, Api, Words, Xcast, queues};
use ixgbe_spec::{RETA_ENTRIES, RSS_KEY_BYTES};

use super::VIRTUAL_QUEUES;
use crate::model::Model;
use crate::model::counters::Counters;
use crate::model::interrupts::InterruptSink;
use crate::wire::{Claim, MAX_CLAIMS, Wire};

/// Shortest and longest frame with FCS that a guest can ask for: 9.5 KB with virtual functions (1.5).
const FRAME_BYTES: std::ops::RangeInclusive<u32> = 64..=9728;
/// Entries of the multicast table that fit into a message.
const MULTICAST_ENTRIES: u32 = 30;

/// What the owner of the card knows of the guest's driver.
#[derive(Debug)]
pub(in crate::model) struct Guest {
    api: Api,
    /// It has said RESET since it was reset.
    is_heard: bool,
    /// Addresses beside its station's.
    others: u8,
}

impl Guest {
    pub(in crate::model) fn new() -> Self {
        Self {
            api: Api::V1_0,
            is_heard: false,
            others: 0,
        }
    }
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Nobody knows such a message, or not in that version.
    Unknown,
    /// It comes before RESET.
    Unheard,
    /// The guest may not have that.
    Forbidden,
    /// It makes no sense.
    Senseless,
}

impl Refusal {
    fn count(self, counters: &mut Counters) {
        *match self {
            Self::Unknown => &mut counters.mailbox_unknown,
            Self::Unheard => &mut counters.mailbox_unheard,
            Self::Forbidden => &mut counters.mailbox_forbidden,
            Self::Senseless => &mut counters.mailbox_senseless,
        } += 1;
    }
}

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// Answers the message that the guest has sent, if it has; otherwise tells it the news.
    pub(in crate::model) fn answer_guest(&mut self) {
        let heard = self.state.guest.is_heard;
        if let Some(mut words) = self.state.mailbox.take_request() {
            self.counters.mailbox_messages += 1;
            self.answer(&mut words);
            self.state.mailbox.answer(words);
        } else if !self.state.mailbox.tell_news(heard) {
            return;
        }
        self.state.interrupts.raise_mailbox();
    }

    /// What the guest has beside its station address goes.
    pub(in crate::model) fn forget_claims(&mut self) {
        self.wire.claim(Claim::Nothing);
    }

    /// Replaces a message by its answer.
    fn answer(&mut self, words: &mut Words) {
        let first = words[0] & !(mailbox::ACK | mailbox::NACK | mailbox::CTS);
        let result = if first == words[0] {
            self.follow(words)
        } else {
            Err(Refusal::Senseless)
        };
        words[0] = first;
        words[0] |= match result {
            Ok(()) => mailbox::ACK,
            Err(refusal) => {
                refusal.count(&mut self.counters);
                log::debug!("message {first:#x} refused: {refusal:?}");
                mailbox::NACK
            }
        };
        // Drivers compare the answer to RESET as a whole.
        if self.state.guest.is_heard && first != mailbox::RESET {
            words[0] |= mailbox::CTS;
        }
    }

    fn follow(&mut self, words: &mut Words) -> Result<(), Refusal> {
        let argument = mailbox::argument(words[0]);
        let kind = mailbox::kind(words[0]);
        if kind == mailbox::RESET {
            self.begin(words);
            return Ok(());
        }
        if !self.state.guest.is_heard {
            return Err(Refusal::Unheard);
        }
        match kind {
            mailbox::SET_MAC_ADDR => self.set_station(mailbox::address(words)),
            mailbox::SET_MULTICAST => self.set_multicast(argument, words),
            mailbox::SET_VLAN => self.set_vlan(words[1], argument != 0),
            mailbox::SET_LPE => self.set_longest_frame(words[1]),
            mailbox::SET_MACVLAN => self.add_station(argument, mailbox::address(words)),
            mailbox::API_NEGOTIATE => {
                self.state.guest.api = Api::of(words[1]).ok_or(Refusal::Unknown)?;
                Ok(())
            }
            mailbox::GET_QUEUES => {
                self.since(Api::V1_1)?;
                let queues = self.config.queues.min(VIRTUAL_QUEUES);
                words[queues::TX] = queues;
                words[queues::RX] = queues;
                words[queues::PORT_VLAN] = u32::from(self.virtual_config().port_vlan);
                words[queues::DEFAULT] = 0;
                Ok(())
            }
            mailbox::GET_RETA => {
                self.since(Api::V1_2)?;
                let queues = self.config.queues.min(VIRTUAL_QUEUES) as usize;
                let reta: [u8; RETA_ENTRIES] = std::array::from_fn(|entry| (entry % queues) as u8);
                for n in 0..mailbox::RETA_WORDS {
                    words[1 + n] = mailbox::reta_word(&reta, n);
                }
                Ok(())
            }
            mailbox::GET_RSS_KEY => {
                self.since(Api::V1_2)?;
                for n in 0..RSS_KEY_BYTES / 4 {
                    words[1 + n] = self.state.rss.rssrk(n as u8);
                }
                Ok(())
            }
            mailbox::UPDATE_XCAST_MODE => self.set_xcast(words),
            mailbox::GET_LINK_STATE => {
                self.since(Api::V1_2)?;
                words[1] = 1;
                Ok(())
            }
            _ => Err(Refusal::Unknown),
        }
    }

    /// RESET: frames pass from now on.
    fn begin(&mut self, words: &mut Words) {
        self.forget_claims();
        let state = &mut self.state;
        state.filters.forget_all_but_station();
        state.guest = Guest::new();
        state.guest.is_heard = true;
        state.rxctrl |= Rxctrl::RXEN.bits();
        state.dmatxctl |= Dmatxctl::TE.bits();
        state.retry_transmit();
        self.receive_casts(Xcast::Multi);
        *words = Words::default();
        words[0] = mailbox::RESET;
        mailbox::put_address(words, self.station);
        // Word 3: the multicast table looks at the topmost bits of an address.
    }

    /// Refuses what the version that was agreed on does not have.
    fn since(&self, api: Api) -> Result<(), Refusal> {
        if self.state.guest.api >= api {
            Ok(())
        } else {
            Err(Refusal::Unknown)
        }
    }

    fn trusted(&self) -> Result<(), Refusal> {
        if self.virtual_config().trusted {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    }

    /// Asks the wire, where an address or a VLAN may be another's.
    fn claim(&mut self, claim: Claim) -> Result<(), Refusal> {
        if self.wire.claim(claim) {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    }

    fn set_station(&mut self, mac: [u8; 6]) -> Result<(), Refusal> {
        check_station(mac)?;
        if mac == self.station {
            return Ok(());
        }
        self.trusted()?;
        self.claim(Claim::Station(mac))?;
        self.station = mac;
        self.put_filter(0, mac);
        Ok(())
    }

    /// A list is begun by its first address, and emptied by the argument 0.
    fn add_station(&mut self, argument: u32, mac: [u8; 6]) -> Result<(), Refusal> {
        if argument > 0 {
            self.trusted()?;
            check_station(mac)?;
        }
        if argument <= 1 {
            self.claim(Claim::NoOthers)?;
            for index in 1..=self.state.guest.others {
                self.state.filters.set_rah(index, 0);
            }
            self.state.guest.others = 0;
        }
        if argument == 0 {
            return Ok(());
        }
        if usize::from(self.state.guest.others) == MAX_CLAIMS {
            return Err(Refusal::Forbidden);
        }
        self.claim(Claim::Other(mac))?;
        self.state.guest.others += 1;
        self.put_filter(self.state.guest.others, mac);
        Ok(())
    }

    fn put_filter(&mut self, index: u8, mac: [u8; 6]) {
        let [a, b, c, d, e, f] = mac;
        let filters = &mut self.state.filters;
        filters.set_ral(index, u32::from_le_bytes([a, b, c, d]));
        filters.set_rah(index, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
    }

    fn set_multicast(&mut self, entries: u32, words: &Words) -> Result<(), Refusal> {
        if entries > MULTICAST_ENTRIES {
            return Err(Refusal::Senseless);
        }
        self.state.filters.clear_mta();
        let halves = words[1..].iter().flat_map(|word| [*word, *word >> 16]);
        for half in halves.take(entries as usize) {
            let bit = half & 0xfff;
            *self.state.filters.mta((bit / 32) as u8) |= 1 << (bit % 32);
        }
        Ok(())
    }

    fn set_vlan(&mut self, word: u32, joins: bool) -> Result<(), Refusal> {
        let vlan = (word & 0xfff) as u16;
        match vlan {
            // What has no VLAN always passes.
            0 => return Ok(()),
            4095 => return Err(Refusal::Senseless),
            _ => {}
        }
        if joins {
            self.trusted()?;
            if self.virtual_config().port_vlan {
                return Err(Refusal::Forbidden);
            }
        }
        self.claim(Claim::Vlan { vlan, joins })?;
        let table = self.state.filters.vfta((vlan / 32) as u8);
        let bit = 1 << (vlan % 32);
        *table = *table & !bit | if joins { bit } else { 0 };
        Ok(())
    }

    fn set_longest_frame(&mut self, bytes: u32) -> Result<(), Refusal> {
        if !FRAME_BYTES.contains(&bytes) {
            return Err(Refusal::Senseless);
        }
        self.state.maxfrs = with_maxfrs_mfs(0, bytes);
        Ok(())
    }

    /// Who is not trusted gets less than it asks for, and is told so.
    fn set_xcast(&mut self, words: &mut Words) -> Result<(), Refusal> {
        self.since(Api::V1_2)?;
        let mut mode = Xcast::of(words[1]).ok_or(Refusal::Senseless)?;
        if mode == Xcast::Promiscuous {
            self.since(Api::V1_3)?;
        }
        if !self.virtual_config().trusted {
            mode = mode.min(Xcast::Multi);
        }
        self.receive_casts(mode);
        words[1] = mode as u32;
        Ok(())
    }

    fn receive_casts(&mut self, mode: Xcast) {
        let fctrl = match mode {
            Xcast::None => Fctrl::empty(),
            Xcast::Multi => Fctrl::BAM,
            Xcast::AllMulti => Fctrl::BAM | Fctrl::MPE,
            Xcast::Promiscuous => Fctrl::BAM | Fctrl::MPE | Fctrl::UPE,
        };
        let filters = &mut self.state.filters;
        filters.fctrl = fctrl.bits();
        let table = if mode == Xcast::None {
            Mcstctrl::empty()
        } else {
            Mcstctrl::MFE
        };
        filters.mcstctrl = table.bits();
    }
}

/// Group addresses and none at all are no station's.
fn check_station(mac: [u8; 6]) -> Result<(), Refusal> {
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Refusal::Senseless);
    }
    Ok(())
}
