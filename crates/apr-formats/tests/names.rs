//! Files of the hub whose tensors are not called as Transformers would save them, and tables among them: the model is the
//! same, and the way back gives the files.

mod common;

use apr_formats::{Limits, Source, WriteOptions, Written, open, summarize};
use apr_model::{Checkpoint, Format};
use common::content;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const N: usize = 64;

/// A causal mask as `openai-community/gpt2` has one in each layer.
fn mask(dtype: &str) -> Vec<u8> {
    let (one, zero): (&[u8], &[u8]) = match dtype {
        "F32" => (&[0, 0, 0x80, 0x3f], &[0; 4]),
        "U8" | "BOOL" => (&[1], &[0]),
        other => panic!("{other}"),
    };
    let row = |i: usize| (0..N).flat_map(move |j| if j <= i { one } else { zero }.iter().copied());
    (0..N).flat_map(row).collect()
}

/// The gpt2 of the fixtures, its names without their first part, with these tensors before its own.
fn gpt2(dir: &Path, tables: &[(String, &str, Vec<u8>)]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families/gpt2");
    let file = std::fs::read(source.join("model.safetensors")).unwrap();
    let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let stored: Map<String, Value> = serde_json::from_slice(&file[8..start]).unwrap();
    let mut data = Vec::new();
    let mut header = Map::new();
    for (name, dtype, bytes) in tables {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend(bytes);
        header.insert(name.clone(), json!({"dtype": dtype, "shape": [1, 1, N, N], "data_offsets": offsets}));
    }
    let shift = data.len() as u64;
    for (name, mut info) in stored {
        if let Some(bare) = name.strip_prefix("transformer.") {
            let offsets = [0, 1].map(|i| info["data_offsets"][i].as_u64().unwrap() + shift);
            info["data_offsets"] = json!(offsets);
            header.insert(bare.to_owned(), info);
        } else {
            assert_eq!(name, "__metadata__");
            header.insert(name, info);
        }
    }
    data.extend(&file[start..]);
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    std::fs::create_dir_all(dir).unwrap();
    std::fs::copy(source.join("config.json"), dir.join("config.json")).unwrap();
    let file = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &data].concat();
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
    dir.to_owned()
}

fn opened(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn convert(from: &Path, to: &Path, format: Format) -> Written {
    common::convert(from, to, format, &WriteOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn tables(names: [&str; 3], dtype: &'static str) -> Vec<(String, &'static str, Vec<u8>)> {
    names.map(|name| (name.to_owned(), dtype, mask(dtype))).to_vec()
}

#[test]
fn names_without_their_first_part_are_the_same_model() {
    let original = opened(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families/gpt2"));
    for dtype in ["F32", "U8", "BOOL"] {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let source = gpt2(&at("hub"), &tables(["h.0.attn.bias", "h.1.attn.bias", "h.2.attn.bias"], dtype));
        let checkpoint = opened(&source);
        assert_eq!(checkpoint.identity(), original.identity());
        assert_eq!(checkpoint.structure(), []);
        for tensor in &original.tensors {
            assert!(checkpoint.tensors.get(&tensor.name).unwrap().data[..] == tensor.data[..], "{}", tensor.name);
        }
        let derived = checkpoint.notes.iter().filter(|note| note.code == "derived-tensor");
        assert_eq!(
            derived.map(|note| note.subject.as_str()).collect::<Vec<_>>(),
            ["h.0.attn.bias", "h.1.attn.bias", "h.2.attn.bias"]
        );
        let summary = summarize(&Source::locate(&source).unwrap(), &Limits::default()).unwrap();
        let embedding = summary.tensors.iter().find(|tensor| tensor.stored_name == "wte.weight").unwrap();
        assert_eq!(embedding.name, "transformer.wte.weight");

        convert(&source, &at("m.gguf"), Format::Gguf);
        assert!(opened(&at("m.gguf")).tensors.iter().all(|tensor| tensor.role.is_some()), "llama.cpp refuses others");
        convert(&at("m.gguf"), &at("m.apr"), Format::Apr);
        for from in ["m.gguf", "m.apr"] {
            let back = at(&format!("from-{from}"));
            assert_eq!(convert(&at(from), &back, Format::SafeTensors).restored, Ok(()), "{dtype}");
            assert_eq!(content(&source), content(&back), "{dtype}");
        }
    }
}

/// A table with another value is no causal mask, and one name with its first part is enough for all to mean themselves.
#[test]
fn what_only_looks_like_it_is_carried_as_it_is() {
    let work = tempfile::tempdir().unwrap();
    let mut changed = tables(["h.0.attn.bias", "h.1.attn.bias", "h.2.attn.bias"], "F32");
    let len = changed[1].2.len();
    changed[1].2[len - 1] ^= 1;
    let above = 4 * (N + 5) + 3;
    changed[2].2[above] = 0x3f;
    let checkpoint = opened(&gpt2(&work.path().join("a"), &changed));
    let unknown = checkpoint.structure();
    let unknown: Vec<_> = unknown.iter().map(|finding| (finding.subject.as_str(), finding.code.as_str())).collect();
    assert_eq!(unknown, [("h.1.attn.bias", "unknown-tensor"), ("h.2.attn.bias", "unknown-tensor")]);

    let mixed = tables(["transformer.h.0.attn.bias", "x", "y"], "F32");
    let checkpoint = opened(&gpt2(&work.path().join("b"), &mixed));
    assert!(checkpoint.tensors.get("wte.weight").is_some_and(|tensor| tensor.role.is_none()));
    assert!(checkpoint.structure().iter().any(|finding| finding.code == "missing-tensor"));
}
