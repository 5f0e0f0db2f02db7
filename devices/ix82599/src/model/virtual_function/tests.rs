use std::cell::Cell;
use std::rc::Rc;

use ixgbe_spec::register::{Ctrl, IvarEntry, Links};
use ixgbe_spec::virtual_function::mailbox::{self, ACK, Api, CTS, NACK, PF_CONTROL, Words, Xcast};
use ixgbe_spec::virtual_function::{self as reg, Vfmailbox};
use proptest::prelude::*;

use super::VirtualConfig;
use crate::memory::GuestMemory;
use crate::model::{InterruptCounts, Model, ModelConfig};
use crate::wire::{Cable, Claim, PortRule, Switch, SwitchPort, Wire, WireError};

const OWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NEIGHBOUR: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const FREE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
/// The vector that the tests give the mailbox.
const MAILBOX_VECTOR: u8 = 2;

/// A wire without frames that can be pulled.
#[derive(Clone, Default)]
struct Plug(Rc<Cell<bool>>);

impl Wire for Plug {
    fn send(&mut self, _frame: &[u8]) -> Result<(), WireError> {
        Ok(())
    }

    fn receive(&mut self, _frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        Ok(None)
    }

    fn link_up(&self) -> bool {
        !self.0.get()
    }
}

/// A driver of a virtual function that does not trust itself either.
struct Driver<W> {
    model: Model<W, InterruptCounts>,
}

impl<W: Wire> Driver<W> {
    fn new(wire: W, virtual_function: VirtualConfig) -> Self {
        let config = ModelConfig {
            mac: OWN,
            queues: 2,
            virtual_function: Some(virtual_function),
            ..ModelConfig::default()
        };
        let interrupts = InterruptCounts::new();
        let mut model = Model::new(config, GuestMemory::new(), wire, interrupts);
        model.set_bus_master(true);
        let entry = IvarEntry::to_vector(MAILBOX_VECTOR).put(0, 0);
        model.bar0_write32(reg::VTIVAR_MISC, entry);
        model.bar0_write32(reg::VTEIMS, reg::ALL_VECTORS);
        Self { model }
    }

    /// Sends a message as drivers do, and returns the answer.
    fn ask(&mut self, message: &[u32]) -> Words {
        let model = &mut self.model;
        model.bar0_write32(reg::VFMAILBOX, Vfmailbox::VFU.bits());
        for (n, word) in (0..).zip(message) {
            model.bar0_write32(reg::vfmbmem(n), *word);
        }
        model.bar0_write32(reg::VFMAILBOX, Vfmailbox::REQ.bits());
        let state = Vfmailbox::from_bits_retain(model.bar0_read32(reg::VFMAILBOX));
        assert!(state.contains(Vfmailbox::PFACK | Vfmailbox::PFSTS));
        let words = std::array::from_fn(|n| model.bar0_read32(reg::vfmbmem(n as u32)));
        model.bar0_write32(reg::VFMAILBOX, Vfmailbox::ACK.bits());
        words
    }

    fn reset(&mut self) {
        let answer = self.ask(&[mailbox::RESET]);
        assert_eq!(answer[0], mailbox::RESET | ACK);
    }

    fn agree(&mut self, api: Api) {
        assert!(self.is_done(&[mailbox::API_NEGOTIATE, api as u32]));
    }

    fn is_done(&mut self, message: &[u32]) -> bool {
        let answer = self.ask(message)[0];
        assert_eq!(answer & !(ACK | NACK), message[0] | CTS, "{answer:#x}");
        assert!((answer & ACK == 0) != (answer & NACK == 0));
        answer & ACK != 0
    }

    fn asks_for(&mut self, kind: u32, mac: [u8; 6]) -> bool {
        let mut words = Words::default();
        words[0] = kind;
        mailbox::put_address(&mut words, mac);
        self.is_done(&words[..3])
    }

    fn station(&mut self) -> [u8; 6] {
        mailbox::address(&self.ask(&[mailbox::RESET]))
    }
}

