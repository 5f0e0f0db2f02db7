//! The wire of a dataplane that serves: its frames captured, and harmed, without restarting anything.

use std::fs;
use std::process::Stdio;

use ix_control_plane_tests::{ControlPlane, wait_until};

/// Link type and byte order of a pcapng file, and the kinds of blocks that hold frames.
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const ENHANCED_PACKET: u32 = 6;

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn the_frames_wanted_are_in_the_file_and_no_others() {
    let plane = ControlPlane::start("");
    plane.done(&["run", "echo", "--name", "e", "--", "7"]);
    let netns = plane.view("e").unwrap()["netns"].clone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wire.pcapng");
    let file = file.to_str().unwrap();

    let said = plane.refused(&["capture", "e", "--pcap", file, "frogs"]);
    assert!(
        said.contains("`frogs`") && said.contains("host A"),
        "{said}"
    );
    assert!(fs::metadata(file).is_err());

    let words = ["capture", "e", "--pcap", file, "--count", "5", "--json"];
    let mut capture = plane
        .command(&[&words[..], &["tcp and src port 7"]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let load = [
        "echo",
        "--connect",
        "10.9.0.2:7",
        "--connections",
        "1",
        "--messages",
        "5",
    ];
    wait_until("five frames are captured", || {
        // Again and again, since the first one may come before the capture has begun.
        let load = plane.load(netns.as_str().unwrap(), &load).status();
        assert!(load.unwrap().success());
        capture.try_wait().unwrap().is_some()
    });
    let said = std::io::read_to_string(capture.stdout.unwrap()).unwrap();
    let tally: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(tally["frames"], 5, "{tally}");

    let bytes = fs::read(file).unwrap();
    assert!(bytes.starts_with(&SECTION_HEADER));
    let frames = frames(&bytes);
    assert_eq!(frames.len(), 5);
    for frame in frames {
        // TCP over IPv4 without options, from port 7.
        assert_eq!((frame[12..14].to_vec(), frame[23]), (vec![8, 0], 6));
        assert_eq!(frame[34..36], 7u16.to_be_bytes());
    }

    // Every frame twice, which TCP does not mind.
    plane.done(&["impair", "e", "--duplicate", "100%", "--delay-us", "50"]);
    let load = plane.load(netns.as_str().unwrap(), &load).status();
    assert!(load.unwrap().success());
    let healed = plane.done(&["impair", "e", "--off", "--json"]);
    let healed: serde_json::Value = serde_json::from_str(&healed).unwrap();
    assert!(
        healed["counts"]["duplicated"].as_u64() > Some(10),
        "{healed}"
    );
    assert_eq!(healed["impairment"]["duplicate"], 0.0, "{healed}");
    let shown = plane.done(&["impair", "e"]);
    assert!(shown.starts_with("frames pass unharmed"), "{shown}");
    let said = plane.refused(&["impair", "e", "--delay-us", "99999999"]);
    assert!(said.contains("use a shorter one"), "{said}");
    plane.done(&["stop", "e"]);
}

fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if word(at) == ENHANCED_PACKET {
            frames.push(&bytes[at + 28..][..word(at + 20) as usize]);
        }
        at += word(at + 4) as usize;
    }
    frames
}
