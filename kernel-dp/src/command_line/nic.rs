//! `nic=`: which network device the kernel drives.

use core::fmt;

/// Which network device the kernel drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicChoice {
    /// The first on the PCI bus that there is a driver for, in the order of [`NicChoice::DEVICES`].
    Any,
    /// An Intel 82599, or one of its kind.
    Intel82599,
    /// An Intel 82576, QEMU's `igb`.
    Intel82576,
    /// A VIRTIO network device.
    Virtio,
    /// None: no frame ever arrives.
    None,
}

impl NicChoice {
    /// What the key takes, in words.
    pub const NAMES: &str = "auto, 82599, igb, virtio or none";

    /// The devices that there are drivers for: vendor and device on the PCI bus.
    const DEVICES: [(Self, u16, u16); 6] = {
        let [modern, transitional] = virtio_net::PCI_DEVICES;
        let [backplane, fiber, mezzanine] = ixgbe_spec::PCI_DEVICES;
        [
            (Self::Intel82599, ixgbe_spec::PCI_VENDOR, fiber),
            (Self::Intel82599, ixgbe_spec::PCI_VENDOR, backplane),
            (Self::Intel82599, ixgbe_spec::PCI_VENDOR, mezzanine),
            (Self::Intel82576, igb::PCI_VENDOR, igb::PCI_DEVICE),
            (Self::Virtio, virtio_net::PCI_VENDOR, modern),
            (Self::Virtio, virtio_net::PCI_VENDOR, transitional),
        ]
    };

    pub(super) fn parse(value: &str) -> Option<Self> {
        [
            Self::Any,
            Self::Intel82599,
            Self::Intel82576,
            Self::Virtio,
            Self::None,
        ]
        .into_iter()
        .find(|choice| choice.key() == value)
    }

    /// As the command line has it.
    const fn key(self) -> &'static str {
        match self {
            Self::Any => "auto",
            Self::Intel82599 => "82599",
            Self::Intel82576 => "igb",
            Self::Virtio => "virtio",
            Self::None => "none",
        }
    }

    /// Queue pairs that a device of this kind may have.
    pub const fn queues(self) -> usize {
        match self {
            Self::Any | Self::Intel82599 => ixgbe::MAX_QUEUES as usize,
            Self::Intel82576 => igb::MAX_QUEUES as usize,
            Self::Virtio => virtio_net::MAX_QUEUES as usize,
            Self::None => 0,
        }
    }

    /// The functions to look for: what drives each, its vendor, and its device.
    pub fn functions(self) -> impl Iterator<Item = (Self, u16, u16)> {
        let fits = move |kind| self == Self::Any || self == kind;
        Self::DEVICES.into_iter().filter(move |it| fits(it.0))
    }
}

impl fmt::Display for NicChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "NIC that there is a driver for (Intel 82599 or 82576, VIRTIO)",
            Self::Intel82599 => "Intel 82599",
            Self::Intel82576 => "Intel 82576",
            Self::Virtio => "VIRTIO network device",
            Self::None => "NIC",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_choice_looks_for_its_own_devices_and_auto_for_all() {
        let devices = |choice: NicChoice| -> Vec<u16> {
            choice.functions().map(|(_, _, device)| device).collect()
        };
        assert_eq!(devices(NicChoice::Intel82576), [0x10c9]);
        assert_eq!(devices(NicChoice::Virtio), [0x1041, 0x1000]);
        assert_eq!(devices(NicChoice::Any).len(), NicChoice::DEVICES.len());
        assert_eq!(devices(NicChoice::None), []);
    }

    #[test]
    fn names_are_those_that_the_message_lists() {
        for name in ["auto", "82599", "igb", "virtio", "none"] {
            assert!(NicChoice::parse(name).is_some() && NicChoice::NAMES.contains(name));
        }
        assert_eq!(NicChoice::parse("vmxnet3"), None);
    }
}
