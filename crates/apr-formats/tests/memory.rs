//! A conversion holds a few chunks, whatever the model's size. Alone in its file, because it measures its process.
#![cfg(target_os = "linux")]

mod common;

use apr_formats::WriteOptions;
use apr_model::Format;
use std::fs::{self, File};

/// Most memory of a conversion beside the largest tensor.
const ALLOWANCE: u64 = 256 << 20;

/// A matrix of the model has this many columns or rows, and 512 of the other.
const FFN: u64 = 14336;
const N_LAYERS: u64 = 8;

/// A Transformers directory of 336 MiB of bfloat16 zeros, which take no room on the disk.
fn large_model() -> tempfile::TempDir {
    let dir = common::hf_dir("nano-qwen2");
    let config = fs::read(dir.path().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["hidden_size"] = 512.into();
    config["intermediate_size"] = FFN.into();
    config["num_hidden_layers"] = N_LAYERS.into();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for layer in 0..N_LAYERS {
        for (name, dims) in [("down", [512, FFN]), ("gate", [FFN, 512]), ("up", [FFN, 512])] {
            let start = end;
            end += 2 * dims[0] * dims[1];
            let entry = serde_json::json!({"dtype": "BF16", "shape": dims, "data_offsets": [start, end]});
            header.insert(format!("model.layers.{layer}.mlp.{name}_proj.weight"), entry);
        }
    }
    let start = common::bytes::safetensors(&serde_json::Value::Object(header).to_string(), 0);
    let path = dir.path().join("model.safetensors");
    fs::write(&path, &start).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(start.len() as u64 + end).unwrap();
    dir
}

/// The most memory that this process had since the last call, mapped files counted with it, in bytes.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    1024 * kib
}

#[test]
fn a_conversion_needs_the_largest_tensor_and_256_mib() {
    let work = tempfile::tempdir().unwrap();
    let source = large_model();
    let (gguf, apr) = (work.path().join("x.gguf"), work.path().join("x.apr"));
    peak_bytes();
    for (from, to, format) in [
        (source.path(), &gguf, Format::Gguf),
        (&gguf, &apr, Format::Apr),
        (&apr, &work.path().join("dir"), Format::SafeTensors),
    ] {
        let written = common::convert(from, to, format, &WriteOptions::default()).unwrap();
        let n_bytes: u64 = written.files.iter().map(|file| file.len_bytes).sum();
        let (peak, bound) = (peak_bytes(), 2 * 512 * FFN + ALLOWANCE);
        assert!(bound < n_bytes, "holding the model would be no error: {n_bytes} bytes");
        assert!(peak <= bound, "{format}: {peak} bytes of memory, {bound} are allowed");
        // What is measured, and not merely the test: a conversion holds more than nothing.
        assert!(peak > 1 << 20);
        if from != source.path() {
            fs::remove_file(from).unwrap();
        }
    }
}
