//! A QEMU TCG plugin that counts every guest instruction, exactly, by its address.
//!
//! `-plugin FILE,socket=PATH`: counts from power-on, and answers on that socket ([`server`]) with
//! the counters ([`counters`]). It knows nothing of symbols, kernel and user, or requests; the
//! reader in `bench/insns` makes sense of the addresses.
//!
//! Counting each instruction, not each block, costs some speed and is worth it: a block that ends
//! early, by a fault or because QEMU retranslates it around a device access, counts what ran.

mod api;
mod counters;
mod server;

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use api::{Block, DECLARED_VERSION, Info, TranslationHandler, register_translation};
use counters::Counters;

/// Read by QEMU before it calls anything.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = DECLARED_VERSION;

static COUNTERS: OnceLock<Counters> = OnceLock::new();

/// Called by QEMU once, when it loads the plugin. Returns 0 for success.
///
/// # Safety
/// As QEMU calls it: `info` points to its description, `argv` to `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: valid during this call, by contract.
    let info = unsafe { &*info };
    let arguments = (0..usize::try_from(argc).unwrap_or(0)).map(|index| {
        // SAFETY: argv has argc entries, each a terminated string, by contract.
        unsafe { CStr::from_ptr(*argv.add(index)) }.to_string_lossy()
    });
    match install(id, info, &arguments.collect::<Vec<_>>()) {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("insns plugin: {reason}");
            1
        }
    }
}

fn install(id: u64, info: &Info, arguments: &[impl AsRef<str>]) -> Result<(), String> {
    let [argument] = arguments else {
        return Err("takes one argument, socket=PATH".to_owned());
    };
    let Some(path) = argument.as_ref().strip_prefix("socket=") else {
        return Err(format!(
            "unknown argument {}, takes socket=PATH",
            argument.as_ref()
        ));
    };
    if !info.system_emulation {
        return Err("counts a whole machine, not a user program".to_owned());
    }
    let vcpus = u32::try_from(info.smp_vcpus).map_err(|_| "no CPUs".to_owned())?;
    let counters = COUNTERS.get_or_init(|| Counters::new(vcpus));
    server::start(path, counters).map_err(|error| format!("cannot listen at {path}: {error}"))?;
    register_translation::<CountAll>(id, info.version);
    Ok(())
}

struct CountAll;

impl TranslationHandler for CountAll {
    fn translated(block: *mut Block) {
        let counters = COUNTERS
            .get()
            .expect("set before the callback was registered");
        // SAFETY: this runs inside the translation callback that was given the handle.
        unsafe { counters.count_block(block) }
    }
}
