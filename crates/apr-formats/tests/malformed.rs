//! Files that break a rule: each is refused with its reason, and none brings the reader down.

mod common;

use apr_formats::{
    Limits, OpenError, OpenErrorKind, Source, capsule_contents, check_integrity, open, open_source, summarize,
};
use apr_model::{Checkpoint, Format};
use common::bytes::{
    APR_METADATA, Random, apr, array_value, gguf, gguf_model, safetensors, seal_apr, str_value, text_bytes, u32_value,
};
use common::in_memory;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// Reads in every way there is; gives back what `open` says.
fn read(source: &Source) -> Result<Checkpoint, OpenError> {
    let limits = Limits::default();
    let summary = summarize(source, &limits);
    let integrity = check_integrity(source, &limits);
    let checkpoint = open_source(source, &limits)?;
    let n_tensors = summary.expect("what can be opened can be listed").tensors.len();
    assert_eq!(n_tensors, checkpoint.tensors.len());
    for tensor in &checkpoint.tensors {
        let needed = apr_model::Tensor::size_bytes(&tensor.name, tensor.dtype, &tensor.shape).unwrap();
        assert_eq!(tensor.data.len(), needed, "{} has fewer bytes than it needs", tensor.name);
    }
    // A bad capsule is a reason, never the end of the file.
    let _ = (integrity, capsule_contents(&checkpoint, &limits));
    Ok(checkpoint)
}

fn detail(error: &OpenError) -> String {
    match &error.kind {
        OpenErrorKind::NotAModel { detail }
        | OpenErrorKind::Malformed { detail, .. }
        | OpenErrorKind::Unsupported { detail } => detail.clone(),
        OpenErrorKind::NotFound | OpenErrorKind::Io(_) => String::new(),
    }
}

/// `bytes` must be refused with an error that says `expect`.
fn refused(name: &str, bytes: &[u8], expect: &str) {
    let error = in_memory(name, bytes).and_then(|source| read(&source).map(|_| ())).unwrap_err().to_string();
    assert!(error.contains(expect), "{name}: {error:?} should say {expect:?}");
}

#[derive(serde::Deserialize)]
struct Case {
    file: String,
    size: u64,
    expect: String,
}

#[test]
fn every_malformed_fixture_gets_its_verdict_with_a_reason() {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(fixture("malformed/cases.json")).unwrap()).unwrap();
    assert!(cases.len() >= 65);
    for Case { file, size, expect } in cases {
        let path = fixture("malformed").join(&file);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size, "{file}");
        let located = Source::locate(&path);
        let container = located.and_then(|source| summarize(&source, &Limits::default()).map(|_| ()));
        let opened = open(&path, &Limits::default());
        match (expect.as_str(), &container) {
            ("accept" | "accept-container", Ok(())) | ("reject", Err(_)) | ("either", _) => {}
            _ => panic!("{file}: expected {expect}, got {container:?}"),
        }
        if expect != "accept" && expect != "either" {
            assert!(opened.is_err(), "{file} is no model");
        }
        for error in container.err().into_iter().chain(opened.err()) {
            assert!(detail(&error).len() >= 10, "{file}: {error}");
            assert!(error.to_string().contains(&file), "{file}: {error}");
        }
    }
}

#[test]
fn reasons_name_what_was_found() {
    for (file, expect) in [
        ("empty.gguf", "the file is empty"),
        ("bad_magic.gguf", "expected GGUF, SafeTensors or APR"),
        ("version_4.gguf", "version 4, versions 2 and 3 are read"),
        ("huge_tensor_count.gguf", "9223372036854775808 tensors, at most"),
        ("deep_nesting.gguf", "arrays nested more than 4 deep"),
        ("duplicate_key.gguf", "appears twice"),
        ("alignment_3.gguf", "general.alignment is U32(3)"),
        ("removed_tensor_type.gguf", "4 (Q4_2"),
        ("tensors_overlap.gguf", "share bytes"),
        ("q4_k_row_100.gguf", "rows of 100 elements, Q4_K needs a multiple of 256"),
        ("arch_wrong_type.gguf", "expected a string"),
        ("header_past_end.safetensors", "header needs"),
        ("header_over_100mb.safetensors", "at most 100000000 are accepted"),
        ("trailing_data.safetensors", "4 bytes after the last tensor"),
        ("bad_dtype.safetensors", "dtype \"F99\" is not supported"),
        ("dup_key.safetensors", "appears twice in the header"),
        ("missing_shape.safetensors", "has no shape"),
        ("deep_json.safetensors", "recursion limit"),
    ] {
        let path = fixture("malformed").join(file);
        let source = Source::locate(&path);
        let error = match source.and_then(|source| summarize(&source, &Limits::default())) {
            Err(error) => error,
            Ok(_) => open(&path, &Limits::default()).unwrap_err(),
        };
        assert!(error.to_string().contains(expect), "{file}: {error} should say {expect:?}");
    }
}

