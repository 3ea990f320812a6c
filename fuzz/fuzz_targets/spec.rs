//! Any bytes as a spec: accepted or refused with faults, never a panic, and the same answer again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pgmoor_fuzz::judge(bytes);
});
