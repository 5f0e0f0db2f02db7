//! Reset, and what the owner is asked for after it.

use ix_hal::Mmio;
use ix_nic::registers::Delay;
use ix_nic::{Config, Error};
use ixgbe_spec::register::{Ctrl, Mcstctrl};
use ixgbe_spec::virtual_function::mailbox::{self as message, Api, Words, Xcast, queues};
use ixgbe_spec::virtual_function::{
    ALL_VECTORS, VFCTRL, VFPSRTYPE, VFSTATUS, VTEIAC, VTEIAM, VTEICR, VTEIMC, VTIVAR_MISC, vtivar,
};

use crate::mailbox::{Request, ask, demand, wait_for_reset};

/// Multicast addresses that fit into a message.
const GROUPS: usize = 30;
/// The bits of a group's address that the owner's table looks at, which every owner that is known has.
const GROUP_BITS: Mcstctrl = Mcstctrl::empty();

/// From a function in any state to one that is ready for its queues. Returns its station address.
pub(crate) fn initialise<R: Mmio>(
    registers: &R,
    config: &Config,
    delay: Delay<'_>,
) -> Result<[u8; 6], Error> {
    reset(registers, delay)?;
    let given = begin(registers, delay)?;
    let api = agree(registers, delay)?;
    let mac = set_address(registers, config, given, delay)?;
    set_frames(registers, config, api, delay)?;
    // Flows are not spread.
    registers.write32(VFPSRTYPE, 0);
    Ok(mac)
}

/// Resets the function, and masks its interrupts.
pub(crate) fn reset<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    if registers.read32(VFSTATUS) == u32::MAX {
        return Err(Error::Gone);
    }
    mask_interrupts(registers);
    registers.write32(VFCTRL, Ctrl::RST.bits());
    registers.read32(VFSTATUS);
    wait_for_reset(registers, delay)?;
    mask_interrupts(registers);
    Ok(())
}

/// Takes in frames to these multicast addresses. The owner's table holds 12 bits of an address, so that others may
/// come in with them.
pub(crate) fn join<R: Mmio>(
    registers: &R,
    groups: &[[u8; 6]],
    delay: Delay<'_>,
) -> Result<(), Error> {
    if groups.len() > GROUPS {
        return Err(Error::Refused {
            what: "more than 30 multicast addresses",
            remedy: "use fewer IPv6 addresses",
        });
    }
    let mut words = Words::default();
    words[0] = message::with_argument(message::SET_MULTICAST, groups.len() as u32);
    for (place, group) in groups.iter().enumerate() {
        words[1 + place / 2] |= GROUP_BITS.table_bit(*group) << (16 * (place % 2));
    }
    let request = Request {
        words: &words,
        what: "multicast addresses",
        remedy: "look into its log",
    };
    demand(registers, &request, delay).map(|_| ())
}

/// Masks every vector, forgets what was pending, and allocates none. The mailbox has no vector: it is looked at when
/// something is asked.
fn mask_interrupts<R: Mmio>(registers: &R) {
    registers.write32(VTEIMC, ALL_VECTORS);
    registers.read32(VTEICR);
    for n in 0..4 {
        registers.write32(vtivar(n), 0);
    }
    registers.write32(VTIVAR_MISC, 0);
    // A cause clears itself when its message goes out, and stays enabled until it is disarmed.
    registers.write32(VTEIAC, ALL_VECTORS);
    registers.write32(VTEIAM, 0);
}

/// Says RESET. Returns the station address that the owner gives.
fn begin<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<[u8; 6], Error> {
    let request = Request {
        words: &[message::RESET],
        what: "a station address",
        remedy: "give the function one: ip link set PHYSICAL vf NUMBER mac ADDRESS",
    };
    let answer = demand(registers, &request, delay)?;
    let mac = message::address(&answer);
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Error::StationAddress(mac));
    }
    if Mcstctrl::from_bits_retain(answer[3]).offset() != GROUP_BITS.offset() {
        return Err(Error::Refused {
            what: "the usual multicast table",
            remedy: "use the driver of Linux or FreeBSD on the physical function",
        });
    }
    Ok(mac)
}

/// Agrees on the newest version that both know.
fn agree<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<Api, Error> {
    for api in [Api::V1_3, Api::V1_2, Api::V1_1] {
        let words = [message::API_NEGOTIATE, api as u32];
        if ask(registers, &words, delay)?[0] & message::ACK != 0 {
            return Ok(api);
        }
    }
    Ok(Api::V1_0)
}

/// The configured station address, if it is not the given one.
fn set_address<R: Mmio>(
    registers: &R,
    config: &Config,
    given: [u8; 6],
    delay: Delay<'_>,
) -> Result<[u8; 6], Error> {
    let Some(mac) = config.mac.filter(|mac| *mac != given) else {
        return Ok(given);
    };
    let mut words = Words::default();
    words[0] = message::SET_MAC_ADDR;
    message::put_address(&mut words, mac);
    let request = Request {
        words: &words[..3],
        what: "another station address",
        remedy: "leave it out, or trust the function: ip link set PHYSICAL vf NUMBER trust on",
    };
    demand(registers, &request, delay)?;
    Ok(mac)
}

/// Lengths, queues, broadcast and groups, VLAN.
fn set_frames<R: Mmio>(
    registers: &R,
    config: &Config,
    api: Api,
    delay: Delay<'_>,
) -> Result<(), Error> {
    let longest = Request {
        words: &[message::SET_LPE, config.max_frame()],
        what: "frames of that length",
        remedy: "choose a smaller MTU, or give the physical function a larger one",
    };
    demand(registers, &longest, delay)?;
    if api >= Api::V1_1 {
        let answer = ask(registers, &[message::GET_QUEUES], delay)?;
        // With traffic classes, frames come to another queue.
        if answer[0] & message::ACK != 0 && answer[queues::DEFAULT] != 0 {
            return Err(Error::Refused {
                what: "queue 0",
                remedy: "switch data center bridging off on the physical function",
            });
        }
    }
    if api >= Api::V1_2 {
        // What is granted is what is there without asking, or more.
        let words = [message::UPDATE_XCAST_MODE, Xcast::Multi as u32];
        ask(registers, &words, delay)?;
    }
    let Some(vlan) = config.vlan else {
        return Ok(());
    };
    let join = message::with_argument(message::SET_VLAN, 1);
    let request = Request {
        words: &[join, vlan.id().into()],
        what: "the VLAN",
        remedy: "have its port put the tag on and leave vlan= out, or trust the function",
    };
    demand(registers, &request, delay).map(|_| ())
}
