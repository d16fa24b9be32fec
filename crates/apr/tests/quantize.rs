//! `apr quantize`: against files that llama.cpp quantised from the same model, and what it refuses.

mod support;

use apr_formats::gguf::{Header, Value as Pair};
use apr_formats::{Limits, open};
use apr_model::Checkpoint;
use apr_tensor::codec;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{code, json, nano, repository, run, stderr};

fn tiny(name: &str) -> String {
    repository(&format!("models/tiny-qwen2/gguf/tiny-qwen2-{name}.gguf")).to_str().unwrap().to_owned()
}

fn quantize(source: &str, target: &Path, file_type: &str, options: &[&str]) -> Output {
    run(&[&["quantize", source, target.to_str().unwrap(), "--type", file_type, "--json"], options].concat())
}

fn done(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", stderr(output));
    json(output)
}

fn checkpoint(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Values of a tensor, in the order of the file.
fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensors.get(name).unwrap();
    let mut values = vec![0.0; tensor.shape.n_elements()];
    codec::decode(tensor.dtype, &tensor.data, &mut values);
    values
}

fn rmse(a: &[f32], b: &[f32]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

/// `models/README.md` says how llama.cpp's quantiser made these files.
#[test]
fn every_tensor_has_the_dtype_and_at_most_the_error_that_llama_cpp_gives_it() {
    let work = tempfile::tempdir().unwrap();
    let tiny = tiny as fn(&str) -> String;
    let cases = [
        (tiny, "BF16", "Q2_K"),
        (tiny, "BF16", "Q4_K_M"),
        (tiny, "BF16", "Q5_K_M"),
        (tiny, "BF16", "Q6_K"),
        (tiny, "BF16", "IQ4_XS"),
        (tiny, "BF16", "Q8_0"),
        (nano, "BF16", "Q4_0"),
        (nano, "BF16", "Q4_1"),
        (nano, "BF16", "Q5_0"),
        (nano, "BF16", "Q5_1"),
        (nano, "BF16", "IQ4_NL"),
        (nano, "BF16", "Q4_K_M"),
        (nano, "BF16", "Q6_K"),
    ];
    for (model, from, file_type) in cases {
        let target = work.path().join(format!("{file_type}.gguf"));
        let report = done(&quantize(&model(from), &target, file_type, &["--force"]));
        let (source, ours, theirs) =
            (checkpoint(model(from).as_ref()), checkpoint(&target), checkpoint(model(file_type).as_ref()));
        let reported = report["tensors"].as_array().unwrap();
        assert_eq!(reported.len(), theirs.tensors.len());
        for tensor in reported {
            let name = tensor["tensor"].as_str().unwrap();
            let (a, b) = (ours.tensors.get(name).unwrap(), theirs.tensors.get(name).unwrap());
            assert_eq!((a.dtype, tensor["to"].as_str().unwrap()), (b.dtype, b.dtype.name()), "{file_type} {name}");
            let before = values(&source, name);
            let (error, of_llama_cpp) = (rmse(&before, &values(&ours, name)), rmse(&before, &values(&theirs, name)));
            assert!(error <= of_llama_cpp, "{file_type} {name} {}: {error} > {of_llama_cpp}", a.dtype);
            let stated = tensor["error"]["rmse"].as_f64().unwrap_or(0.0);
            assert!((stated - error).abs() <= 1e-9 * error, "{file_type} {name}: {stated} stated, {error} found");
        }
    }
}

#[test]
fn the_file_says_what_it_is_and_shows_fallbacks() {
    let work = tempfile::tempdir().unwrap();
    let target = work.path().join("x.gguf");
    let report = done(&quantize(&nano("F16"), &target, "q4_k_s", &[]));
    assert_eq!((&report["file_type"], &report["dry_run"]), (&"Q4_K_S".into(), &false.into()));
    let find =
        |name: &str| report["tensors"].as_array().unwrap().iter().find(|tensor| tensor["tensor"] == name).unwrap();
    // The head, for which rows of 64 don't fit from the start.
    let embedding = find("model.embed_tokens.weight");
    assert_eq!((&embedding["to"], &embedding["wanted"]), (&"Q8_0".into(), &Value::Null), "{embedding}");
    let q = find("model.layers.0.self_attn.q_proj.weight");
    assert_eq!((&q["to"], &q["wanted"]), (&"Q5_0".into(), &"Q4_K".into()));
    for key in ["max_abs", "rmse", "nmse", "cosine"] {
        assert!(q["error"][key].as_f64().unwrap() > 0.0, "{q}");
    }
    let bytes = std::fs::read(&target).unwrap();
    let header = Header::parse(&bytes, &Limits::default()).unwrap();
    assert_eq!(header.get("general.file_type"), Some(&Pair::U32(14)));
    assert_eq!(header.get("general.quantization_version"), Some(&Pair::U32(2)));
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let mut bytes = Vec::new();
    for threads in ["1", "2", "5"] {
        done(&quantize(&tiny("BF16"), &path(threads), "Q3_K_M", &["--to", "gguf", "--threads", threads]));
        bytes.push(std::fs::read(path(threads)).unwrap());
    }
    assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
    // Values come by way of another format to the same blocks.
    done(&quantize(repository("models/tiny-qwen2").to_str().unwrap(), &path("apr"), "Q3_K_M", &["--to", "apr"]));
    let (a, b) = (checkpoint(&path("1")), checkpoint(&path("apr")));
    for tensor in a.tensors.iter().filter(|tensor| tensor.dtype.is_quantized()) {
        assert!(*tensor.data == *b.tensors.get(&tensor.name).unwrap().data, "{}", tensor.name);
    }
}

#[test]
fn a_dry_run_tells_the_dtypes_and_writes_nothing() {
    let work = tempfile::tempdir().unwrap();
    let target = work.path().join("x.gguf");
    let dry = done(&quantize(&tiny("BF16"), &target, "Q4_K_M", &["--dry-run"]));
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0);
    let real = done(&quantize(&tiny("BF16"), &target, "Q4_K_M", &[]));
    let without_error = |report: &Value| {
        let mut tensors = report["tensors"].clone();
        tensors.as_array_mut().unwrap().iter_mut().for_each(|tensor| tensor["error"] = Value::Null);
        tensors
    };
    assert_eq!(without_error(&dry), without_error(&real));
    assert_eq!(dry["bytes_after"], real["bytes_after"]);
    assert_eq!(code(&quantize(&tiny("BF16"), &target, "Q4_K_M", &[])), 7, "it exists already");
}

