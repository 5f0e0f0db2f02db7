//! Segments that nearly fit live connections, between calls.

#![no_main]

use ix_net::testing::{FuzzMode, fuzz};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz(FuzzMode::Segments, data);
});
