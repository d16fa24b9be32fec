//! Whatever can be read can be written in every other format and comes back byte for byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apr_fuzz::round_trip(data));
