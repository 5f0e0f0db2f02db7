//! Runs guests under real KVM on a machine that has none.
//!
//! QEMU's TCG emulates AMD SVM with nested paging. So a small Linux with `kvm_amd` boots under TCG
//! (the outer machine), and inside it a second QEMU runs the guests with `-accel kvm` (the inner
//! machines). The code that then runs our image is Linux's own KVM: real exits, real nested
//! paging, real injection of faults and interrupts.
//!
//! [`run`] puts the outer machine together, boots it, and reports how each guest ended:
//! - [`ix_small_linux`]: the outer Linux and its modules, from Debian's package, kept in the cache
//!   folder, and the archive that carries all of it;
//! - [`qemu`]: the inner QEMU with its libraries and firmware;
//! - [`control_plane`]: the control plane as its users run it, with the host's libraries;
//! - [`init`]: the archive's `/init` is the program `nested-init` of this crate, whose console lines
//!   ([`protocol`]) are what [`outer`] reads.

#![forbid(unsafe_code)]

pub mod control_plane;
pub mod init;
pub mod outer;
pub mod protocol;
pub mod qemu;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ix_small_linux::initramfs::Archive;
use ix_small_linux::kernel::{self, Flavour};
use ix_small_linux::packages::Source;

pub use crate::control_plane::ControlPlane;
use crate::outer::Expected;
pub use crate::outer::{GuestOutcome, Outcome};
use crate::protocol::guest_directory;
pub use crate::qemu::Qemu;

/// The outer Linux: Debian's cloud kernel, with the module that provides `/dev/kvm` on an AMD
/// processor, which is what TCG emulates, and the one for TAPs.
const LINUX: Flavour = Flavour {
    source: Source::Host,
    meta_package: "linux-image-cloud-amd64",
    suffix: "-cloud-amd64",
    modules: &["kvm-amd", "tun"],
};

/// One inner machine, run to its end under KVM.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What reports call it.
    pub name: String,
    /// PVH image for `-kernel`.
    pub kernel: PathBuf,
    /// Boot module for `-initrd`, and the kernel command line.
    pub boot: Option<(PathBuf, String)>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// A line of the serial console must contain this.
    pub expected_line: Option<String>,
    /// QEMU's exit status must be this.
    pub expected_status: i32,
}

impl Guest {
    /// The accelerator probe's guest: shows that the inner KVM runs ring 3, whatever our image does.
    pub fn probe(image: &Path) -> Self {
        Self {
            name: "accelerator probe".to_owned(),
            kernel: image.to_owned(),
            boot: None,
            memory_mib: 32,
            expected_line: None,
            expected_status: ix_accel_probe::guest::EXIT_STATUS,
        }
    }
}

/// What [`run`] needs from its surroundings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The QEMU that runs the outer machine, and that is copied into it.
    pub qemu: Qemu,
    /// Folder that outlives the run; the Linux package is kept here.
    pub cache: PathBuf,
    /// What serves a dataplane after the guests.
    pub control_plane: Option<ControlPlane>,
    /// The whole run is ended after this.
    pub timeout: Duration,
}

/// Boots the outer machine and runs `guests` in it one after the other.
///
/// An `Err` means that the test could not be carried out. Whether the guests did what was expected
/// of them is in the outcome: see [`Outcome::check`].
pub fn run(config: &Config, guests: &[Guest]) -> Result<Outcome> {
    ensure!(!guests.is_empty(), "no guest to run under nested KVM");
    // Named for what is in it, so that a cache of before is not taken for it.
    let linux = kernel::fetch(&config.cache.join("nested-kvm/linux-tun"), &LINUX)?;
    let init = init::build()?;
    let directory = tempfile::tempdir().context("cannot create a temporary folder")?;

    let mut archive = Archive::default();
    archive.program("init", &init)?;
    for (position, module) in linux.modules.iter().enumerate() {
        archive.file(&format!("modules/{position:02}.ko"), module);
    }
    config.qemu.add_to(&mut archive)?;
    for (position, guest) in guests.iter().enumerate() {
        add_guest(&mut archive, position, guest)?;
    }
    if let Some(control_plane) = &config.control_plane {
        control_plane.add_to(&mut archive, &init)?;
    }
    let initrd = directory.path().join("initramfs.cpio");
    archive.write(&initrd)?;

    outer::boot(
        &config.qemu,
        &linux.image,
        &initrd,
        config.timeout,
        &Expected {
            guests: guests.len(),
            is_served: config.control_plane.is_some(),
        },
    )
}

fn add_guest(archive: &mut Archive, position: usize, guest: &Guest) -> Result<()> {
    let directory = guest_directory(position);
    let mut arguments = ix_accel_probe::machine_arguments();
    let memory = arguments
        .iter()
        .position(|argument| argument == "-m")
        .map(|option| option + 1);
    arguments[memory.expect("the probe's machine states its memory")] =
        format!("{}M", guest.memory_mib);
    arguments.extend(["-serial", "stdio", "-kernel"].map(str::to_owned));
    arguments.push(format!("/{directory}/kernel"));
    archive.program(&format!("{directory}/kernel"), &guest.kernel)?;
    if let Some((module, command_line)) = &guest.boot {
        archive.program(&format!("{directory}/initrd"), module)?;
        arguments.extend(["-initrd".to_owned(), format!("/{directory}/initrd")]);
        arguments.extend(["-append".to_owned(), command_line.clone()]);
    }
    archive.file(
        &format!("{directory}/arguments"),
        arguments.join("\n").as_bytes(),
    );
    Ok(())
}
