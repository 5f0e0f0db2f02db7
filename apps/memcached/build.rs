//! Links the image as libix wants it; nothing to do on a host.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_CFG_BARE").is_some() {
        let arguments = env::var("DEP_IX_LINK_ARGUMENTS").expect("libix publishes it");
        for argument in arguments.split(' ') {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
