//! Publishes the linker arguments of an application image. An application's own build script
//! passes them on when it builds for the dataplane:
//!
//! ```ignore
//! if std::env::var_os("CARGO_CFG_BARE").is_some() {
//!     for argument in std::env::var("DEP_IX_LINK_ARGUMENTS").unwrap().split('\n') { .. }
//! }
//! ```

use std::env;

fn main() {
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let arguments = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        &format!("-Wl,-T,{folder}/image.ld"),
        "-Wl,-z,noexecstack,-z,norelro,-z,max-page-size=4096,--build-id=none",
    ];
    println!("cargo::metadata=LINK_ARGUMENTS={}", arguments.join(" "));
    println!("cargo::rerun-if-changed=image.ld");
}
