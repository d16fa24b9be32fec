//! Capsules come with files from anywhere: a false one is not followed, and nothing in one can do harm.

mod common;

use apr_formats::{Limits, Target, WriteError, WriteOptions, capsule_contents, open, write};
use apr_model::{Checkpoint, Format};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::bytes::Random;
use common::no_progress;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// nano-llama as an APR file that was a SafeTensors directory before.
fn converted(work: &TempDir) -> PathBuf {
    let source = common::hf_dir("nano-llama");
    let path = work.path().join("source.apr");
    common::convert(source.path(), &path, Format::Apr, &WriteOptions::default()).unwrap();
    path
}

/// The newest layer of a capsule, as the description and the literals behind it.
fn unpack(text: &[u8]) -> (Value, Vec<u8>) {
    let binary = BASE64.decode(text).unwrap();
    let len = u32::from_le_bytes(binary[8..12].try_into().unwrap()) as usize;
    let mut plain = Vec::new();
    flate2::read::DeflateDecoder::new(&binary[12..12 + len]).read_to_end(&mut plain).unwrap();
    let json_len = u32::from_le_bytes(plain[..4].try_into().unwrap()) as usize;
    (serde_json::from_slice(&plain[4..4 + json_len]).unwrap(), plain[4 + json_len..].to_vec())
}

/// One layer: what is packed, then compressed.
fn layer(description: &str, literals: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&(description.len() as u32).to_le_bytes()).unwrap();
    encoder.write_all(description.as_bytes()).unwrap();
    encoder.write_all(literals).unwrap();
    let packed = encoder.finish().unwrap();
    [&(packed.len() as u32).to_le_bytes(), packed.as_slice()].concat()
}

fn capsule(layers: &[Vec<u8>]) -> Vec<u8> {
    BASE64.encode([b"APRCAPS1".to_vec(), layers.concat()].concat()).into_bytes()
}

/// Writes `checkpoint` as a SafeTensors directory; gives back why it is not the original, and the names written.
fn written(checkpoint: &Checkpoint, dir: &Path) -> (Result<(), String>, Vec<String>) {
    let target = Target { path: dir.to_owned(), format: Format::SafeTensors };
    let written = write(checkpoint, &target, &WriteOptions::default(), &mut no_progress()).unwrap();
    (written.restored, common::content(dir).into_iter().map(|(name, _)| name).collect())
}

/// Changes the description of a true capsule; the model is still written, but not from that recipe.
fn not_followed(change: impl Fn(&mut Value), expect: &str) {
    let work = tempfile::tempdir().unwrap();
    let mut checkpoint = open(&converted(&work), &Limits::default()).unwrap();
    let (mut description, literals) = unpack(checkpoint.capsule.as_deref().unwrap());
    change(&mut description);
    let text = capsule(&[layer(&description.to_string(), &literals)]);
    checkpoint.capsule = Some(text.into());
    let target = Target { path: work.path().join("out"), format: Format::SafeTensors };
    let reason = match write(&checkpoint, &target, &WriteOptions::default(), &mut no_progress()) {
        Ok(written) => written.restored.unwrap_err(),
        Err(WriteError::Cannot { detail, .. }) => detail,
        Err(other) => panic!("{other}"),
    };
    assert!(reason.contains(expect), "{reason:?} should say {expect:?}");
    let around: Vec<_> = std::fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(around.iter().all(|name| name == "source.apr" || name == "out"), "{around:?}");
}

#[test]
fn the_true_capsule_is_followed() {
    let work = tempfile::tempdir().unwrap();
    let checkpoint = open(&converted(&work), &Limits::default()).unwrap();
    let (description, literals) = unpack(checkpoint.capsule.as_deref().unwrap());
    let mut again = checkpoint.clone();
    again.capsule = Some(capsule(&[layer(&description.to_string(), &literals)]).into());
    assert_eq!(written(&again, &work.path().join("out")).0, Ok(()));
}

#[test]
fn a_false_capsule_is_not_followed() {
    not_followed(|v| v["identity"] = json!("00".repeat(32)), "changed since");
    not_followed(|v| v["identity"] = json!("xx"), "identity that is not 32 hex bytes");
    not_followed(|v| v["files"][0]["blake3"] = json!("00".repeat(32)), "the data changed since it was converted");
    not_followed(|v| v["files"][0]["blake3"] = json!("é".repeat(32)), "digest that is not 32 hex bytes");
    not_followed(|v| v["files"][0]["len"] = json!(7), "the original has 7");
    not_followed(|v| v["files"][0]["len"] = json!(u64::MAX), "the original has 18446744073709551615");
    not_followed(|v| v["format"] = json!("gguf"), "of a GGUF model, which has no such");
    not_followed(|v| v["format"] = json!("onnx"), "unknown variant");
    not_followed(|v| v["files"] = json!([]), "without files");
    not_followed(|v| v["files"][0] = Value::Null, "capsule layer");
    let piece = |at: usize, piece: Value| {
        move |v: &mut Value| v["files"][0]["pieces"].as_array_mut().unwrap().insert(at, piece.clone())
    };
    not_followed(piece(0, json!({"zeros": 1u64 << 40})), "zero bytes");
    not_followed(piece(0, json!({"zeros": u64::MAX})), "lengths overflow");
    not_followed(piece(0, json!({"literal": 1u64 << 40})), "literal is cut off");
    not_followed(piece(0, json!({"literal": u64::MAX})), "literal is cut off");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 0, null]})), "twice");
    not_followed(piece(0, json!({"tensor": ["no.such", 0, null]})), "tensor no.such is gone");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 99, null]})), "dtype 99");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 0, 3]})), "odd head size");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 0, 0]})), "odd head size");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 0, 6]})), "tensor model.norm.weight");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 8, null]})), "tensor model.norm.weight was Q8_0");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 0, "transposed"]})), "tensor model.norm.weight was");
    not_followed(piece(0, json!({"tensor": ["model.norm.weight", 0, "mirrored"]})), "did not match any variant");
    not_followed(piece(0, json!({"kept": ["model.norm.weight", 0, 1u64 << 40]})), "literal is cut off");
    not_followed(piece(0, json!({"kept": ["no.such", 0, 0]})), "tensor no.such is gone");
    not_followed(
        piece(0, json!({"kept": ["model.norm.weight", 0, 0]})),
        "tensor model.norm.weight has other gains now",
    );
    not_followed(piece(0, json!("other")), "unknown variant");
    let twice = |v: &mut Value| {
        let pieces = v["files"][0]["pieces"].as_array_mut().unwrap();
        pieces.extend([json!("capsule"), json!("capsule")]);
    };
    not_followed(twice, "the recipe uses its capsule twice");
}

