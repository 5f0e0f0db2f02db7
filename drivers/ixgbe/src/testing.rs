//! Registers for unit tests, which let initialisation succeed.

use ix_nic::testing::FakeRegisters;
use ixgbe_spec::register::*;

/// With a station address, and with those bits set that initialisation waits for.
pub(crate) fn registers() -> FakeRegisters {
    FakeRegisters::new(&[(ral(0), 0x1200_5452), (rah(0), RAH_AV | 0x5634)])
        .force(CTRL, !(Ctrl::RST | Ctrl::LRST).bits(), 0)
        .force(EEC, !0, (Eec::AUTO_RD | Eec::EE_PRES).bits())
        .force(RDRXCTL, !0, Rdrxctl::DMAIDONE.bits())
        .force(SECRXSTAT, !0, SecurityStatus::RDY.bits())
}
