//! What time a file may cost before it is refused: it grows with its header.
#![cfg(target_os = "linux")]

mod common;

use common::bytes::{APR_METADATA, apr, array_value, gguf, model_pairs, safetensors, str_value, text_bytes};
use common::read_every_way;
use std::fs;

/// Time that this thread worked, in nanoseconds: waiting, for whatever, does not count.
fn worked_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_time_for_a_header_grows_with_its_length_and_no_faster() {
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
            (0..times).for_each(|_| read_every_way("model.safetensors", &bytes));
            worked_ns() - start
        };
        // Sixteen where each entry is held against every other. A single try can be unlucky where others use the caches.
        let mut ratios = Vec::new();
        while ratios.len() < 5 && ratios.last().is_none_or(|ratio| *ratio >= 4.0) {
            ratios.push(ns(32_000, 1) as f64 / ns(2_000, 16) as f64);
        }
        println!("{what}: of a header of 16 times the entries each takes {ratios:.1?} times as long");
        assert!(ratios.iter().any(|ratio| *ratio < 8.0), "{what}: in a header of 16 times the entries {ratios:.1?}");
    }
}
