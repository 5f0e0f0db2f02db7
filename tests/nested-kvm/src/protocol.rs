//! What the runner and `nested-init` agree on: names in the archive and lines on the console.

use serde::{Deserialize, Serialize};

/// Every line of `nested-init` starts with this; the rest of the console is Linux and the guests.
pub const PREFIX: &str = "nested: ";

/// Printed (after [`PREFIX`]) once `/dev/kvm` is there.
pub const KVM_READY: &str = "kvm ready";

/// Printed (after [`PREFIX`]) when a guest ended, followed by its position and exit status.
pub const GUEST_ENDED: &str = "guest ended ";

/// Printed (after [`PREFIX`]) when `nested-init` cannot go on, followed by the reason.
pub const FAILED: &str = "failed: ";

/// Printed (after [`PREFIX`]) when the control plane has served its dataplane, followed by [`Served`] as
/// JSON.
pub const SERVED: &str = "served ";

/// Where the modules lie in the archive, to be loaded in the order of their names.
pub const MODULES: &str = "modules";

/// The folder of the guest at `position`: `kernel`, `initrd`, and `arguments`, one in each line.
pub fn guest_directory(position: usize) -> String {
    format!("guests/{position}")
}

/// Folder of the inner QEMU: `qemu-system-x86_64`, `ld.so`, `lib/` and `firmware/`.
pub const QEMU: &str = "qemu";

/// Folder of the control plane's programs and of all that they start; absent if there is no control
/// plane to run.
pub const CONTROL_PLANE: &str = "ix";

/// The inner QEMU under the name by which the control plane finds it: `nested-init` again, which starts
/// the real one.
pub const QEMU_COMMAND: &str = "usr/bin/qemu-system-x86_64";

/// What `ixctl` and Linux say of a dataplane that the daemon has started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Served {
    /// Who executes its instructions.
    pub accelerator: String,
    /// Echo messages whose every byte was verified by the client.
    pub messages: u64,
    /// Its virtual CPUs.
    pub vcpus: Vec<Vcpu>,
}

/// A virtual CPU of that dataplane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vcpu {
    /// The hardware thread that the daemon says it was granted.
    pub granted: u32,
    /// Where Linux may run its thread, as a list like `1` or `0-3`.
    pub allowed: String,
}
