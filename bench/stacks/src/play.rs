//! Playing a trace to a stack.

use crate::trace::{Base, Frame, Kind, Trace};
use anyhow::{Result, ensure};
use std::hint::black_box;

/// A stack with a server on it that answers each request with a response of the same length, and
/// closes when the peer does.
pub trait Stack {
    /// Says what step comes next, and its first connection; not counted. Silence is nothing but that.
    fn prepare(&mut self, kind: Kind, connection: usize);

    /// Puts the next step's frames where a NIC would; not counted. The bytes are as the peer sends
    /// them.
    fn receive(&mut self, frames: Vec<(usize, Vec<u8>)>);

    /// Takes the frames in, lets the server act, and sends what there is to send.
    fn run(&mut self);

    /// What was sent so far.
    fn sent(&self) -> Sent<'_>;
}

/// What a stack has sent.
pub struct Sent<'a> {
    /// Number of frames.
    pub frames: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The latest one, or at least its headers.
    pub latest: &'a [u8],
}

/// Plays the set-up and at most `steps` counted steps.
pub fn play<S: Stack>(trace: &Trace<'_>, steps: usize, mut stack: S) -> Result<()> {
    let mut bases = vec![Base::default(); trace.connections];
    let (mut count, mut segments, mut replies, mut bytes) = (0, 0, 0, 0);
    for step in &trace.steps {
        match step.kind {
            Kind::Setup => {}
            Kind::Silence => {
                stack.prepare(step.kind, 0);
                continue;
            }
            Kind::Counted if count == steps => break,
            Kind::Counted => count += 1,
        }
        let first = step.frames.first();
        stack.prepare(step.kind, first.map_or(0, |frame| frame.connection));
        let rebased = |frame: &Frame<'_>| {
            (
                frame.connection,
                bases[frame.connection].rebase(frame.bytes),
            )
        };
        stack.receive(step.frames.iter().map(rebased).collect());
        let (frames_before, bytes_before) = (stack.sent().frames, stack.sent().bytes);
        match step.kind {
            Kind::Counted => counted(&mut stack),
            Kind::Setup | Kind::Silence => stack.run(),
        }
        let sent = stack.sent();
        if let Some(first) = first
            && first.control() & crate::record::SYN != 0
        {
            ensure!(sent.frames == frames_before + 1, "a SYN was not answered");
            bases[first.connection] = Base::of(sent.latest);
        }
        if step.kind == Kind::Counted {
            segments += step.frames.len();
            replies += sent.frames - frames_before;
            bytes += sent.bytes.saturating_sub(bytes_before);
        }
    }
    println!("{count} steps, {segments} segments, {replies} replies of {bytes} bytes");
    Ok(())
}

/// Under this function callgrind counts.
#[inline(never)]
fn counted<S: Stack>(stack: &mut S) {
    black_box(&mut *stack).run();
}
