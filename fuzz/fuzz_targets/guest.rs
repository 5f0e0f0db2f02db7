//! Any register writes, ring contents, frames and doorbells of a guest.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ix82599::testing::guest(data);
});