fn alone(virtual_function: VirtualConfig) -> Driver<Cable> {
    Driver::new(Cable::pair(16).0, virtual_function)
}

/// Two functions of a switch, of which the first is returned, and the switch.
fn beside_a_neighbour(trusted: bool) -> (Driver<SwitchPort<Cable>>, SwitchPort<Cable>) {
    let switch = Switch::new(Cable::pair(16).0);
    let rule = |mac| PortRule {
        mac: Some(mac),
        vlan: None,
        port_tags: true,
    };
    let port = switch.port("one", rule(OWN));
    let neighbour = switch.port("two", rule(NEIGHBOUR));
    let config = VirtualConfig {
        trusted,
        port_vlan: false,
    };
    (Driver::new(port, config), neighbour)
}

const TRUSTED: VirtualConfig = VirtualConfig {
    trusted: true,
    port_vlan: false,
};

#[test]
fn a_conversation_begins_with_reset_and_gives_the_station_address() {
    let mut driver = alone(VirtualConfig::default());
    let state = Vfmailbox::from_bits_retain(driver.model.bar0_read32(reg::VFMAILBOX));
    assert!(state.contains(Vfmailbox::RSTD));
    let unheard = driver.ask(&[mailbox::SET_VLAN, 0]);
    assert_eq!(unheard[0], mailbox::SET_VLAN | NACK, "not clear to send");
    let answer = driver.ask(&[mailbox::RESET]);
    assert_eq!(answer[0], mailbox::RESET | ACK);
    assert_eq!((mailbox::address(&answer), answer[3]), (OWN, 0));
    assert!(driver.is_done(&[mailbox::SET_VLAN, 0]));
    driver.model.bar0_write32(reg::VFCTRL, Ctrl::RST.bits());
    assert_eq!(driver.ask(&[mailbox::SET_VLAN])[0] & (ACK | CTS), 0);
    let counters = driver.model.counters();
    assert_eq!(
        (counters.mailbox_unheard, counters.mailbox_messages),
        (2, 4)
    );
}

#[test]
fn a_message_waits_until_the_memory_is_let_go() {
    let mut driver = alone(VirtualConfig::default());
    let model = &mut driver.model;
    model.bar0_read32(reg::VFMAILBOX);
    model.bar0_write32(reg::vfmbmem(0), mailbox::RESET);
    let both = Vfmailbox::VFU | Vfmailbox::REQ;
    model.bar0_write32(reg::VFMAILBOX, both.bits());
    assert_eq!(model.bar0_read32(reg::VFMAILBOX), Vfmailbox::VFU.bits());
    model.bar0_write32(reg::VFMAILBOX, 0);
    let answered = Vfmailbox::PFACK | Vfmailbox::PFSTS;
    assert_eq!(model.bar0_read32(reg::VFMAILBOX), answered.bits());
    assert_eq!(model.bar0_read32(reg::VFMAILBOX), 0, "cleared by reading");
}

#[test]
fn versions_offer_what_they_have() {
    let mut driver = alone(VirtualConfig::default());
    driver.reset();
    assert!(!driver.is_done(&[mailbox::GET_QUEUES]), "1.0 has no such");
    assert!(!driver.is_done(&[mailbox::API_NEGOTIATE, 6]), "1.5");
    driver.agree(Api::V1_1);
    assert_eq!(driver.ask(&[mailbox::GET_QUEUES])[1..5], [2, 2, 0, 0]);
    assert!(!driver.is_done(&[mailbox::GET_RETA]));
    driver.agree(Api::V1_2);
    let reta = mailbox::reta(&driver.ask(&[mailbox::GET_RETA]));
    assert_eq!(reta[..4], [0, 1, 0, 1]);
    let key = driver.ask(&[mailbox::GET_RSS_KEY]);
    assert_eq!(key[1].to_le_bytes(), [0x6d, 0x5a, 0x56, 0xda]);
    assert_eq!(driver.ask(&[mailbox::GET_LINK_STATE])[1], 1);
    let promiscuous = [mailbox::UPDATE_XCAST_MODE, Xcast::Promiscuous as u32];
    assert!(!driver.is_done(&promiscuous));
    driver.agree(Api::V1_4);
    assert!(!driver.is_done(&[0x0d]), "no security associations");
    assert_eq!(driver.model.counters().mailbox_unknown, 5);
}

