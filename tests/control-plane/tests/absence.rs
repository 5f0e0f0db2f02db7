//! An application that stays in user mode is seen by whoever looks at its dataplane.

use ix_control_plane_tests::{ControlPlane, wait_until};
use serde_json::json;

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_application_that_does_not_return_is_seen() {
    let plane = ControlPlane::start("");
    plane.done(&["run", "probe", "--name", "s", "--", "spin"]);
    wait_until("the overstay is seen", || {
        plane.json(&["ps"])[0]["absent"] == json!([0])
    });
    assert!(plane.done(&["ps"]).contains("thread 0 does not return"));
    let thread = plane.json(&["stats", "s"])["threads"][0].clone();
    assert_eq!(
        (&thread["overstays"], &thread["is_absent"]),
        (&json!(1), &json!(true))
    );
    wait_until("there is an event", || {
        plane
            .done(&["events"])
            .contains("it still does on thread 0")
    });
    plane.done(&["stop", "s"]);
}
