//! Any messages of a vfio-user client, with any files, and bytes that are no messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ix82599::testing::messages(data);
});
