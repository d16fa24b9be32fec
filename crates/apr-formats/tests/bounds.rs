//! What a file may cost before it is refused: memory, which its length bounds, and time, which grows with its header.
#![cfg(target_os = "linux")]

mod common;

use apr_formats::{Limits, capsule_contents, check_integrity, open_source, summarize};
use common::bytes::{
    APR_METADATA, Random, apr, array_value, gguf, model_pairs, safetensors, seal_apr, str_value, text_bytes,
};
use common::in_memory;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::sync::Mutex;

/// Held by a test that says something about its process.
static ALONE: Mutex<()> = Mutex::new(());

/// Reads in every way there is, whatever comes of it.
fn read(name: &str, bytes: &[u8]) {
    let Ok(source) = in_memory(name, bytes) else { return };
    let limits = Limits::default();
    let _ = (summarize(&source, &limits).is_ok(), check_integrity(&source, &limits).is_ok());
    if let Ok(checkpoint) = open_source(&source, &limits) {
        let _ = capsule_contents(&checkpoint, &limits).is_ok();
    }
}

/// The whole process is held to 64 MiB: what asks for more is refused them by the system, and ends it.
#[test]
fn a_file_of_a_hundred_bytes_never_takes_64_mib() {
    let _alone = ALONE.lock().unwrap();
    let whole = getrlimit(Resource::Data);
    setrlimit(Resource::Data, Rlimit { current: Some(64 << 20), ..whole }).unwrap();
    let mut n = 0;
    for target in ["gguf", "safetensors", "apr", "roundtrip"] {
        let dir = common::models().join("../fuzz/corpus").join(target);
        for entry in fs::read_dir(dir).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let short = &bytes[..bytes.len().min(100)];
            read("model.safetensors", short);
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
                read("model.safetensors", &bytes);
            }
        }
    }
    // The limit is one: what does need more is refused it.
    assert!(Vec::<u8>::new().try_reserve_exact(64 << 20).is_err());
    setrlimit(Resource::Data, whole).unwrap();
}

/// Time that this thread worked, in nanoseconds: waiting, for whatever, does not count.
fn worked_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_time_for_a_header_grows_with_its_length_and_no_faster() {
    let _alone = ALONE.lock().unwrap();
    let name = |i: usize| format!("model.layers.{i}.a tensor with a long name that begins as every other one does");
    let gguf_tensors = |n: usize| {
        let (names, dims) = ((0..n).map(name).collect::<Vec<_>>(), [8u64]);
        let pairs = model_pairs("qwen2");
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let tensors: Vec<_> =
            names.iter().enumerate().map(|(i, name)| (name.as_str(), 0, &dims[..], 32 * i as u64)).collect();
        gguf(&pairs, &tensors, 32 * n)
    };
    let gguf_pairs = |n: usize| {
        let keys: Vec<_> = (0..n).map(name).collect();
        gguf(&keys.iter().map(|key| (key.as_str(), str_value(key))).collect::<Vec<_>>(), &[], 0)
    };
    let gguf_list = |n: usize| {
        gguf(&[("list", array_value(8, &(0..20 * n).map(|i| text_bytes(&name(i))).collect::<Vec<_>>()))], &[], 0)
    };
    let apr_tensors = |n: usize| {
        let (names, dims) = ((0..n).map(name).collect::<Vec<_>>(), [16u64]);
        let tensors: Vec<_> =
            names.iter().enumerate().map(|(i, name)| (name.as_str(), 0, &dims[..], 64 * i as u64)).collect();
        apr(APR_METADATA, &tensors, 64 * n)
    };
    let apr_keys = |n: usize| {
        let keys: String = (0..n).map(|i| format!("{:?}:1,", name(i))).collect();
        apr(&APR_METADATA.replacen('{', &format!("{{{keys}"), 1), &[], 0)
    };
    let safetensors_tensors = |n: usize| {
        let entry = |i: usize| {
            format!(r#"{:?}:{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, name(i), 4 * i, 4 * i + 4)
        };
        safetensors(&format!("{{{}}}", (0..n).map(entry).collect::<Vec<_>>().join(",")), 4 * n)
    };
    let safetensors_metadata = |n: usize| {
        let entries: Vec<_> = (0..n).map(|i| format!("{:?}:\"v\"", name(i))).collect();
        safetensors(&format!("{{\"__metadata__\":{{{}}}}}", entries.join(",")), 0)
    };
    type Build<'a> = &'a dyn Fn(usize) -> Vec<u8>;
    let cases: [(&str, Build<'_>); 7] = [
        ("tensors of GGUF", &gguf_tensors),
        ("pairs of GGUF", &gguf_pairs),
        ("a list of GGUF", &gguf_list),
        ("tensors of APR", &apr_tensors),
        ("keys of APR", &apr_keys),
        ("tensors of SafeTensors", &safetensors_tensors),
        ("metadata of SafeTensors", &safetensors_metadata),
    ];
    for (what, build) in cases {
        // As many entries in one header and in sixteen; often enough that the clock's ticks don't matter.
        let ns = |n: usize, times: usize| {
            let bytes = build(n);
            let start = worked_ns();
            (0..times).for_each(|_| read("model.safetensors", &bytes));
            worked_ns() - start
        };
        let (short, long) = (ns(2_000, 16), ns(32_000, 1));
        let ratio = long as f64 / short as f64;
        println!("{what}: 16 headers of 2,000 entries {short} ns, one of 32,000 {long} ns");
        // Sixteen where each entry is held against every other.
        assert!(ratio < 4.0, "{what}: in a header of 16 times the entries each takes {ratio:.1} times as long");
    }
}