#[test]
fn who_is_not_trusted_gets_less_than_it_asks_for() {
    let (mut driver, _neighbour) = beside_a_neighbour(false);
    driver.reset();
    driver.agree(Api::V1_4);
    assert!(driver.asks_for(mailbox::SET_MAC_ADDR, OWN), "what it has");
    assert!(!driver.asks_for(mailbox::SET_MAC_ADDR, FREE));
    let first = mailbox::with_argument(mailbox::SET_MACVLAN, 1);
    assert!(!driver.asks_for(first, FREE));
    assert!(
        driver.asks_for(mailbox::SET_MACVLAN, [0; 6]),
        "an empty list"
    );
    let join = mailbox::with_argument(mailbox::SET_VLAN, 1);
    assert!(!driver.is_done(&[join, 5]));
    assert!(driver.is_done(&[mailbox::SET_VLAN, 5]), "to leave is free");
    let all = [mailbox::UPDATE_XCAST_MODE, Xcast::AllMulti as u32];
    assert_eq!(driver.ask(&all)[1], Xcast::Multi as u32);
    assert_eq!(driver.model.counters().mailbox_forbidden, 3);
    assert_eq!(driver.station(), OWN);
}

#[test]
fn who_is_trusted_may_be_anybody_but_a_neighbour() {
    let (mut driver, mut neighbour) = beside_a_neighbour(true);
    driver.reset();
    assert!(!driver.asks_for(mailbox::SET_MAC_ADDR, NEIGHBOUR));
    assert!(!driver.asks_for(mailbox::SET_MAC_ADDR, [1; 6]), "a group");
    assert!(driver.asks_for(mailbox::SET_MAC_ADDR, FREE));
    let first = mailbox::with_argument(mailbox::SET_MACVLAN, 1);
    assert!(driver.asks_for(first, [0x52, 0x54, 0, 0, 0, 8]));
    assert_eq!(driver.station(), FREE, "the choice survives RESET");
    // What it speaks as now is its own; what it gave up is still kept for it.
    assert!(!neighbour.claim(Claim::Station(FREE)));
    assert!(!neighbour.claim(Claim::Station(OWN)));
    driver.model.power_on_reset();
    assert_eq!(driver.station(), OWN, "and not its client");
    assert!(neighbour.claim(Claim::Station(FREE)));
}

