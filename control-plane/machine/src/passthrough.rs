//! A card of the host's own, handed to the guest by VFIO: its address, and whether the host is ready
//! for it. `docs/hardware.md` says step by step how to make it so.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};

const DEVICES: &str = "/sys/bus/pci/devices";
const VFIO: &str = "vfio-pci";
/// What may share a group with the card: bridges do no DMA of their own.
const BRIDGE: &str = "pcieport";

/// A function of the host's PCI bus, written 0000:03:00.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddress {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for PciAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| refuse(text, "write a PCI address like 0000:03:00.0"))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex = |text: &str, digits| {
        let is_hex = text.len() == digits && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(text, 16).ok()).flatten()
    };
    let (device, function) = (hex(device, 2)?, hex(function, 1)?);
    (device < 32 && function < 8).then_some(PciAddress {
        domain: hex(domain, 4)?,
        bus: hex(bus, 2)? as u8,
        device: device as u8,
        function: function as u8,
    })
}

fn refuse(address: impl fmt::Display, why: impl Into<String>) -> Error {
    Error::BadValue {
        what: "nic",
        value: address.to_string(),
        why: why.into(),
    }
}

/// Refuses a card that the host cannot hand over as it is, and says what to do.
pub fn check(address: PciAddress) -> Result<()> {
    check_in(Path::new(DEVICES), address)
}

/// The same with a folder of devices like the kernel's.
fn check_in(devices: &Path, address: PciAddress) -> Result<()> {
    let folder = devices.join(address.to_string());
    if !folder.exists() {
        return Err(refuse(address, "there is no such function; see `lspci -D`"));
    }
    if !folder.join("iommu_group").exists() {
        let why = "it is in no IOMMU group: switch VT-d or AMD-Vi on in the firmware, and boot with \
                   intel_iommu=on or amd_iommu=on";
        return Err(refuse(address, why));
    }
    match driver(&folder).as_deref() {
        Some(VFIO) => {}
        Some(other) => {
            let why = format!(
                "the host drives it with {other}; hand it to VFIO with `driverctl set-override \
                 {address} {VFIO}`, which takes its interface away from the host"
            );
            return Err(refuse(address, why));
        }
        None => {
            let why = format!(
                "no driver holds it; hand it to VFIO with `modprobe {VFIO}` and `driverctl \
                 set-override {address} {VFIO}`"
            );
            return Err(refuse(address, why));
        }
    }
    check_group(&folder, address)
}

/// The IOMMU tells the members of a group not apart: all of them go, or none.
fn check_group(folder: &Path, address: PciAddress) -> Result<()> {
    let members = folder.join("iommu_group/devices");
    let entries = fs::read_dir(&members).map_err(Error::io(format!(
        "list the IOMMU group {}",
        members.display()
    )))?;
    for member in entries.flatten() {
        let holder = driver(&member.path());
        if holder
            .as_deref()
            .is_some_and(|it| it != VFIO && it != BRIDGE)
        {
            let why = format!(
                "it shares its IOMMU group with {}, which {} drives: hand that to {VFIO} as well, \
                 or put the card into another slot",
                member.file_name().display(),
                holder.unwrap_or_default()
            );
            return Err(refuse(address, why));
        }
    }
    Ok(())
}

/// Name of a device's driver.
fn driver(folder: &Path) -> Option<String> {
    let driver = fs::read_link(folder.join("driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const CARD: &str = "0000:03:00.0";

    /// Folders like those of `/sys`: the functions, each with its driver, all in one group.
    fn host(functions: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        let group = host.path().join("group/devices");
        fs::create_dir_all(&group).unwrap();
        for (address, driver) in functions {
            let folder = host.path().join(address);
            fs::create_dir(&folder).unwrap();
            symlink(host.path().join("group"), folder.join("iommu_group")).unwrap();
            symlink(&folder, group.join(address)).unwrap();
            if let Some(driver) = driver {
                symlink(Path::new("/drivers").join(driver), folder.join("driver")).unwrap();
            }
        }
        host
    }

    fn verdict(host: &Path) -> std::result::Result<(), String> {
        check_in(host, CARD.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_round_trip_and_others_are_refused() {
        for text in [CARD, "10fe:ff:1f.7"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "03:00.0",
            "0000:03:00",
            "0000:03:20.0",
            "0000:03:00.8",
            "+000:03:00.0",
            "0000:3:00.0",
            "0000:03:00.0,romfile=x",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_card_that_vfio_has_alone_is_ready() {
        let host = host(&[(CARD, Some(VFIO)), ("0000:00:01.0", Some(BRIDGE))]);
        assert_eq!(verdict(host.path()), Ok(()));
    }

    #[test]
    fn what_is_in_the_way_is_named_with_what_to_do() {
        let other = "0000:03:00.1";
        for (functions, part) in [
            (&[][..], "lspci -D"),
            (&[(CARD, None)], "modprobe vfio-pci"),
            (&[(CARD, Some("ixgbe"))], "drives it with ixgbe"),
            (&[(CARD, Some(VFIO)), (other, Some("ixgbe"))], other),
        ] {
            let host = host(functions);
            let why = verdict(host.path()).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        let no_iommu = host(&[(CARD, Some(VFIO))]);
        fs::remove_file(no_iommu.path().join(CARD).join("iommu_group")).unwrap();
        assert!(
            verdict(no_iommu.path())
                .unwrap_err()
                .contains("intel_iommu=on")
        );
    }
}