/// Every prefix of `bytes` up to `dense`, then every `step`-th: an error or a model, and no model without its data.
fn truncations(name: &str, bytes: &[u8], dense: usize, step: usize) {
    assert!(read(&in_memory(name, bytes).unwrap()).is_ok());
    let tail = bytes.len().saturating_sub(300)..bytes.len();
    let lengths = (0..dense.min(bytes.len())).chain((dense..bytes.len()).step_by(step)).chain(tail);
    for n in lengths {
        let Ok(source) = in_memory(name, &bytes[..n]) else { continue };
        if let Ok(checkpoint) = read(&source) {
            let needed: usize = checkpoint.tensors.iter().map(|t| t.data.len()).sum();
            assert!(needed < n, "{name} cut at {n}: {needed} bytes of tensors");
            assert!(source.format == Format::Apr, "{name} cut at {n} bytes can't be whole");
            let integrity = check_integrity(&source, &Limits::default());
            assert!(!integrity.is_ok_and(|found| found.file), "{name} cut at {n} passes its own checksum");
        }
    }
}

/// Where the data of a model starts.
fn data_start(name: &str, bytes: &[u8]) -> usize {
    let summary = summarize(&in_memory(name, bytes).unwrap(), &Limits::default()).unwrap();
    summary.tensors.iter().map(|t| t.range.start).min().unwrap()
}

fn nano_apr(model: &str) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.apr");
    let source = common::models().join(model).join(format!("gguf/{model}-Q4_0.gguf"));
    common::convert(&source, &path, Format::Apr, &Default::default()).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn every_truncation_of_a_gguf_file_is_refused() {
    for model in ["nano-qwen2", "nano-qwen3", "nano-llama"] {
        let bytes = std::fs::read(common::models().join(model).join(format!("gguf/{model}-Q4_0.gguf"))).unwrap();
        let start = data_start("x.gguf", &bytes);
        truncations("x.gguf", &bytes, start + 64, 97);
    }
}

#[test]
fn every_truncation_of_a_safetensors_file_is_refused() {
    // The files in memory beside it are those of this model.
    let bytes = std::fs::read(common::models().join("nano-qwen2/model.safetensors")).unwrap();
    let start = data_start("model.safetensors", &bytes);
    truncations("model.safetensors", &bytes, start + 64, 97);
}

#[test]
fn every_truncation_of_an_apr_file_is_refused() {
    let bytes = nano_apr("nano-qwen2");
    let start = data_start("x.apr", &bytes);
    truncations("x.apr", &bytes, start + 64, 97);
}

/// Headers with one byte changed: an error or a model, never a panic.
#[test]
fn no_changed_header_byte_brings_the_reader_down() {
    let gguf = std::fs::read(common::models().join("nano-llama/gguf/nano-llama-Q4_0.gguf")).unwrap();
    let safetensors = std::fs::read(common::models().join("nano-qwen2/model.safetensors")).unwrap();
    let apr = nano_apr("nano-qwen2");
    let mut random = Random::new(1);
    for (name, bytes) in [("x.gguf", gguf), ("model.safetensors", safetensors), ("x.apr", apr)] {
        let start = data_start(name, &bytes);
        let mut opened = 0;
        for round in 0..7000 {
            let mut changed = bytes.clone();
            // Half of the changes where the numbers are densest.
            let at = random.below(if round % 2 == 0 { start } else { start.min(512) });
            changed[at] = random.bytes(1)[0];
            if round % 3 > 0 {
                seal_apr_header(name, &mut changed);
            }
            let Ok(source) = in_memory(name, &changed) else { continue };
            opened += usize::from(read(&source).is_ok());
        }
        assert!(opened > 0, "{name}: some bytes don't matter for opening");
    }
}

