//! An application hurts nobody but itself: the kernel answers or stops it, says why, and goes down
//! in order.

use ix_machine::exit::GuestExit;
use ix_tests::Booted;

/// Runs one misbehaviour and expects the kernel to stop it for `cause`.
fn is_stopped(misbehaviour: &str, cause: &str) {
    let booted = Booted::start("probe", &[misbehaviour], |_| {});
    booted.line(&format!("ix: application stopped: {cause}"));
    booted.line("rip");
    booted.expect_end(GuestExit::AppFault);
}

/// Has the application use what another thread has to itself, on two CPUs.
fn is_kept_out(misbehaviour: &str, cause: &str) {
    let booted = Booted::start("probe", &[misbehaviour], |config| config.cpus = 2);
    let line = booted.line("ix: application stopped: page fault");
    assert!(line.contains(cause), "{line}");
    booted.expect_end(GuestExit::AppFault);
}

/// Runs one misbehaviour that the kernel answers with error codes.
fn is_answered(misbehaviour: &str) {
    let booted = Booted::start("probe", &[misbehaviour], |_| {});
    booted.line("ix: app: probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_null_dereference_stops_it() {
    is_stopped("fault", "page fault");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_privileged_instruction_stops_it() {
    is_stopped("cli", "general protection");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_jump_to_kernel_memory_stops_it() {
    is_stopped("jump-kernel", "page fault");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_read_of_kernel_memory_stops_it() {
    is_stopped("read-kernel", "page fault");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_write_to_an_mbuf_stops_it() {
    is_stopped("write-mbuf", "page fault");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_stack_overflow_stops_it() {
    is_stopped("stack-overflow", "page fault");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn the_thread_area_of_another_thread_is_not_there() {
    is_kept_out("read-area", "thread area of thread 1, private to it");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn the_stack_of_another_thread_is_not_there() {
    is_kept_out(
        "write-stack",
        "application stack of thread 1, private to it",
    );
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn not_even_the_kernel_reads_what_is_private_to_another_thread() {
    let booted = Booted::start("probe", &["spin"], |config| {
        config.cpus = 3;
        let trespass = ("trespass".to_owned(), "on".to_owned());
        config.kernel_options.push(trespass);
    });
    let line = booted.line("ix: panic: page fault");
    assert!(
        line.contains("thread 1, private to it) in the kernel"),
        "{line}"
    );
    let places = booted.expect_end(GuestExit::Panic).places;
    let is_named = |name: &str| places.iter().any(|place| place.contains(name));
    assert!(
        is_named("kernel_dp::bare::") && is_named("kernel-dp/src/bare/"),
        "{places:?}"
    );
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn bad_handles_are_answered() {
    is_answered("bad-handle");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn bad_pointers_are_answered() {
    is_answered("bad-pointer");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn bad_calls_are_answered() {
    is_answered("bad-call");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn bad_texts_for_the_log_are_answered() {
    is_answered("bad-log");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn unknown_system_calls_are_answered() {
    is_answered("bad-syscall");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn its_exit_code_is_reported() {
    let booted = Booted::start("probe", &["exit", "3"], |_| {});
    booted.line("ix: application exited with code 3");
    booted.expect_end(GuestExit::AppFailed);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn its_panic_is_reported_with_the_place() {
    let booted = Booted::start("probe", &["panic"], |_| {});
    booted.line("panicked at");
    booted.expect_end(GuestExit::AppFailed);
}