#[test]
fn dtypes_can_be_chosen_by_name() {
    let work = tempfile::tempdir().unwrap();
    let options = ["--tensor-type", r"^blk\.0\.ffn=q6_k", "--tensor-type", "mlp|embed=IQ4_NL", "--dry-run"];
    let report = done(&quantize(&tiny("BF16"), &work.path().join("x.gguf"), "Q4_0", &options));
    let dtype = |name: &str| {
        let found = report["tensors"].as_array().unwrap().iter().find(|tensor| tensor["tensor"] == name).unwrap();
        found["to"].as_str().unwrap().to_owned()
    };
    assert_eq!(dtype("model.layers.0.mlp.up_proj.weight"), "Q6_K");
    assert_eq!(dtype("model.layers.1.mlp.up_proj.weight"), "IQ4_NL");
    assert_eq!(dtype("model.embed_tokens.weight"), "IQ4_NL");
    assert_eq!(dtype("model.layers.1.self_attn.q_proj.weight"), "Q4_0");
    assert_eq!(dtype("model.layers.0.input_layernorm.weight"), "F32", "no matrix");
}

/// A copy of nano-qwen2 in which one value is another.
fn with_value(work: &Path, tensor: &str, index: usize, bits: u16) -> PathBuf {
    let copy = work.join("damaged");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(repository("models/nano-qwen2")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let weights = copy.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let at = start + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 2 * index;
    bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    copy
}

#[test]
fn a_value_that_is_not_finite_is_an_error_that_names_it() {
    // BF16: NaN, infinity, and a number that F16 has no room for.
    for (tensor, index, bits, file_type, says) in [
        ("model.layers.1.mlp.up_proj.weight", 64 * 7 + 5, 0x7fc0, "Q4_K_M", "value 453 (row 7, column 5) is NaN"),
        ("model.layers.0.self_attn.q_proj.weight", 3, 0xff80, "F16", "value 3 (row 0, column 3) is -inf in the source"),
        ("model.norm.weight", 9, 0x7f80, "Q8_0", "value 9 (row 0, column 9) is inf"),
        ("model.embed_tokens.weight", 65, 0x7f00, "F16", "value 65 (row 1, column 1) is inf as F16"),
        ("model.embed_tokens.weight", 65, 0x7f00, "Q4_0", "too large for the f16 scale"),
    ] {
        let work = tempfile::tempdir().unwrap();
        let source = with_value(work.path(), tensor, index, bits);
        for target in ["x.gguf", "x.apr"] {
            let output = quantize(source.to_str().unwrap(), &work.path().join(target), file_type, &[]);
            assert_eq!(code(&output), 5, "{}", stderr(&output));
            let message = stderr(&output);
            assert!(message.contains(tensor) && message.contains(says), "{message}");
            assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1, "nothing but the source is there");
        }
    }
}

/// The old format of importance matrices.
fn list(entries: &[(&str, Vec<f32>)]) -> Vec<u8> {
    let mut bytes = (entries.len() as u32).to_le_bytes().to_vec();
    for (name, values) in entries {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(2u32.to_le_bytes());
        bytes.extend((values.len() as u32).to_le_bytes());
        // Means come multiplied with the number of calls.
        bytes.extend(values.iter().flat_map(|value| (2.0 * value).to_le_bytes()));
    }
    bytes
}

