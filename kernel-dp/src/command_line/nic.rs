//! `nic=`: which network device the kernel drives.

use core::fmt;

/// Which network device the kernel drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicChoice {
    /// The first on the PCI bus that there is a driver for, in the order of [`NicChoice::KINDS`].
    Any,
    /// An Intel 82599, X540 or X550.
    Intel82599,
    /// A virtual function of one of these.
    Virtual82599,
    /// An Intel 82576, QEMU's `igb`.
    Intel82576,
    /// A VIRTIO network device.
    Virtio,
    /// None: no frame ever arrives.
    None,
}

impl NicChoice {
    /// What the key takes, in words.
    pub const NAMES: &str = "auto, 82599, vf, igb, virtio or none";

    /// What there are drivers for.
    const KINDS: [Self; 4] = [
        Self::Intel82599,
        Self::Virtual82599,
        Self::Intel82576,
        Self::Virtio,
    ];

    pub(super) fn parse(value: &str) -> Option<Self> {
        [
            Self::Any,
            Self::Intel82599,
            Self::Virtual82599,
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
            Self::Virtual82599 => "vf",
            Self::Intel82576 => "igb",
            Self::Virtio => "virtio",
            Self::None => "none",
        }
    }

    /// Queue pairs that a device of this kind may have.
    pub const fn queues(self) -> usize {
        match self {
            Self::Any | Self::Intel82599 => ixgbe::MAX_QUEUES as usize,
            Self::Virtual82599 => ixgbevf::MAX_QUEUES as usize,
            Self::Intel82576 => igb::MAX_QUEUES as usize,
            Self::Virtio => virtio_net::MAX_QUEUES as usize,
            Self::None => 0,
        }
    }

    /// What to look for, the best first.
    pub fn kinds(self) -> impl Iterator<Item = Self> {
        let fits = move |kind: &Self| self == Self::Any || self == *kind;
        Self::KINDS.into_iter().filter(fits)
    }

    /// Whether the driver of this kind is one for that PCI device.
    pub fn drives(self, vendor: u16, device: u16) -> bool {
        match self {
            Self::Intel82599 => {
                vendor == ixgbe_spec::PCI_VENDOR && ixgbe::Card::of(device).is_some()
            }
            Self::Virtual82599 => {
                vendor == ixgbe_spec::PCI_VENDOR && ixgbevf::Function::of(device).is_some()
            }
            Self::Intel82576 => vendor == igb::PCI_VENDOR && device == igb::PCI_DEVICE,
            Self::Virtio => {
                vendor == virtio_net::PCI_VENDOR && virtio_net::PCI_DEVICES.contains(&device)
            }
            Self::Any => self.kinds().any(|kind| kind.drives(vendor, device)),
            Self::None => false,
        }
    }
}

impl fmt::Display for NicChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => {
                "NIC that there is a driver for (Intel 82599, X540, X550, a virtual function of \
                 one, or 82576, VIRTIO)"
            }
            Self::Intel82599 => "Intel 82599, X540 or X550",
            Self::Virtual82599 => "virtual function of an Intel 82599, X540 or X550",
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
        let cases = [
            (NicChoice::Intel82599, 0x8086, 0x10fb),
            (NicChoice::Intel82599, 0x8086, 0x1528),
            (NicChoice::Virtual82599, 0x8086, 0x10ed),
            (NicChoice::Virtual82599, 0x8086, 0x1565),
            (NicChoice::Intel82576, 0x8086, 0x10c9),
            (NicChoice::Virtio, 0x1af4, 0x1041),
            (NicChoice::Virtio, 0x1af4, 0x1000),
        ];
        for (kind, vendor, device) in cases {
            for other in NicChoice::KINDS {
                assert_eq!(other.drives(vendor, device), other == kind);
            }
            assert!(NicChoice::Any.drives(vendor, device));
            assert!(!NicChoice::None.drives(vendor, device));
            assert!(!NicChoice::Any.drives(vendor ^ 1, device));
        }
        let kinds = |choice: NicChoice| -> Vec<NicChoice> { choice.kinds().collect() };
        assert_eq!(kinds(NicChoice::Virtio), [NicChoice::Virtio]);
        assert_eq!(kinds(NicChoice::Any), NicChoice::KINDS);
        assert_eq!(kinds(NicChoice::None), []);
    }

    #[test]
    fn names_are_those_that_the_message_lists() {
        for name in ["auto", "82599", "vf", "igb", "virtio", "none"] {
            assert!(NicChoice::parse(name).is_some() && NicChoice::NAMES.contains(name));
        }
        assert_eq!(NicChoice::parse("vmxnet3"), None);
    }
}
