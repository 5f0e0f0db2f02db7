//! Any bytes as an application.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Most are refused.
    let _ = kernel_dp::elf::testing::fuzz(data);
});
