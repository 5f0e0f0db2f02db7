//! What the runner and `nested-init` agree on: names in the archive and lines on the console.

/// Every line of `nested-init` starts with this; the rest of the console is Linux and the guests.
pub const PREFIX: &str = "nested: ";

/// Printed (after [`PREFIX`]) once `/dev/kvm` is there.
pub const KVM_READY: &str = "kvm ready";

/// Printed (after [`PREFIX`]) when a guest ended, followed by its position and exit status.
pub const GUEST_ENDED: &str = "guest ended ";

/// Printed (after [`PREFIX`]) when `nested-init` cannot go on, followed by the reason.
pub const FAILED: &str = "failed: ";

/// Where the modules lie in the archive, to be loaded in the order of their names.
pub const MODULES: &str = "modules";

/// The folder of the guest at `position`: `kernel`, `initrd`, and `arguments`, one in each line.
pub fn guest_directory(position: usize) -> String {
    format!("guests/{position}")
}

/// Folder of the inner QEMU: `qemu-system-x86_64`, `ld.so`, `lib/` and `firmware/`.
pub const QEMU: &str = "qemu";
