//! APR models over several files: each whole by itself, the manifest and what it must not say, and the way back.

mod common;

use apr_formats::{Limits, Source, SourceFile, WriteOptions, anatomy, check_integrity, open, summarize};
use apr_model::{Checkpoint, Format};
use common::{content, convert};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const INDEX: &str = "model.apr.index.json";

fn gguf() -> PathBuf {
    common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf")
}

fn of(shard_bytes: u64) -> WriteOptions {
    WriteOptions { shard_bytes: Some(shard_bytes), ..WriteOptions::default() }
}

fn read(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

fn same_model(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.identity(), b.identity());
    assert_eq!(a.tensors.len(), b.tensors.len());
    for x in &a.tensors {
        let y = b.tensors.get(&x.name).unwrap();
        assert!(x.dtype == y.dtype && x.relayout == y.relayout && *x.data == *y.data, "{}", x.name);
    }
}

/// A model in at least three files.
fn split() -> (TempDir, PathBuf) {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("model/");
    convert(&gguf(), &dir, Format::Apr, &of(30_000)).unwrap();
    (work, dir)
}

fn python(args: &[&Path]) -> (String, String) {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/read_apr.py");
    let output = Command::new("python3").arg(reader).args(args).output().expect("python3 runs the documented reader");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn the_files_hold_the_same_model_whatever_their_size() {
    let whole = read(&gguf());
    for most in [1, 20_000, 60_000] {
        let work = tempfile::tempdir().unwrap();
        let [dir, twin] = ["model/", "twin/"].map(|name| work.path().join(name));
        let written = convert(&gguf(), &dir, Format::Apr, &of(most)).unwrap();
        convert(&gguf(), &twin, Format::Apr, &of(most)).unwrap();
        assert!(content(&dir) == content(&twin), "the same files each time");
        assert_eq!(written.n_verbatim, whole.tensors.len());

        let index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
        let n = written.files.len() - 1;
        assert!(n > 1 && index["shard_count"] == n && index["tensor_count"] == whole.tensors.len());
        let source = Source::locate(&dir).unwrap();
        let checked = check_integrity(&source, &Limits::default()).unwrap();
        assert_eq!((checked.tensors, checked.file), (whole.tensors.len(), true));
        let summary = summarize(&source, &Limits::default()).unwrap();
        for (number, shard) in index["shards"].as_array().unwrap().iter().enumerate() {
            let name = shard["filename"].as_str().unwrap();
            assert_eq!(name, format!("model-{:05}-of-{n:05}.apr", number + 1));
            assert_eq!(shard["size"], fs::metadata(dir.join(name)).unwrap().len());
            let sizes: Vec<_> = summary.tensors.iter().filter(|t| t.file == name).map(|t| t.range.len()).collect();
            assert_eq!(shard["tensors"].as_array().unwrap().len(), sizes.len());
            assert!(sizes.len() == 1 || sizes.iter().sum::<usize>() as u64 <= most, "{name}");
            // Any of them leads to the model, and of each every byte is named.
            same_model(&read(&dir.join(name)), &whole);
        }
        for file in &source.files {
            let parts = anatomy(&source, file, &Limits::default()).unwrap();
            assert!(parts.regions.iter().all(|region| region.section != apr_formats::Section::Unknown));
        }
    }
}

#[test]
fn the_way_back_gives_the_same_files() {
    let (work, dir) = split();
    let at = |name: &str| work.path().join(name);
    let plain = WriteOptions::default();
    convert(&dir, &at("back.gguf"), Format::Gguf, &plain).unwrap();
    assert!(fs::read(at("back.gguf")).unwrap() == fs::read(gguf()).unwrap());
    // And the other way: the same shards, through each other format.
    let dir = at("fresh/");
    convert(&gguf(), &dir, Format::Apr, &WriteOptions { capsule: false, ..of(30_000) }).unwrap();
    for (name, format) in [("via.gguf", Format::Gguf), ("via", Format::SafeTensors)] {
        convert(&dir, &at(name), format, &plain).unwrap();
        let again = at(&format!("again-{name}/"));
        let written = convert(&at(name), &again, Format::Apr, &plain).unwrap();
        assert!(content(&again) == content(&dir), "through {name}: {:?}", written.restored);
    }
    // One file holds the same model, and a model that fits needs no manifest.
    convert(&dir, &at("one/"), Format::Apr, &of(u64::MAX)).unwrap();
    assert_eq!(fs::read_dir(at("one")).unwrap().count(), 1);
    same_model(&read(&at("one/model.apr")), &read(&dir));
}

#[test]
fn the_documented_reader_reads_them() {
    let (_work, dir) = split();
    let (listed, error) = python(&[&dir.join(INDEX)]);
    assert_eq!(error, "");
    let whole = read(&gguf());
    let n_files = content(&dir).len() - 1;
    assert_eq!(listed.lines().count(), n_files + whole.tensors.len());
    for tensor in &whole.tensors {
        let crc = crc32fast::hash(&tensor.data);
        let line = listed.lines().find(|line| line.starts_with(&format!("{} ", tensor.name))).unwrap();
        assert!(line.ends_with(&format!("{} {crc:08x}", tensor.data.len())), "{line}");
    }
}

#[test]
fn a_manifest_that_tells_another_story_is_refused() {
    let changed = |change: &dyn Fn(&mut Value), expect: &str| {
        let (_work, dir) = split();
        let mut index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
        change(&mut index);
        fs::write(dir.join(INDEX), index.to_string()).unwrap();
        let error = open(&dir, &Limits::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    };
    changed(&|m| m["version"] = json!("2.0"), "version \"2.0\" of the manifest");
    changed(&|m| m["shard_count"] = json!(1), "shard_count is 1");
    changed(&|m| m["tensor_count"] = json!(7), "tensor_count is 7");
    changed(&|m| m["shards"][0]["size"] = json!(7), "the manifest says 7");
    changed(&|m| m["shards"][0]["index"] = json!(1), "has index 1, by its name it is 0");
    changed(&|m| m["shards"][0]["filename"] = json!("model-00009-of-00009.apr"), "does not list model-00001-of");
    changed(&|m| m["shards"][0]["tensors"] = json!(["x"]), "lists other tensors than those of model-00001-of");
    changed(&|m| m["weight_map"]["model.norm.weight"] = m["shards"][0]["filename"].clone(), "the index puts tensor");
    changed(&|m| m["weight_map"]["x"] = m["weight_map"]["model.norm.weight"].clone(), "the index names tensor \"x\"");
    for name in ["../x.apr", "/etc/x.apr", "x.gguf", ".x.apr"] {
        changed(&|m| m["weight_map"]["model.norm.weight"] = json!(name), "expected a name in .apr");
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let refused = |path: &Path, expect: &str| {
        let error = Source::locate(path).and_then(|source| apr_formats::open_source(&source, &Limits::default()));
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    };
    let (_work, dir) = split();
    let shards: Vec<_> = content(&dir).into_iter().filter(|(name, _)| name != INDEX).collect();
    let first = dir.join(&shards[0].0);

    // Two files that change places: each is sound by itself.
    fs::write(&first, &shards[1].1).unwrap();
    refused(&dir, "bytes, the manifest says");
    // A whole model in the place of a file.
    fs::write(&first, &shards[0].1[..200]).unwrap();
    refused(&dir, &shards[0].0);
    fs::remove_file(&first).unwrap();
    refused(&dir, &shards[0].0);
    fs::write(&first, &shards[0].1).unwrap();
    fs::remove_file(dir.join(INDEX)).unwrap();
    refused(&first, "one of several files of a model, and model.apr.index.json does not lie beside it");
    let alone = {
        let bytes = shards[0].1.clone().into();
        Source::from_memory(first, vec![SourceFile { name: "model.apr".to_owned(), bytes }]).unwrap()
    };
    let error = apr_formats::open_source(&alone, &Limits::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("without the manifest"), "{error}");

    // A damaged byte of any file is found.
    let (_work, dir) = split();
    let (name, mut bytes) = content(&dir).into_iter().rfind(|(name, _)| name != INDEX).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(dir.join(&name), bytes).unwrap();
    let error = check_integrity(&Source::locate(&dir).unwrap(), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains(&name) && error.contains("checksum"), "{error}");
}

#[test]
fn other_files_of_a_model_in_the_target_are_not_mixed_in() {
    let (_work, dir) = split();
    let again = WriteOptions { force: true, ..of(60_000) };
    let error = convert(&gguf(), &dir, Format::Apr, &again).unwrap_err().to_string();
    assert!(error.contains("of another model is there"), "{error}");
    open(&dir, &Limits::default()).unwrap();
}
