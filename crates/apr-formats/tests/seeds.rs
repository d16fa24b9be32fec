//! The defects that this project was started for, each with its regression test. The names are those of the reports.

mod common;

use apr_formats::{Limits, Target, WriteError, WriteOptions, open};
use apr_model::{Checkpoint, Format, TensorRole, compare_values};
use apr_tensor::{DType, codec};
use common::bytes::Random;
use common::{content, fixtures, hf_dir};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn convert(from: &Path, to: &Path, format: Format) {
    common::convert(from, to, format, &WriteOptions::default()).unwrap();
}

fn opened(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

/// The same tensors with the same values, whatever their order and dtype.
fn assert_same_values(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.tensors.len(), b.tensors.len());
    for tensor in &a.tensors {
        let other = b.tensors.get(&tensor.name).unwrap();
        let found = compare_values(tensor, other);
        assert_eq!((found.n_compared, found.n_different), (tensor.shape.n_elements() as u64, 0), "{}", tensor.name);
    }
}

/// Reports 000 (defect 1) and 205: the path that is written is the path that was asked for.
#[test]
fn seed_000_defect_1_targets_without_extension() {
    let work = tempfile::tempdir().unwrap();
    let source = &fixtures("nano-qwen2", "gguf")[2];
    let error = Target::new(&work.path().join("target"), None).unwrap_err();
    assert!(matches!(&error, WriteError::Cannot { detail, .. } if detail.contains("--to")), "{error}");
    for format in Format::ALL {
        let target = Target::new(&work.path().join(format!("target-{format}")), Some(format)).unwrap();
        convert(source, &target.path, format);
        assert_eq!(opened(&work.path().join(format!("target-{format}"))).origin.format, format);
    }
    let mut names: Vec<_> = fs::read_dir(work.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["target-APR", "target-GGUF", "target-SafeTensors"]);
}

#[test]
fn seed_000_defect_1_dots_in_names() {
    let work = tempfile::tempdir().unwrap();
    let name = |name: &str| work.path().join(name);
    for (path, to, format) in [
        ("Qwen2.5-Coder-0.5B-Instruct", Some(Format::Gguf), Some(Format::Gguf)),
        ("Qwen2.5-x", Some(Format::SafeTensors), Some(Format::SafeTensors)),
        ("Qwen2.5-x.apr", None, Some(Format::Apr)),
        ("Qwen2.5-x.converted.gguf", None, Some(Format::Gguf)),
        ("Qwen2.5-y.GGUF", None, Some(Format::Gguf)),
        ("model.", Some(Format::Apr), Some(Format::Apr)),
        (".hidden.apr", None, Some(Format::Apr)),
        ("Qwen2.5-z/", None, Some(Format::SafeTensors)),
        ("Qwen2.5-Coder-0.5B-Instruct", None, None),
        ("Qwen2.5-x", None, None),
        ("model.", None, None),
        ("x.gguf.bak", None, None),
    ] {
        let target = Target::new(&name(path), to);
        assert_eq!(target.as_ref().ok().map(|t| t.format), format, "{path} {to:?}");
        if let Ok(target) = target {
            assert_eq!(target.path, name(path), "the path is not touched");
            convert(&fixtures("nano-qwen2", "gguf")[2], &target.path, target.format);
            assert_eq!(opened(&name(path.trim_end_matches('/'))).origin.format, target.format, "{path}");
            let made = name(path);
            if made.is_dir() {
                fs::remove_dir_all(made).unwrap();
            } else {
                fs::remove_file(made).unwrap();
            }
            assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0, "{path} left something else behind");
        }
    }
}

/// Reports 000 (defect 3) and 001: a directory is a source, and so is a file whose name says nothing.
#[test]
fn seed_000_defect_3_directories() {
    let work = tempfile::tempdir().unwrap();
    let dir = hf_dir("nano-qwen2");
    let before = content(dir.path());
    let (first, second, third) = (work.path().join("first"), work.path().join("second"), work.path().join("third"));
    convert(dir.path(), &first, Format::Gguf);
    convert(&first, &second, Format::Apr);
    convert(&second, &third, Format::SafeTensors);
    assert!(content(&third) == before);
    // A directory with one model of any format in it, under any name.
    let holder = work.path().join("holder");
    fs::create_dir(&holder).unwrap();
    fs::rename(&second, holder.join("weights.bin")).unwrap();
    fs::write(holder.join("notes.txt"), "not a model").unwrap();
    let found = opened(&holder);
    assert_eq!(found.origin.format, Format::Apr);
    assert_same_values(&found, &opened(dir.path()));
}

