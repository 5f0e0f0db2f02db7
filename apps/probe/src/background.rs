//! Background threads beside elastic ones: messages to and fro while connections are served, turns,
//! and what the kernel has to answer or stop.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use ix_abi::Error;
use ix_abi::syscall::{
    BACKGROUND_MAX, END, NOTIFY, RUN_IO, SLEEP, SPAWN, STACK_BYTES, WAIT, WAKE, YIELD,
};
use libix::background::{self, JoinHandle, SpawnError, spawn};
use libix::channel::{self, Receiver, Sender};
use libix::{Connection, Context, Knock, Received, Service, println};

use crate::misdeeds::{self, KERNEL_ADDRESS, system_call};

/// Messages that each elastic thread sends, and gets back.
const MESSAGES: u64 = 5_000;
/// Most of them on their way at a time.
const ON_THEIR_WAY: u64 = 32;
/// Times that the sleeping thread sleeps.
const NAPS: u32 = 100;
const NAP: Duration = Duration::from_micros(500);

/// Sent by a client, this ends the application.
const QUIT: &[u8] = b"quit";

/// Elastic threads that have all their messages back.
static DONE: AtomicUsize = AtomicUsize::new(0);
/// What the spinning threads count.
static SPINS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// An echo server on every thread, each with a background thread that sends its messages back; and
/// on the first thread two that spin and one that sleeps.
pub struct Exchange {
    /// Port that all serve.
    pub port: u16,
    /// Whether to end the application when all messages are back.
    pub is_alone: bool,
    partner: Option<Partner>,
    others: Vec<JoinHandle<bool>>,
}

struct Partner {
    to: Sender<u64>,
    from: Receiver<u64>,
    sent: u64,
    received: u64,
}

impl Exchange {
    /// Not started yet.
    pub fn new(port: u16, is_alone: bool) -> Self {
        Self {
            port,
            is_alone,
            partner: None,
            others: Vec::new(),
        }
    }

    fn start(&mut self, thread: usize, threads: usize) -> Result<(), SpawnError> {
        let (to, mut requests) = channel::bounded(ON_THEIR_WAY as usize);
        let (replies, from) = channel::bounded(ON_THEIR_WAY as usize);
        self.partner = Some(Partner {
            to,
            from,
            sent: 0,
            received: 0,
        });
        if thread == 0 {
            self.others.push(spawn(move || spin(0, threads))?);
            self.others.push(spawn(move || spin(1, threads))?);
            self.others.push(spawn(nap)?);
        }
        spawn(move || {
            while let Ok(number) = requests.recv() {
                if replies.send(number + 1).is_err() {
                    return;
                }
            }
        })?;
        Ok(())
    }

    /// Takes what has come back and sends more. False if a message is not the one expected.
    fn exchange(&mut self, cx: &mut Context<()>) -> bool {
        let Some(partner) = &mut self.partner else {
            return true;
        };
        while let Some(number) = partner.from.try_recv() {
            partner.received += 1;
            if number != partner.received {
                println!("probe: message {number} instead of {}", partner.received);
                return false;
            }
            if partner.received == MESSAGES {
                println!("probe: thread {} has its messages back", cx.thread());
                DONE.fetch_add(1, Ordering::Relaxed);
            }
        }
        while partner.sent < MESSAGES && partner.sent - partner.received < ON_THEIR_WAY {
            if partner.to.try_send(partner.sent).is_err() {
                println!("probe: the channel is full");
                return false;
            }
            partner.sent += 1;
        }
        true
    }

    /// Once everybody is done, on the first thread.
    fn finish(&mut self, cx: &mut Context<()>) {
        let handles = core::mem::take(&mut self.others);
        for handle in handles {
            match handle.join() {
                Ok(true) => {}
                Ok(false) => cx.stop(1),
                Err(unfinished) => self.others.push(unfinished),
            }
        }
        if !self.others.is_empty() {
            cx.wake_at(cx.now() + Duration::from_millis(1));
            return;
        }
        let [first, second] = [0, 1].map(|index| SPINS[index].load(Ordering::Relaxed));
        println!("probe: the spinning threads counted {first} and {second}");
        println!("probe: ok");
        self.partner = None;
        if self.is_alone {
            cx.stop(0);
        }
    }
}

impl Service for Exchange {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(self.port);
        if let Err(error) = self.start(cx.thread(), cx.threads()) {
            println!("probe: {error}");
            cx.stop(1);
        }
        // The first messages leave in the first round.
        cx.notifier().notify();
    }

    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        if *data == *QUIT {
            connection.context().stop(0);
        } else if connection.send(data).is_err() {
            connection.abort();
        }
    }

    fn on_round(&mut self, cx: &mut Context<()>) {
        if !self.exchange(cx) {
            cx.stop(1);
        }
        if cx.thread() == 0 && self.partner.is_some() {
            match DONE.load(Ordering::Relaxed) == cx.threads() {
                true => self.finish(cx),
                false => cx.wake_at(cx.now() + Duration::from_millis(10)),
            }
        }
    }
}

/// Computes without a pause until as many threads as there are elastic ones are done. False if the processor's registers got mixed up.
fn spin(index: usize, threads: usize) -> bool {
    let step = [1.0, 3.0][index];
    let mut sum = 0.0;
    while DONE.load(Ordering::Relaxed) < threads {
        for _ in 0..1000 {
            sum = black_box(sum + black_box(step));
        }
        let count = SPINS[index].fetch_add(1000, Ordering::Relaxed) + 1000;
        if sum != count as f64 * step {
            println!("probe: {count} times {step} gives {sum}");
            return false;
        }
    }
    true
}