/// The format in GGUF, with three tokens counted.
fn gguf(entries: &[(&str, Vec<f32>)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((2 * entries.len() as u64).to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend([text("general.type"), 8u32.to_le_bytes().to_vec(), text("imatrix")].concat());
    let mut data = Vec::new();
    for (name, values) in entries {
        for (suffix, numbers) in
            [("in_sum2", values.iter().map(|value| 3.0 * value).collect()), ("counts", vec![3.0f32])]
        {
            bytes.extend(text(&format!("{name}.{suffix}")));
            bytes.extend(2u32.to_le_bytes());
            bytes.extend((numbers.len() as u64).to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
            bytes.extend(0u32.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    [bytes, data].concat()
}

#[test]
fn importance_is_read_in_both_formats_and_lowers_the_error_where_it_is_high() {
    let work = tempfile::tempdir().unwrap();
    let source = checkpoint(tiny("BF16").as_ref());
    let names: Vec<(String, String, usize)> = source
        .tensors
        .iter()
        .filter(|tensor| tensor.shape.dims().len() == 2 && tensor.name.contains("layers"))
        .map(|tensor| {
            (
                tensor.name.clone(),
                tensor.role.unwrap().gguf_name(source.spec.arch().unwrap()),
                tensor.shape.row_elements(),
            )
        })
        .collect();
    // Powers of two, so that counts divide out.
    let weight = |column: usize| if column % 8 == 3 { 64.0 } else { 0.25 };
    let entries: Vec<(&str, Vec<f32>)> =
        names.iter().map(|(_, name, columns)| (name.as_str(), (0..*columns).map(weight).collect())).collect();
    let path = |name: &str| work.path().join(name);
    std::fs::write(path("list.dat"), list(&entries)).unwrap();
    std::fs::write(path("in.gguf"), gguf(&entries)).unwrap();
    let quantize_by = |matrix: &str| {
        let matrix = path(matrix);
        quantize(&tiny("BF16"), &path("out.gguf"), "Q4_K_S", &["--imatrix", matrix.to_str().unwrap(), "--force"])
    };
    let report = done(&quantize_by("list.dat"));
    let n_used = report["tensors"].as_array().unwrap().iter().filter(|tensor| tensor["by_importance"] == true).count();
    assert_eq!(n_used, names.len());
    let by_list = std::fs::read(path("out.gguf")).unwrap();
    done(&quantize_by("in.gguf"));
    assert!(by_list == std::fs::read(path("out.gguf")).unwrap());

    done(&quantize(&tiny("BF16"), &path("plain.gguf"), "Q4_K_S", &[]));
    let (with, without) = (checkpoint(&path("out.gguf")), checkpoint(&path("plain.gguf")));
    for (name, _, columns) in &names {
        let before = values(&source, name);
        let error = |after: &Checkpoint| -> f64 {
            let squares = before.iter().zip(values(after, name)).map(|(a, b)| f64::from(a - b).powi(2));
            squares.enumerate().map(|(i, square)| f64::from(weight(i % columns)) * square).sum()
        };
        assert!(error(&with) < error(&without), "{name}");
    }

    let refuse = |bytes: Vec<u8>, says: &str| {
        std::fs::write(path("wrong"), bytes).unwrap();
        let output = quantize_by("wrong");
        assert_ne!(code(&output), 0);
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    };
    refuse(list(&[&entries[..], &[("blk.9.attn_q.weight", vec![1.0; 256])]].concat()), "blk.9.attn_q.weight");
    refuse(list(&entries[1..]), &names[0].0);
    let mut wrong = entries.clone();
    wrong[2].1.pop();
    refuse(list(&wrong), &names[2].0);
    wrong = entries.clone();
    wrong[1].1[4] = f32::NAN;
    refuse(gguf(&wrong), &names[1].1);
    refuse(b"GGUF".to_vec(), "malformed");
    refuse(b"\x01\0\0\0 no such format".to_vec(), "not an importance matrix");
}

#[test]
fn what_cannot_be_is_refused_with_the_next_step() {
    let work = tempfile::tempdir().unwrap();
    let refuse = |source: &str, target: &str, file_type: &str, options: &[&str], status: i32, says: &str| {
        let output = quantize(source, &work.path().join(target), file_type, options);
        assert_eq!(code(&output), status, "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{} should say {says:?}", stderr(&output));
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0);
    };
    let bf16 = nano("BF16");
    refuse(&bf16, "x.gguf", "Q9_K", &[], 2, "no file type is called \"Q9_K\"; there are F16");
    refuse(&bf16, "x.safetensors", "Q4_0", &[], 5, "model.embed_tokens.weight: SafeTensors has no Q8_0");
    refuse(&nano("Q8_0"), "x.gguf", "Q4_0", &[], 5, "is Q8_0 already");
    refuse(&bf16, "x.gguf", "Q4_0", &["--tensor-type", "nothing=q8_0"], 2, "no tensor has such a name");
    refuse(&bf16, "x.gguf", "Q4_0", &["--tensor-type", "ffn=iq1_s"], 9, "does not encode it");
    refuse(&bf16, "x.gguf", "Q4_0", &["--tensor-type", "(=q8_0"], 2, "unclosed group");
    let target = work.path().join("x.gguf");
    done(&quantize(&nano("Q8_0"), &target, "Q4_0", &["--allow-requantize"]));
    done(&quantize(&bf16, &work.path().join("half"), "F16", &["--to", "safetensors"]));
}