/// A Transformers directory of 24 layers with the proportions of Qwen2.5-0.5B: 14 heads, 2 of them for keys.
fn qwen2_of_24_layers() -> TempDir {
    let (hidden, kv, ffn, vocab) = (112u64, 16u64, 608u64, 512u64);
    let mut shapes: Vec<(String, Vec<u64>)> = vec![("model.embed_tokens.weight".into(), vec![vocab, hidden])];
    for layer in 0..24 {
        let mut add = |name: &str, dims: &[u64]| shapes.push((format!("model.layers.{layer}.{name}"), dims.to_vec()));
        add("input_layernorm.weight", &[hidden]);
        add("mlp.down_proj.weight", &[hidden, ffn]);
        add("mlp.gate_proj.weight", &[ffn, hidden]);
        add("mlp.up_proj.weight", &[ffn, hidden]);
        add("post_attention_layernorm.weight", &[hidden]);
        for (name, rows) in [("q", hidden), ("k", kv), ("v", kv)] {
            add(&format!("self_attn.{name}_proj.weight"), &[rows, hidden]);
            add(&format!("self_attn.{name}_proj.bias"), &[rows]);
        }
        add("self_attn.o_proj.weight", &[hidden, hidden]);
    }
    shapes.push(("model.norm.weight".into(), vec![hidden]));
    let mut header = serde_json::Map::new();
    let mut n_bytes = 0;
    for (name, dims) in &shapes {
        let end = n_bytes + dims.iter().product::<u64>() * 2;
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": dims, "data_offsets": [n_bytes, end]}));
        n_bytes = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut data = Random::new(24).bytes(n_bytes as usize);
    // Any sign and mantissa, exponents of numbers below one: no NaN.
    data.iter_mut().skip(1).step_by(2).for_each(|high| *high = *high & 0x80 | 0x3c);
    let mut file = common::bytes::safetensors(&header, 0);
    file.extend(data);
    let dir = hf_dir("nano-qwen2");
    fs::write(dir.path().join("model.safetensors"), file).unwrap();
    let config = fs::read(dir.path().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in [
        ("hidden_size", hidden),
        ("intermediate_size", ffn),
        ("num_attention_heads", 14),
        ("num_key_value_heads", 2),
        ("num_hidden_layers", 24),
        ("vocab_size", vocab),
    ] {
        config[key] = json!(value);
    }
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

/// Report 000 (defect 4): "Tensor 'model.layers.15.self_attn.o_proj.weight' data exceeds file size".
#[test]
fn seed_000_defect_4_truncated_24_layer_writer() {
    let source = qwen2_of_24_layers();
    let before = opened(source.path());
    assert!(before.structure().is_empty(), "{:?}", before.structure());
    let work = tempfile::tempdir().unwrap();
    let (gguf, apr) = (work.path().join("x.gguf"), work.path().join("x.apr"));
    convert(source.path(), &gguf, Format::Gguf);
    convert(source.path(), &apr, Format::Apr);
    for path in [&gguf, &apr] {
        let after = opened(path);
        assert!(after.structure().is_empty(), "{:?}", after.structure());
        assert_eq!(after.tensors.len(), 1 + 24 * 12 + 1);
        assert_same_values(&before, &after);
        for tensor in &before.tensors {
            // Beside our own comparison: BF16 is the upper half of F32.
            let other = after.tensors.get(&tensor.name).unwrap();
            let halves = match other.dtype {
                DType::BF16 => other.data.to_vec(),
                DType::F32 => other.data.chunks_exact(4).flat_map(|c| [c[2], c[3]]).collect(),
                dtype => panic!("{} became {dtype}", tensor.name),
            };
            assert!(halves == *tensor.data, "{}", tensor.name);
        }
    }
    let back = work.path().join("back");
    convert(&gguf, &back, Format::SafeTensors);
    assert!(content(&back) == content(source.path()));
}

/// Reports 001 and 205: converting once more gives the same file.
#[test]
fn seed_001_conversion_is_idempotent() {
    let work = tempfile::tempdir().unwrap();
    for (n, source) in common::sources().into_iter().enumerate() {
        for format in Format::ALL {
            let [a, b] = ["a", "b"].map(|name| work.path().join(format!("{n}-{format}-{name}")));
            convert(&source, &a, format);
            convert(&source, &b, format);
            let bytes = |path: &Path| content(path).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
            assert!(bytes(&a) == bytes(&b), "{} as {format}", source.display());
        }
    }
}

/// Report 172: GGUF → APR → SafeTensors → GGUF made NaN out of K-quants.
#[test]
fn seed_004_nan_in_a_round_trip() {
    let mut n_blocks = 0;
    let sources: Vec<PathBuf> = ["tiny-qwen2", "nano-qwen2", "nano-qwen3", "nano-llama"]
        .iter()
        .flat_map(|model| fixtures(model, "gguf"))
        .filter(|path| path.to_string_lossy().contains("_K"))
        .collect();
    assert!(sources.len() >= 5);
    for source in sources {
        let work = tempfile::tempdir().unwrap();
        let [apr, dir, back] = ["x.apr", "dir", "back.gguf"].map(|name| work.path().join(name));
        convert(&source, &apr, Format::Apr);
        convert(&apr, &dir, Format::SafeTensors);
        convert(&dir, &back, Format::Gguf);
        assert!(fs::read(&back).unwrap() == fs::read(&source).unwrap(), "{}", source.display());
        for path in [&apr, &dir, &back] {
            let checkpoint = opened(path);
            for tensor in &checkpoint.tensors {
                let mut values = vec![0.0; tensor.shape.n_elements()];
                codec::decode(tensor.dtype, &tensor.data, &mut values);
                assert!(values.iter().all(|x| x.is_finite()), "{} in {}", tensor.name, path.display());
                n_blocks += usize::from(tensor.dtype.is_quantized());
            }
        }
    }
    assert!(n_blocks > 0, "there were quantised tensors to look at");
}

/// Report 185: an APR file without its tokenizer answers in another language.
#[test]
fn gh_185_lost_tokenizer() {
    for source in common::sources() {
        let before = opened(&source);
        let tokenizer = before.tokenizer.as_ref().unwrap();
        for format in Format::ALL {
            for capsule in [true, false] {
                let work = tempfile::tempdir().unwrap();
                let target = work.path().join("target");
                let options = WriteOptions { capsule, ..WriteOptions::default() };
                common::convert(&source, &target, format, &options).unwrap();
                let after = opened(&target);
                let differences = tokenizer.differences(after.tokenizer.as_ref().unwrap());
                assert_eq!(differences, [""; 0], "{} as {format}", source.display());
                assert_eq!(after.chat_templates, before.chat_templates);
                assert_eq!(after.identity(), before.identity());
            }
        }
    }
}

/// Report 182: a SafeTensors model without config.json and tokenizer.json can't be used.
#[test]
fn gh_182_safetensors_companion_files() {
    for gguf in fixtures("nano-qwen2", "gguf") {
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("dir");
        convert(&gguf, &dir, Format::SafeTensors);
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            let text = fs::read(dir.join(name)).unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(&text).unwrap().is_object(), "{name}");
        }
    }
}

/// Reports 186 and 191: blocks were read as F32, because writer and reader numbered dtypes differently.
#[test]
fn gh_191_quantised_tensors_stay_quantised() {
    for source in ["tiny-qwen2", "nano-qwen2", "nano-llama"].iter().flat_map(|model| fixtures(model, "gguf")) {
        let before = opened(&source);
        for format in [Format::Apr, Format::SafeTensors] {
            let work = tempfile::tempdir().unwrap();
            let target = work.path().join("target");
            convert(&source, &target, format);
            let after = opened(&target);
            for tensor in &before.tensors {
                let other = after.tensors.get(&tensor.name).unwrap();
                assert_eq!((other.dtype, &other.shape), (tensor.dtype, &tensor.shape), "{}", tensor.name);
            }
            let embedding = |c: &Checkpoint| c.tensors.role(TensorRole::TokenEmbed).unwrap().shape.clone();
            assert_eq!(embedding(&after), embedding(&before), "LAYOUT-002: rows stay rows");
        }
    }
}