/// Sleeps many times; false if once too short.
fn nap() -> bool {
    (0..NAPS).all(|_| {
        let begin = background::now();
        background::sleep(NAP);
        background::now() - begin >= NAP
    })
}

/// What a background thread does that the kernel must not survive with it.
#[derive(Clone, Copy)]
pub enum Misdeed {
    /// Reads through a null pointer.
    Fault,
    /// Recurses into the guard below its stack.
    Overflow,
}

/// Has a background thread do that, while this one waits for events.
pub struct Misbehave(pub Misdeed);

impl Service for Misbehave {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        let misdeed = self.0;
        let started = spawn(move || match misdeed {
            Misdeed::Fault => misdeeds::fault(),
            Misdeed::Overflow => misdeeds::overflow_stack(),
        });
        if let Err(error) = started {
            println!("probe: {error}");
            cx.stop(1);
        }
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, _: Received) {}
}

/// Asks for a background thread where there is no processor for them.
pub fn without_processor() -> Result<(), String> {
    match spawn(|| ()) {
        Ok(_) => Err("a background thread was started".into()),
        Err(error) => {
            println!("probe: {error}");
            expect("a thread", system_call(SPAWN, entry(), 0), Error::BadState)
        }
    }
}

/// Calls with arguments that mean nothing, from both kinds of thread.
pub fn bad_calls() -> Result<(), String> {
    for (what, number) in [
        ("end", END),
        ("yield", YIELD),
        ("sleep", SLEEP),
        ("wait", WAIT),
    ] {
        expect(what, system_call(number, 0, 0), Error::BadState)?;
    }
    for address in [0, KERNEL_ADDRESS, 1 << 47, u64::MAX, STACK_BYTES] {
        expect(
            "an entry",
            system_call(SPAWN, address, 0),
            Error::BadAddress,
        )?;
    }
    for thread in [1, 2, 64, u64::MAX] {
        expect("a thread", system_call(NOTIFY, thread, 0), Error::Invalid)?;
    }
    if system_call(WAKE, KERNEL_ADDRESS, u64::MAX) != 0 {
        return Err("a thread was woken that does not wait".into());
    }
    finished(started(bad_calls_in_background)?)??;
    table_is_full()?;
    nobody_holds_on_for_ever()
}

fn bad_calls_in_background() -> Result<(), String> {
    expect("a round", system_call(RUN_IO, 0, 0), Error::BadState)?;
    static WORD: AtomicU64 = AtomicU64::new(5);
    let word = WORD.as_ptr() as u64;
    let on_stack = AtomicU64::new(5);
    for address in [0, word + 4, KERNEL_ADDRESS, u64::MAX - 6, u64::MAX - 7] {
        expect("a word", system_call(WAIT, address, 5), Error::BadAddress)?;
    }
    for address in [word, on_stack.as_ptr() as u64] {
        expect(
            "another value",
            system_call(WAIT, address, 6),
            Error::TryAgain,
        )?;
    }
    misdeeds::log_what_is_not_ours()?;
    misdeeds::call_numbers_that_do_not_exist()
}

/// As many threads as there can be, and one more.
fn table_is_full() -> Result<(), String> {
    static MAY_END: AtomicBool = AtomicBool::new(false);
    let wait = || {
        while !MAY_END.load(Ordering::Acquire) {
            background::sleep(Duration::from_micros(100));
        }
    };
    let threads: Result<Vec<_>, _> = (0..BACKGROUND_MAX).map(|_| started(wait)).collect();
    let threads = threads?;
    expect("one more", system_call(SPAWN, entry(), 0), Error::Exhausted)?;
    MAY_END.store(true, Ordering::Release);
    threads.into_iter().try_for_each(finished)?;
    finished(started(|| ())?)
}

/// A thread that does not let itself be interrupted, and one that runs all the same.
fn nobody_holds_on_for_ever() -> Result<(), String> {
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    static OTHER_RAN: AtomicBool = AtomicBool::new(false);
    let selfish = started(|| {
        background::hold(|| {
            IS_HELD.store(true, Ordering::Relaxed);
            while !OTHER_RAN.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        })
    })?;
    while !IS_HELD.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
    finished(started(|| OTHER_RAN.store(true, Ordering::Relaxed))?)?;
    finished(selfish)
}

/// Looks, in place of a wait, that are given up only when something hangs.
const PATIENCE: u64 = 1 << 33;

/// A thread that does `work`. The results of others are there a little before they have made room.
fn started<T: Send + 'static>(
    work: impl FnOnce() -> T + Clone + Send + 'static,
) -> Result<JoinHandle<T>, String> {
    let mut attempts = (0..PATIENCE).map(|_| spawn(work.clone()));
    let handle = attempts.find(|result| !matches!(result, Err(SpawnError::TooMany)));
    let handle = handle.ok_or("no room for a thread after others have ended")?;
    handle.map_err(|error| format!("{error}"))
}

/// What came of a thread, for an elastic thread that has nothing else to do.
fn finished<T>(mut handle: JoinHandle<T>) -> Result<T, String> {
    for _ in 0..PATIENCE {
        match handle.join() {
            Ok(result) => return Ok(result),
            Err(unfinished) => handle = unfinished,
        }
        core::hint::spin_loop();
    }
    Err("a background thread does not end".into())
}

fn expect(what: &str, result: i64, expected: Error) -> Result<(), String> {
    match result == expected.to_result() {
        true => Ok(()),
        false => Err(format!("{what}: {result} instead of {expected:?}")),
    }
}

/// An address that a thread could begin at. None does.
fn entry() -> u64 {
    entry as *const () as u64
}
