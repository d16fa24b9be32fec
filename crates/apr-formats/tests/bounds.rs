//! What memory a file may cost before it is refused: its length bounds it. Alone in its process, which it holds to a limit.
#![cfg(target_os = "linux")]

mod common;

use common::bytes::{Random, seal_apr};
use common::read_every_way;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// The whole process is held to 64 MiB: what asks for more is refused them by the system, and ends it.
#[test]
fn a_file_of_a_hundred_bytes_never_takes_64_mib() {
    let whole = getrlimit(Resource::Data);
    setrlimit(Resource::Data, Rlimit { current: Some(64 << 20), ..whole }).unwrap();
    let mut n = 0;
    for target in ["gguf", "safetensors", "apr", "roundtrip"] {
        let dir = common::models().join("../fuzz/corpus").join(target);
        for entry in fs::read_dir(dir).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let short = &bytes[..bytes.len().min(100)];
            read_every_way("model.safetensors", short);
            n += 1;
        }
    }
    assert!(n > 100, "the corpus is there");
    // Every field of a count or a length, at its largest and at sizes that caps allow.
    let heads: [&[u8]; 3] = [
        b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0k\x09\0\0\0\x08\0\0\0\xff\xff\xff\0\0\0\0\0",
        b"APR\0\x02\0\0\x04\x01\0\0\0\x40\0\0\0\0\0\0\0\x02\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0",
        b"\x40\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
    ];
    let mut random = Random::new(100);
    for head in heads {
        for at in 4..head.len() {
            for value in [&[0xffu8; 8][..], &[0, 0, 0, 4, 0, 0, 0, 0], &[0xff, 0xff, 1, 0], &[0xff, 0xff, 0xff, 0]] {
                let mut bytes = [head, &random.bytes(100 - head.len().min(100))].concat();
                let end = bytes.len().min(at + value.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
                bytes.truncate(100);
                seal_apr(&mut bytes);
                read_every_way("model.safetensors", &bytes);
            }
        }
    }
    // The limit is one: what does need more is refused it.
    assert!(Vec::<u8>::new().try_reserve_exact(64 << 20).is_err());
    setrlimit(Resource::Data, whole).unwrap();
}
