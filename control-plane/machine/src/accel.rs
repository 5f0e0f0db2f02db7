//! Who executes the guest's instructions. KVM is believed only after `ix-accel-probe`'s guest has
//! really finished on it; the answer is kept until the host boots again or has another QEMU.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use ix_accel_probe::ProbeError;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::qemu::{Qemu, cache_folder};

/// An accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The host's CPU, by KVM.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        })
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccelChoice {
    /// KVM where the probe guest finishes, else TCG.
    Auto,
    /// This one, without a probe.
    Fixed(Accel),
}

impl FromStr for AccelChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(AccelChoice::Auto),
            "kvm" => Ok(AccelChoice::Fixed(Accel::Kvm)),
            "tcg" => Ok(AccelChoice::Fixed(Accel::Tcg)),
            _ => Err(Error::BadValue {
                what: "accel",
                value: text.to_owned(),
                why: "use auto, kvm or tcg".to_owned(),
            }),
        }
    }
}

impl fmt::Display for AccelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccelChoice::Auto => f.write_str("auto"),
            AccelChoice::Fixed(accel) => accel.fmt(f),
        }
    }
}

impl AccelChoice {
    /// The accelerator to use with `qemu`.
    pub fn resolve(self, qemu: &Qemu) -> Accel {
        match self {
            AccelChoice::Fixed(accel) => accel,
            AccelChoice::Auto if kvm_works(qemu) => Accel::Kvm,
            AccelChoice::Auto => Accel::Tcg,
        }
    }
}

/// A probe's result, and what it holds for: until the host boots again, or has another QEMU.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    boot_id: String,
    qemu: PathBuf,
    version: String,
    kvm_works: bool,
}

fn kvm_works(qemu: &Qemu) -> bool {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        log::debug!("no KVM: /dev/kvm: {error}");
        return false;
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let file = cache_folder().join("kvm-probe.json");
    let known = fs::read(&file)
        .ok()
        .and_then(|text| serde_json::from_slice::<Probe>(&text).ok());
    let mut probe = Probe {
        boot_id: boot_id.trim().to_owned(),
        qemu: qemu.program.clone(),
        version: qemu.version.to_string(),
        kvm_works: false,
    };
    if let Some(known) = known {
        probe.kvm_works = known.kvm_works;
        if probe == known {
            return known.kvm_works;
        }
    }
    match ix_accel_probe::probe_kvm(Command::new(&qemu.program)) {
        Ok(()) => probe.kvm_works = true,
        Err(error @ ProbeError::Start(_)) => {
            log::warn!("cannot probe KVM, using TCG: {error}");
            return false;
        }
        Err(error) => log::info!("using TCG: KVM is not usable: {error}"),
    }
    if let Err(error) = remember(&file, &probe) {
        log::warn!(
            "the KVM probe will run again next time: {}: {error}",
            file.display()
        );
    }
    probe.kvm_works
}

/// Written aside and renamed, so that a reader never sees half of it.
fn remember(file: &Path, probe: &Probe) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let aside = folder.join(format!("kvm-probe-{}.tmp", std::process::id()));
    fs::write(&aside, serde_json::to_vec(probe)?)?;
    fs::rename(aside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_round_trip() {
        for text in ["auto", "kvm", "tcg"] {
            assert_eq!(text.parse::<AccelChoice>().unwrap().to_string(), text);
        }
        assert!("xen".parse::<AccelChoice>().is_err());
    }

    #[test]
    fn a_fixed_choice_needs_no_probe() {
        let qemu = Qemu {
            program: PathBuf::from("/no/such/qemu"),
            version: crate::qemu::MINIMUM,
        };
        assert_eq!(
            "kvm".parse::<AccelChoice>().unwrap().resolve(&qemu),
            Accel::Kvm
        );
        assert_eq!(
            "tcg".parse::<AccelChoice>().unwrap().resolve(&qemu),
            Accel::Tcg
        );
    }
}
