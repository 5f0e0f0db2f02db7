//! A TAP device that the test makes itself, with the Linux stack at its other end. Without the right
//! to make one, the test checks that the refusal says so.

use std::process::Command;
use std::time::{Duration, Instant};

use ix82599::wire::{Tap, TapConfig, TapError, Wire};

/// A TAP that exists as long as the test holds it, with an address from TEST-NET-3 (RFC 5737).
fn tap(suffix: &str) -> Option<(Tap, TapConfig)> {
    let config = TapConfig {
        name: format!("ixt{}{suffix}", std::process::id()),
        create_with_mtu: Some(1400),
    };
    match Tap::open(&config) {
        Ok(tap) => Some((tap, config)),
        Err(error @ (TapError::Permission(_) | TapError::NoDriver(_))) => {
            let message = error.to_string();
            assert!(
                message.contains("run as root") || message.contains("modprobe tun"),
                "{message}"
            );
            println!("not tried with a TAP device: {message}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    let status = status.expect("`ip` of iproute2 has to be installed");
    assert!(status.success(), "ip {arguments:?}");
}

/// The next frame of an EtherType within two seconds; others, which the stack sends by itself, are
/// passed over.
fn receive(tap: &mut Tap, ethertype: [u8; 2]) -> Option<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut frame = [0; 2048];
    while Instant::now() < deadline {
        match tap.receive(&mut frame).unwrap() {
            Some(length) if frame[12..14] == ethertype => return Some(frame[..length].to_vec()),
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

#[test]
fn linux_answers_an_arp_request_on_a_tap_we_made() {
    let Some((mut tap, config)) = tap("a") else {
        return;
    };
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{}/mtu", config.name)).unwrap();
    assert_eq!(mtu.trim(), "1400");
    ip(&["addr", "add", "203.0.113.1/30", "dev", &config.name]);
    let mut request = vec![0xff; 6];
    request.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend([2, 0, 0, 0, 0, 1, 203, 0, 113, 2]);
    request.extend([0, 0, 0, 0, 0, 0, 203, 0, 113, 1]);
    tap.send(&request).unwrap();
    let answer = receive(&mut tap, [0x08, 0x06]).expect("no answer");
    assert_eq!(answer[20..22], [0, 2], "not a reply");
    assert_eq!(answer[28..32], [203, 0, 113, 1]);
}

#[test]
fn a_name_that_is_taken_and_a_tap_in_use_are_told_apart() {
    let Some((_tap, config)) = tap("b") else {
        return;
    };
    assert!(matches!(Tap::open(&config), Err(TapError::Exists(_))));
    let existing = TapConfig {
        create_with_mtu: None,
        ..config
    };
    assert!(matches!(Tap::open(&existing), Err(TapError::Busy(_))));
}

#[test]
fn the_link_goes_down_with_the_interface() {
    let Some((mut tap, config)) = tap("c") else {
        return;
    };
    assert!(tap.link_up());
    ip(&["link", "del", &config.name]);
    assert!(tap.receive(&mut [0; 2048]).is_err());
    assert!(!tap.link_up());
}
