//! Reading a SafeTensors file beside the other files of a directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apr_fuzz::read(data));
