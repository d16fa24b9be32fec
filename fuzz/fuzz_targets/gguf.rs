//! Reading a file that claims to be GGUF.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apr_fuzz::read(data));
