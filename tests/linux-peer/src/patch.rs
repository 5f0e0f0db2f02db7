//! Two wires joined.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ix82599::wire::{Impaired, MAX_FRAME_BYTES, Tap, Wire as _};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// How long it sleeps at most.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// Passes frames between two wires until `stop` is set.
pub fn patch(wires: [&mut Impaired<Tap>; 2], stop: &AtomicBool) {
    let [first, second] = wires;
    let start = Instant::now();
    let mut frame = vec![0; MAX_FRAME_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let now_ns = start.elapsed().as_nanos() as u64;
        first.advance(now_ns);
        second.advance(now_ns);
        if pass(first, second, &mut frame) + pass(second, first, &mut frame) == 0 {
            let readiness = [&*first, &*second].map(|wire| wire.readiness().expect("a descriptor"));
            let mut readiness = readiness.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            poll(&mut readiness, Some(&NAP)).expect("poll the TAPs");
        }
    }
}

/// Passes a batch of frames on; returns how many.
fn pass(from: &mut Impaired<Tap>, to: &mut Impaired<Tap>, frame: &mut [u8]) -> usize {
    let mut count = 0;
    while count < 64
        && let Some(len) = from.receive(frame).expect("the TAP receives")
    {
        // A full queue loses the frame, as a switch does.
        let _ = to.send(&frame[..len]);
        count += 1;
    }
    count
}
