//! A dataplane with a hardware thread for background threads.

use std::fs;

use ix_control_plane_tests::{ControlPlane, wait_until};

/// The application itself checks that its background threads run.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn background_threads_have_a_hardware_thread_for_good() {
    let mut plane = ControlPlane::start("");
    let definition = plane.folder().with_file_name("e.toml");
    let text =
        "name = 'e'\napp = 'probe'\nargs = ['exchange', '7']\nthreads = 2\nbackground = true";
    fs::write(&definition, text).unwrap();
    plane.done(&["run", definition.to_str().unwrap()]);
    wait_until("the background threads are done", || {
        plane.done(&["logs", "e"]).contains("probe: ok")
    });
    let view = plane.view("e").unwrap();
    let core = view["background"].as_u64().unwrap().to_string();
    let cores = view["cores"].as_array().unwrap();
    assert!(cores.len() == 2 && !cores.contains(&view["background"]));
    let refusal = plane.refused(&["revoke", "e", "--core", &core]);
    assert!(
        refusal.contains("background threads of e keep"),
        "{refusal}"
    );

    plane.kill_daemon();
    plane.start_daemon();
    assert!(
        plane
            .done(&["ps"])
            .contains(&format!("; background {core} "))
    );
    assert!(plane.done(&["cores"]).contains("e (background)"));
    plane.done(&["stop", "e"]);
    assert!(!plane.done(&["cores"]).contains("background"));
}