#[test]
fn a_port_with_a_vlan_lets_nobody_choose_another() {
    let mut driver = alone(VirtualConfig {
        port_vlan: true,
        ..TRUSTED
    });
    driver.reset();
    driver.agree(Api::V1_1);
    assert_eq!(driver.ask(&[mailbox::GET_QUEUES])[3], 1);
    assert!(!driver.is_done(&[mailbox::with_argument(mailbox::SET_VLAN, 1), 5]));
    assert!(driver.is_done(&[mailbox::with_argument(mailbox::SET_VLAN, 1), 0]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut driver = alone(TRUSTED);
    driver.reset();
    driver.agree(Api::V1_3);
    let many = mailbox::with_argument(mailbox::SET_MULTICAST, 31);
    let join = mailbox::with_argument(mailbox::SET_VLAN, 1);
    for message in [
        [many, 0],
        [join, 4095],
        [mailbox::SET_LPE, 63],
        [mailbox::SET_LPE, 9729],
        [mailbox::UPDATE_XCAST_MODE, 4],
    ] {
        assert!(!driver.is_done(&message), "{message:x?}");
    }
    let answer = driver.ask(&[mailbox::SET_LPE | ACK, 1518])[0];
    assert_eq!(answer & (ACK | NACK), NACK, "an answer is no message");
    assert_eq!(driver.model.counters().mailbox_senseless, 6);
}

#[test]
fn a_change_of_the_link_interrupts_and_is_in_the_mailbox() {
    let plug = Plug::default();
    let mut driver = Driver::new(plug.clone(), VirtualConfig::default());
    driver.reset();
    driver.model.advance(1);
    let interrupts = driver.model.interrupt_sink().clone();
    let before = interrupts.of(MAILBOX_VECTOR.into());
    driver.model.bar0_read32(reg::VTEICR);
    plug.0.set(true);
    driver.model.advance(2);
    assert_eq!(interrupts.of(MAILBOX_VECTOR.into()), before + 1);
    let cause = driver.model.bar0_read32(reg::VTEICR);
    assert_eq!(cause, 1 << MAILBOX_VECTOR);
    let model = &mut driver.model;
    assert_eq!(model.bar0_read32(reg::VFLINKS) & Links::LINK_UP.bits(), 0);
    let state = Vfmailbox::from_bits_retain(model.bar0_read32(reg::VFMAILBOX));
    assert!(state.contains(Vfmailbox::PFSTS));
    assert_eq!(model.bar0_read32(reg::vfmbmem(0)), PF_CONTROL | CTS);
}

#[test]
fn news_wait_while_the_guest_holds_the_memory() {
    let plug = Plug::default();
    let mut driver = Driver::new(plug.clone(), VirtualConfig::default());
    driver.reset();
    let model = &mut driver.model;
    model.bar0_write32(reg::VFMAILBOX, Vfmailbox::VFU.bits());
    model.bar0_write32(reg::vfmbmem(0), 0x1234);
    plug.0.set(true);
    model.advance(1);
    assert_eq!(model.bar0_read32(reg::vfmbmem(0)), 0x1234);
    model.bar0_write32(reg::VFMAILBOX, 0);
    assert_eq!(model.bar0_read32(reg::vfmbmem(0)), PF_CONTROL | CTS);
}

/// Registers of the mailbox come up most often.
fn access() -> impl Strategy<Value = (u32, u32)> {
    let mailbox = (0..0x40u32).prop_map(|n| reg::VFMBMEM + 4 * n);
    let others = (0..reg::BAR0_BYTES / 4).prop_map(|n| 4 * n);
    let kind = (0..0x12u32, 0..0x40u32).prop_map(|(kind, n)| mailbox::with_argument(kind, n));
    let value = prop_oneof![3 => kind, 1 => any::<u32>(), 1 => 0..8u32];
    (
        prop_oneof![4 => mailbox, 1 => Just(reg::VFMAILBOX), 1 => others],
        value,
    )
}

proptest! {
    #[test]
    fn no_message_makes_an_untrusted_guest_somebody_else(
        accesses in prop::collection::vec((access(), any::<bool>()), 1..300),
    ) {
        let (mut driver, mut neighbour) = beside_a_neighbour(false);
        for ((offset, value), writes) in accesses {
            if writes {
                driver.model.bar0_write32(offset, value);
            } else {
                driver.model.bar0_read32(offset);
            }
            driver.model.poll();
        }
        driver.model.bar0_write32(reg::VFCTRL, Ctrl::RST.bits());
        prop_assert_eq!(driver.station(), OWN);
        prop_assert!(neighbour.claim(Claim::Station(FREE)));
    }

    #[test]
    fn no_message_makes_a_trusted_guest_its_neighbour(
        messages in prop::collection::vec((0..0x12u32, 0..3u32, any::<u32>(), 0..0x1_0000u32), 1..100),
    ) {
        let (mut driver, mut neighbour) = beside_a_neighbour(true);
        driver.reset();
        for (kind, argument, first, second) in messages {
            driver.ask(&[mailbox::with_argument(kind, argument), first, second]);
            for kind in [mailbox::SET_MAC_ADDR, mailbox::with_argument(mailbox::SET_MACVLAN, 1)] {
                prop_assert!(!driver.asks_for(kind, NEIGHBOUR));
            }
        }
        prop_assert!(neighbour.claim(Claim::Station(NEIGHBOUR)));
        driver.model.power_on_reset();
        driver.reset();
        prop_assert_eq!(driver.station(), OWN);
    }
}