#[test]
fn a_capsule_can_name_only_files_of_a_model() {
    for name in ["../evil", "/tmp/evil", "a/b", "", "..", ".bashrc", "evil.sh", "authorized_keys", "x.safetensors"] {
        let second = |v: &mut Value| v["files"][1]["name"] = json!(name);
        not_followed(second, &format!("capsule names {name:?} as file 2"));
    }
    for name in ["../evil", "a/b", "", ".bashrc", "a\\b"] {
        not_followed(|v| v["files"][0]["name"] = json!(name), &format!("capsule names {name:?} as file 1"));
    }
    let twice = |v: &mut Value| v["files"][2]["name"] = v["files"][1]["name"].clone();
    not_followed(twice, "as file 3");
}

/// A capsule that can't be read: what stands in it is not carried on, `--no-capsule` converts without it.
fn unreadable(text: Vec<u8>, expect: &str) {
    let work = tempfile::tempdir().unwrap();
    let mut checkpoint = open(&common::fixtures("nano-qwen2", "gguf")[2], &Limits::default()).unwrap();
    checkpoint.capsule = Some(text.into());
    let error = capsule_contents(&checkpoint, &Limits::default()).unwrap_err();
    assert!(error.contains(expect), "{error:?} should say {expect:?}");
    let target = Target { path: work.path().join("x.apr"), format: Format::Apr };
    let options = WriteOptions { capsule: false, ..WriteOptions::default() };
    write(&checkpoint, &target, &options, &mut no_progress()).unwrap();
}

#[test]
fn a_capsule_that_can_not_be_read_does_not_stop_anything() {
    unreadable(b"not base64!".to_vec(), "not base64");
    unreadable(BASE64.encode("APRCAPS9").into_bytes(), "magic");
    unreadable(Vec::new(), "magic");
    unreadable(capsule(&[vec![1, 0]]), "ends inside a layer");
    unreadable(capsule(&[vec![0xff; 8]]), "ends inside a layer");
    unreadable(capsule(&[vec![4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]]), "does not unpack");
    unreadable(capsule(&[layer("{}", b"")]), "missing field");
    unreadable(capsule(&[layer(&"[".repeat(10_000), b"")]), "capsule layer");
    unreadable(capsule(&[layer(&" ".repeat(33 << 20), b"")]), "description of");
    let bomb = vec![0; 64 << 20];
    let empty = r#"{"format":"apr","identity":"","is_dir":false,"files":[]}"#;
    unreadable(capsule(&[layer(empty, &bomb)]), "without files");
}

#[test]
fn unpacking_stops_at_the_limit() {
    let bomb = vec![0; 8 << 20];
    let mut checkpoint = open(&common::fixtures("nano-qwen2", "gguf")[2], &Limits::default()).unwrap();
    checkpoint.capsule = Some(capsule(&[layer("{}", &bomb)]).into());
    let limits = Limits { capsule_bytes: 1 << 20, ..Limits::default() };
    assert!(capsule_contents(&checkpoint, &limits).unwrap_err().contains("more than is accepted"));
}

#[test]
fn a_flipped_character_never_gives_another_file() {
    let work = tempfile::tempdir().unwrap();
    let source = common::hf_dir("nano-llama");
    let original = common::content(source.path());
    let checkpoint = open(&converted(&work), &Limits::default()).unwrap();
    let text = checkpoint.capsule.as_deref().unwrap().to_vec();
    let mut random = Random::new(3);
    for round in 0..60 {
        let mut changed = text.clone();
        let at = random.below(changed.len());
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=!\"";
        changed[at] = alphabet[random.below(alphabet.len())];
        let mut checkpoint = checkpoint.clone();
        checkpoint.capsule = Some(changed.into());
        let dir = work.path().join(format!("out-{round}"));
        let target = Target { path: dir.clone(), format: Format::SafeTensors };
        match write(&checkpoint, &target, &WriteOptions::default(), &mut no_progress()) {
            Ok(written) if written.restored.is_ok() => assert!(common::content(&dir) == original, "round {round}"),
            Ok(_) => {}
            Err(WriteError::Cannot { detail, .. }) => assert!(detail.contains("--no-capsule"), "{detail}"),
            Err(other) => panic!("{other}"),
        }
    }
}
