//! What is asked of every driver, asked of this one on the model of each card.

use ix_conformance::Offers;
use ixgbe::Card;

use crate::support::Machine;
use crate::support::on_model::{OnModel, Tried};

const OFFERS: Offers = Offers {
    verifies: true,
    counts_missed: true,
    waits_for_buffers: false,
    tags: true,
    filters_vlans: false,
};

fn machine(card: Card) -> Machine {
    Machine::of(card, 64 << 20)
}

mod i82599 {
    use super::*;

    struct OnI82599;

    impl Tried for OnI82599 {
        type Controller = Card;
        const CONTROLLER: Card = Card::I82599Sfp;
        const OFFERS: Offers = OFFERS;

        fn machine() -> Machine {
            machine(Self::CONTROLLER)
        }
    }

    ix_conformance::conformance!(OnModel<OnI82599>);
}

mod x540 {
    use super::*;

    struct OnX540;

    impl Tried for OnX540 {
        type Controller = Card;
        const CONTROLLER: Card = Card::X540;
        const OFFERS: Offers = OFFERS;

        fn machine() -> Machine {
            machine(Self::CONTROLLER)
        }
    }

    ix_conformance::conformance!(OnModel<OnX540>);
}
