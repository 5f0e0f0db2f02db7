//! Linker arguments of the bare build; the host build of this package is an ordinary program.

fn main() {
    println!("cargo::rerun-if-changed=kernel.ld");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_BARE").is_none() {
        return;
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest's folder");
    for argument in [
        format!("-T{folder}/kernel.ld"),
        "--gc-sections".into(),
        "--build-id=none".into(),
        "-zmax-page-size=0x1000".into(),
        "-znoexecstack".into(),
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