fn seal_apr_header(name: &str, bytes: &mut [u8]) {
    if name == "x.apr" {
        seal_apr(bytes);
    }
}

#[test]
fn random_bytes_behind_a_magic_are_refused() {
    let mut random = Random::new(2);
    for round in 0..6000usize {
        let n = random.below(400);
        let tail = random.bytes(n);
        let head: &[u8] = match round % 4 {
            0 => b"GGUF\x03\0\0\0",
            1 => b"APR\0\x02\0\0\x04",
            2 => b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
            _ => b"\x40\0\0\0\0\0\0\0{",
        };
        let mut bytes = [head, &tail].concat();
        if round % 4 == 1 {
            seal_apr(&mut bytes);
        }
        let Ok(source) = in_memory("random", &bytes) else { continue };
        assert!(read(&source).is_err(), "{:?}", bytes.escape_ascii().to_string());
    }
}

#[test]
fn absurd_counts_are_refused_before_memory_is_taken() {
    for n in [1u64 << 31, 1 << 32, 1 << 62, u64::MAX, u64::MAX / 24 + 1] {
        let mut counts = b"GGUF\x03\0\0\0".to_vec();
        counts.extend(n.to_le_bytes());
        counts.extend(0u64.to_le_bytes());
        refused("x.gguf", &counts, "tensors, at most 131072 are accepted");
        let mut pairs = b"GGUF\x03\0\0\0".to_vec();
        pairs.extend(0u64.to_le_bytes());
        pairs.extend(n.to_le_bytes());
        refused("x.gguf", &pairs, "metadata pairs, at most");
        let text = [8u32.to_le_bytes().as_slice(), &n.to_le_bytes()].concat();
        refused("x.gguf", &gguf(&[("k", text)], &[], 0), "string value of");
        for kind in [0u32, 4, 8, 9, 12] {
            let list = [9u32.to_le_bytes().as_slice(), &kind.to_le_bytes(), &n.to_le_bytes()].concat();
            refused("x.gguf", &gguf(&[("k", list)], &[], 0), "array elements");
        }
        refused("x.gguf", &gguf_model("qwen2", &[("x", 0, &[n], 0)], 64), "bytes");
        refused("x.gguf", &gguf_model("qwen2", &[("x", 0, &[4], n / 32 * 32)], 64), "data exceeds file size");
        refused("model.safetensors", &[n.to_le_bytes().as_slice(), b"{}"].concat(), "at most 100000000");
        let header = format!(r#"{{"x":{{"dtype":"F32","shape":[{n}],"data_offsets":[0,4]}}}}"#);
        refused("model.safetensors", &safetensors(&header, 4), "x");
        let header = format!(r#"{{"x":{{"dtype":"F32","shape":[1],"data_offsets":[{n},4]}}}}"#);
        refused("model.safetensors", &safetensors(&header, 4), "before it starts");
        refused("x.apr", &apr(APR_METADATA, &[("x", 0, &[n], 0)], 64), "x");
    }
    for (range, expect) in [(8..12, "tensors"), (12..20, "sections"), (20..24, "metadata of"), (32..40, "sections")] {
        let mut file = apr(APR_METADATA, &[("x", 0, &[4], 0)], 64);
        file[range].fill(0xff);
        seal_apr(&mut file);
        refused("x.apr", &file, expect);
    }
    refused("x.gguf", &gguf_model("qwen2", &[("x", 0, &[0, 1 << 40, 1 << 40], 0)], 0), "overflows");
    let text = [8u32.to_le_bytes().as_slice(), &text_bytes("qwen2")].concat();
    let layers = [("general.architecture", text), ("qwen2.block_count", u32_value(1 << 24))];
    refused("x.gguf", &gguf(&layers, &[], 0), "missing");
    let many_layers = APR_METADATA.replace("\"num_layers\":1", "\"num_layers\":16777216");
    refused("x.apr", &apr(&many_layers, &[], 0), "num_hidden_layers is 16777216, expected between 1 and 4096");
}

#[test]
fn tensors_may_not_share_bytes_or_names() {
    let a = ("a", 0, [16u64].as_slice(), 0);
    for (b, expect) in [
        (("b", 0, [16u64].as_slice(), 32), "\"a\" and \"b\" share bytes"),
        (("b", 0, [16].as_slice(), 0), "share bytes"),
        (("a", 0, [16].as_slice(), 64), "\"a\" appears twice"),
        (("b", 0, [16].as_slice(), 1024), "data exceeds file size"),
        (("b", 0, [16].as_slice(), 33), "not a multiple of 32"),
    ] {
        refused("x.gguf", &gguf_model("qwen2", &[a, b], 128), expect);
    }
    for (b, expect) in [
        (("b", 0, [16u64].as_slice(), 0), "\"a\" and \"b\" share bytes"),
        (("a", 0, [16].as_slice(), 64), "\"a\" appears twice"),
        (("b", 0, [16].as_slice(), 1024), "data exceeds file size"),
        (("b", 0, [16].as_slice(), 33), "not a multiple of 64"),
    ] {
        refused("x.apr", &apr(APR_METADATA, &[a, b], 128), expect);
    }
    let q = "model.layers.0.self_attn.q_proj.weight";
    let same = [("blk.0.attn_q.weight", 0, [4u64].as_slice(), 0), (q, 0, [4].as_slice(), 32)];
    refused("x.gguf", &gguf_model("qwen2", &same, 64), "under their canonical name");
    let st = |second: &str| {
        let first = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
        safetensors(&format!("{{{first},{second}}}"), 16)
    };
    for (second, expect) in [
        (r#""b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#, "share bytes"),
        (r#""a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#, "\"a\" appears twice"),
        (r#""b":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}"#, "data exceeds file size"),
        (r#""b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}"#, "4 bytes that no tensor covers"),
        (r#""b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#, "4 bytes after the last tensor"),
        (r#""b":{"dtype":"F32","shape":[2],"data_offsets":[8,16],"x":1}"#, "unknown field \"x\""),
    ] {
        refused("model.safetensors", &st(second), expect);
    }
}

#[test]
fn an_unknown_dtype_is_named() {
    // ggml had this type once.
    let file = gguf_model("qwen2", &[("x", 4, &[32], 0)], 64);
    let error = in_memory("x.gguf", &file).and_then(|source| read(&source)).unwrap_err();
    assert!(matches!(error.kind, OpenErrorKind::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("4 (Q4_2, removed from ggml)"), "{error}");
    refused("x.gguf", &gguf_model("qwen2", &[("x", 200, &[4], 0)], 64), "200");
    let mut file = apr(APR_METADATA, &[("x", 4, &[4], 0)], 64);
    refused("x.apr", &file, "4 (Q4_2");
    let at = file.windows(2).rposition(|w| w == [4, 1]).unwrap();
    file[at] = 99;
    refused("x.apr", &file, "tensor \"x\": dtype 99");
    let header = r#"{"x":{"dtype":"F8","shape":[4],"data_offsets":[0,4]}}"#;
    refused("model.safetensors", &safetensors(header, 4), "tensor \"x\": dtype \"F8\" is not supported");
    // What ggml lacks has a number in APR, and none in GGUF.
    refused("x.gguf", &gguf_model("qwen2", &[("x", 160, &[4], 0)], 64), "160 (no ggml type has this id)");
    for code in [128, 129, 159, 174, 255] {
        refused("x.apr", &apr(APR_METADATA, &[("x", code, &[4], 0)], 64), &format!("dtype {code}"));
    }
}

#[test]
fn elements_smaller_than_a_byte_fill_whole_bytes() {
    let file = |dtype: &str, shape: &str, n: usize| {
        safetensors(&format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{n}]}}}}"#), n)
    };
    for (dtype, shape, n, expect) in [
        ("F4", "[3]", 1, "3 elements of F4 fill no whole number of bytes, a multiple of 2 does"),
        ("F4", "[3]", 2, "3 elements of F4"),
        ("F4", "[4]", 4, "has 4 bytes of data, F4 [4] needs 2"),
        ("F6_E2M3", "[2,3]", 5, "6 elements of F6_E2M3 fill no whole number of bytes, a multiple of 4 does"),
        ("F6_E3M2", "[4]", 4, "has 4 bytes of data, F6_E3M2 [4] needs 3"),
        ("F8_E8M0", "[4]", 3, "has 3 bytes of data, F8_E8M0 [4] needs 4"),
        ("C64", "[2]", 8, "has 8 bytes of data, C64 [2] needs 16"),
        ("BOOL", "[9]", 2, "has 2 bytes of data, BOOL [9] needs 9"),
        ("u8", "[1]", 1, "dtype \"u8\" is not supported"),
    ] {
        refused("model.safetensors", &file(dtype, shape, n), expect);
    }
    for (dtype, shape, n) in [("F4", "[2,3]", 3), ("F6_E3M2", "[4,3]", 9), ("F4", "[0]", 0), ("C64", "[]", 8)] {
        read(&in_memory("model.safetensors", &file(dtype, shape, n)).unwrap()).unwrap();
    }
}

/// Shapes that no model has, in the places where a reader might count on one.
#[test]
fn a_tensor_of_any_shape_is_a_tensor() {
    for arch in ["qwen2", "llama"] {
        for name in ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.bias", "output_norm.weight", "other"] {
            for dims in [&[] as &[u64], &[0], &[1], &[16], &[7], &[4, 0], &[0, 4], &[4, 16], &[16, 4], &[2, 2, 16, 1]] {
                let n = dims.iter().product::<u64>() as usize * 4;
                let file = gguf_model(arch, &[(name, 0, dims, 0)], n);
                let checkpoint = read(&in_memory("x.gguf", &file).unwrap()).unwrap();
                assert_eq!(checkpoint.tensors.len(), 1);
            }
        }
    }
}

#[test]
fn metadata_that_is_not_json_is_refused() {
    for (text, expect) in [
        ("", "metadata:"),
        ("{", "metadata:"),
        ("[]", "metadata:"),
        ("{\"architecture\": 3}", "metadata:"),
        ("{}", "\"architecture\" is missing"),
        ("{\"architecture\": \"unknown\", \"apr.architecture\": \"gpt-j\"}", "expected FORMAT:ARCHITECTURE"),
    ] {
        refused("x.apr", &apr(text, &[], 0), expect);
    }
    refused("x.apr", &apr(&"[".repeat(100_000), &[], 0), "metadata:");
    for (text, expect) in [("{\"a\"", "header is not the JSON expected"), ("{\"a\":3}", "not described by an object")] {
        refused("model.safetensors", &safetensors(text, 0), expect);
    }
    let header = r#"{"__metadata__":{"apr.packed":"nonsense"}}"#;
    refused("model.safetensors", &safetensors(header, 0), "\"apr.packed\" is not the JSON expected");
}

#[test]
fn a_tokenizer_that_can_not_be_is_refused() {
    let with = |pairs: Vec<(&str, Vec<u8>)>| {
        let base = common::bytes::model_pairs("qwen2");
        let mut all: Vec<_> = base.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        all.extend(pairs);
        gguf(&all, &[], 0)
    };
    let model = |name: &str| ("tokenizer.ggml.model", str_value(name));
    let tokens = |texts: &[&str]| {
        let items: Vec<_> = texts.iter().map(|text| text_bytes(text)).collect();
        ("tokenizer.ggml.tokens", array_value(8, &items))
    };
    let merges = ("tokenizer.ggml.merges", array_value(8, &[text_bytes("a b")]));
    refused("x.gguf", &with(vec![model("gpt2")]), "tokenizer.ggml.tokens");
    refused("x.gguf", &with(vec![model("bert"), tokens(&["a"])]), "bert");
    refused("x.gguf", &with(vec![model("llama"), tokens(&["a"])]), "tokenizer.ggml.scores");
    let pre = ("tokenizer.ggml.pre", str_value("no-such"));
    refused("x.gguf", &with(vec![model("gpt2"), pre, tokens(&["a"]), merges]), "no-such");
}

#[test]
fn a_long_list_of_strings_is_checked_like_a_short_one() {
    // Long enough to be read on a thread of its own; beside it a second one.
    const N: usize = 20_000;
    let list = |change: &dyn Fn(usize, Vec<u8>) -> Vec<u8>| {
        let texts: Vec<_> = (0..N).map(|i| change(i, format!("→{i}").into_bytes())).collect();
        let items = texts.iter().map(|text| [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat());
        array_value(8, &items.collect::<Vec<_>>())
    };
    let file = |key: &str, value: Vec<u8>| {
        let sound = list(&|_, text| text);
        gguf(&[("general.architecture", str_value("qwen2")), ("sound", sound), (key, value)], &[], 0)
    };
    let summary = |bytes: &[u8]| summarize(&in_memory("x.gguf", bytes)?, &Limits::default());
    let sound = summary(&file("list", list(&|_, text| text))).unwrap();
    assert!(sound.metadata.contains(&("list".to_owned(), format!("array of {N}"))), "{:?}", sound.metadata);
    let fails = |bytes: &[u8], expect: &str| {
        let error = summary(bytes).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    };
    let broken = file("list", list(&|i, text| if i == 12_345 { vec![b'a', 0xff] } else { text }));
    let at = broken.windows(2).rposition(|pair| pair == [b'a', 0xff]).unwrap();
    fails(&broken, &format!("byte {at}: metadata key \"list\": string element is not UTF-8"));
    // Two texts that are UTF-8 together and not each: the bytes of → cut in two.
    let cut = |i: usize, text: Vec<u8>| match i {
        700 => vec![0xe2],
        701 => vec![0x86, 0x92],
        _ => text,
    };
    fails(&file("list", list(&cut)), "string element is not UTF-8");
    let whole = file("list", list(&|_, text| text));
    for missing in [64, 1000, whole.len() / 2] {
        fails(&whole[..whole.len() - missing], "has");
    }
    let huge = |i: usize, text: Vec<u8>| if i == N - 1 { vec![0; 65 << 20] } else { text };
    fails(&file("list", list(&huge)), "at most 67108864 are accepted");
}

#[test]
fn what_is_no_model_says_what_it_is() {
    let work = tempfile::tempdir().unwrap();
    let dir = |name: &str, files: &[(&str, &[u8])]| {
        let dir = work.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        for (name, content) in files {
            std::fs::write(dir.join(name), content).unwrap();
        }
        dir
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n";
    let tiny = gguf_model("qwen2", &[], 0);
    for (path, expect) in [
        (dir("none", &[]), "it has no files"),
        (dir("text", &[("notes.txt", b"hello")]), "no file in this directory is a model (notes.txt)"),
        (dir("two", &[("a.gguf", &tiny), ("b.gguf", &tiny)]), "several models (a.gguf, b.gguf); name one of them"),
        (dir("lfs", &[("model.safetensors", pointer)]).join("model.safetensors"), "Git-LFS pointer"),
        (dir("lfs2", &[("model.safetensors", pointer), ("config.json", b"{}")]), "Git-LFS pointer"),
        (dir("bare", &[("x.safetensors", b"\x02\0\0\0\0\0\0\0{}")]), "no config.json lies beside it"),
        (work.path().join("absent.gguf"), "no such file or directory"),
        (PathBuf::from("/dev/null"), "neither a file nor a directory"),
    ] {
        let error = open(&path, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }
    assert!(open(&dir("one", &[("any-name", &tiny), ("notes.txt", b"hello")]), &Limits::default()).is_ok());
}

#[test]
fn an_index_can_name_only_shards_beside_it() {
    let shard = safetensors(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4);
    for (map, expect) in [
        (r#"{"a":"../x.safetensors"}"#, "\"../x.safetensors\", expected a name in .safetensors"),
        (r#"{"a":"/etc/passwd"}"#, "expected a name in .safetensors"),
        (r#"{"a":"config.json"}"#, "expected a name in .safetensors"),
        (r#"{"a":"missing.safetensors"}"#, "no such file"),
        (r#"{"a":"s.safetensors","b":"s.safetensors"}"#, "names tensor \"b\", s.safetensors does not have it"),
        (r#"{"b":"s.safetensors"}"#, "which the index does not name"),
        (r#"{"a":3}"#, "index:"),
    ] {
        let dir = common::hf_dir("nano-qwen2");
        std::fs::write(dir.path().join("s.safetensors"), &shard).unwrap();
        let index = format!(r#"{{"weight_map":{map}}}"#);
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        let error = open(dir.path(), &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }
}
