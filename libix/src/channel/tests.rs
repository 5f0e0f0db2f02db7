//! Order, fullness, and that nobody sleeps through a message: background threads of the host's kind
//! are real threads.

use super::*;
use crate::background::{self, JoinHandle, spawn};
use crate::host::alone;

fn result_of<T>(mut handle: JoinHandle<T>) -> T {
    loop {
        match handle.join() {
            Ok(result) => return result,
            Err(unfinished) => handle = unfinished,
        }
        std::thread::yield_now();
    }
}

#[test]
fn messages_come_out_in_the_order_they_went_in() {
    let (sender, mut receiver) = bounded(4);
    for number in 0..4 {
        sender.try_send(number).unwrap();
    }
    assert_eq!(sender.try_send(4), Err(SendError::Full(4)));
    assert_eq!(sender.send(5), Err(SendError::Full(5)), "it does not wait");
    let received: Vec<_> = core::iter::from_fn(|| receiver.try_recv()).collect();
    assert_eq!(received, [0, 1, 2, 3]);
    assert_eq!(sender.send(6), Ok(()));
    assert_eq!(receiver.try_recv(), Some(6));
}

#[test]
fn an_elastic_thread_that_found_nothing_is_told_once() {
    let (sender, mut receiver) = bounded(4);
    assert_eq!(receiver.try_recv(), None);
    let before = crate::fake::notifications();
    sender.try_send(1).unwrap();
    sender.try_send(2).unwrap();
    assert_eq!(crate::fake::notifications(), before + 1);
    assert_eq!(receiver.try_recv(), Some(1));
    sender.try_send(3).unwrap();
    assert_eq!(crate::fake::notifications(), before + 1, "it is looking");
    assert_eq!(
        (receiver.try_recv(), receiver.try_recv()),
        (Some(2), Some(3))
    );
    assert_eq!(receiver.try_recv(), None);
    assert_eq!(receiver.try_recv(), None);
    sender.try_send(4).unwrap();
    assert_eq!(crate::fake::notifications(), before + 2);
    assert_eq!(receiver.try_recv(), Some(4));
}

#[test]
fn an_elastic_thread_does_not_wait() {
    let (sender, mut receiver) = bounded::<u32>(1);
    assert_eq!(receiver.recv(), Err(ReceiveError::Elastic));
    sender.send(1).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
}

#[test]
fn the_end_of_either_side_is_told_to_the_other() {
    let _alone = alone();
    let (sender, receiver) = bounded(1);
    drop(receiver);
    assert_eq!(sender.try_send(1), Err(SendError::Closed(1)));
    let (sender, mut receiver) = bounded(2);
    let waiting = spawn(move || (receiver.recv(), receiver.recv()));
    sender.try_send(7).unwrap();
    drop(sender);
    let ends = (Ok(7), Err(ReceiveError::Closed));
    assert_eq!(result_of(waiting.unwrap()), ends);
}

#[test]
fn a_receiver_whose_time_has_come_goes_on() {
    let _alone = alone();
    let (sender, mut receiver) = bounded::<u32>(1);
    let waiting = spawn(move || receiver.recv_until(background::now() + Duration::from_millis(2)));
    assert_eq!(result_of(waiting.unwrap()), Err(ReceiveError::TimedOut));
    drop(sender);
}

/// Three senders that wait for room, and a receiver that waits for messages, over a channel that is
/// nearly always full or empty.
#[test]
fn nobody_sleeps_through_a_message_or_room() {
    let _alone = alone();
    const EACH: u64 = 20_000;
    let (sender, mut receiver) = bounded(2);
    let senders: Vec<_> = (0..3)
        .map(|from| {
            let sender = sender.clone();
            spawn(move || (0..EACH).all(|number| sender.send((from, number)).is_ok())).unwrap()
        })
        .collect();
    drop(sender);
    let receiver = spawn(move || {
        let mut next = [0; 3];
        while let Ok((from, number)) = receiver.recv() {
            assert_eq!(next[from], number, "in order from each");
            next[from] += 1;
        }
        next
    });
    assert_eq!(result_of(receiver.unwrap()), [EACH; 3]);
    assert!(senders.into_iter().all(result_of));
}
