//! Any calls by the application, between any frames.

#![no_main]

use ix_net::testing::{FuzzMode, fuzz};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz(FuzzMode::Calls, data);
});
