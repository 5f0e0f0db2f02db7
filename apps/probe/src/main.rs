//! Applications that misbehave, and a few that behave in ways that an echo server does not: one
//! image for the tests of the kernel, told by its first argument what to do.
//!
//! Misdeeds that the kernel answers end with `probe: ok` on the log and exit code 0, or with a
//! line on what was wrong and exit code 1. Those that it must not survive are in [`misdeeds`].

#![cfg_attr(bare, no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

mod away;
mod background;
#[expect(unsafe_code, reason = "calls are made by hand")]
mod bad_calls;
mod crowd;
mod half_close;
#[expect(unsafe_code, reason = "to do what safe code cannot do is the purpose")]
mod misdeeds;
mod talk;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;

use libix::{EXIT_USAGE, println};

use background::{Exchange, Misbehave, Misdeed};
use crowd::{Callers, Crowd, FaultOn};

const USAGE: &str = "usage: probe hello | exit CODE | panic | spin
    | fault | cli | jump-kernel | read-kernel | write-mbuf | stack-overflow
    | read-area | write-stack
    | bad-call | bad-handle | bad-pointer | bad-log | bad-syscall
    | connect ADDRESS PORT MESSAGE | half-close PORT BYTES
    | away PORT | crowd PORT | call ADDRESS PORT MESSAGE | fault-on THREAD
    | exchange PORT | exchange-alone | background-fault | background-overflow
    | background-bad-call | background-none";

fn start(arguments: &[&str]) -> i32 {
    match *arguments {
        ["hello"] => {
            println!("hello from ring 3");
            0
        }
        ["exit", code] => code.parse().unwrap_or_else(|_| usage()),
        ["panic"] => panic!("as told"),
        ["spin"] => misdeeds::spin(),
        ["fault"] => misdeeds::fault(),
        ["cli"] => misdeeds::cli(),
        ["jump-kernel"] => misdeeds::jump_to_kernel(),
        ["read-kernel"] => misdeeds::read_kernel(),
        ["write-mbuf"] => misdeeds::write_mbuf(),
        ["read-area"] => misdeeds::read_area_of_another_thread(),
        ["write-stack"] => misdeeds::write_stack_of_another_thread(),
        ["stack-overflow"] => misdeeds::overflow_stack(),
        ["bad-log"] => report(misdeeds::log_what_is_not_ours()),
        ["bad-syscall"] => report(misdeeds::call_numbers_that_do_not_exist()),
        ["bad-call"] => report(bad_calls::calls()),
        ["bad-handle"] => report(bad_calls::handles()),
        ["bad-pointer"] => report(bad_calls::pointers()),
        ["connect", address, port, message] => match (address.parse(), port.parse()) {
            (Ok(address), Ok(port)) => talk::run(address, port, message),
            _ => usage(),
        },
        ["half-close", port, bytes] => match (port.parse(), bytes.parse()) {
            (Ok(port), Ok(bytes)) => half_close::run(port, bytes),
            _ => usage(),
        },
        ["away", port] => match port.parse() {
            Ok(port) => libix::run(away::Away { port }),
            Err(_) => usage(),
        },
        ["crowd", port] => match port.parse() {
            Ok(port) => libix::run(Crowd { port }),
            Err(_) => usage(),
        },
        ["call", address, port, message] => match (address.parse(), port.parse()) {
            (Ok(address), Ok(port)) => {
                libix::run(Callers::new(SocketAddr::new(address, port), message))
            }
            _ => usage(),
        },
        ["fault-on", thread] => match thread.parse() {
            Ok(thread) => libix::run(FaultOn { thread }),
            Err(_) => usage(),
        },
        ["exchange", port] => match port.parse() {
            Ok(port) => libix::run(Exchange::new(port, false)),
            Err(_) => usage(),
        },
        ["exchange-alone"] => libix::run(Exchange::new(7, true)),
        ["background-fault"] => libix::run(Misbehave(Misdeed::Fault)),
        ["background-overflow"] => libix::run(Misbehave(Misdeed::Overflow)),
        ["background-bad-call"] => report(background::bad_calls()),
        ["background-none"] => report(background::without_processor()),
        _ => usage(),
    }
}

fn usage() -> i32 {
    println!("{USAGE}");
    EXIT_USAGE
}

/// Says how a test within the application went.
fn report(outcome: Result<(), alloc::string::String>) -> i32 {
    match outcome {
        Ok(()) => {
            println!("probe: ok");
            0
        }
        Err(what) => {
            println!("probe: {what}");
            1
        }
    }
}

libix::main!(start);
