//! Two wires joined.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ix82599::wire::{MAX_FRAME_BYTES, Wire as _};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::Distant;

/// How long it sleeps at most.
const NAP_NS: u64 = 1_000_000;

/// Passes frames between two wires until `stop` is set.
pub fn patch(wires: [&mut Distant; 2], stop: &AtomicBool) {
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
            let deadlines = [&*first, &*second].map(|wire| wire.deadline_ns());
            let until = deadlines.into_iter().flatten().min().unwrap_or(u64::MAX);
            let nap = until
                .saturating_sub(start.elapsed().as_nanos() as u64)
                .min(NAP_NS);
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: nap as i64,
            };
            poll(&mut readiness, Some(&timeout)).expect("poll the TAPs");
        }
    }
}

/// Passes a batch of frames on; returns how many.
fn pass(from: &mut Distant, to: &mut Distant, frame: &mut [u8]) -> usize {
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
