//! SafeTensors models spread over files: written in the layout of Transformers, read, and given back byte for byte.

mod common;

use apr_formats::{Limits, WriteOptions, open};
use apr_model::{Checkpoint, Format};
use common::{content, convert};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";

fn gguf() -> PathBuf {
    common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf")
}

fn of(shard_bytes: u64) -> WriteOptions {
    WriteOptions { shard_bytes: Some(shard_bytes), ..WriteOptions::default() }
}

fn read(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

/// Name, and first and last byte of the data, of each tensor, without this project's reader.
fn spans(file: &[u8]) -> BTreeMap<String, (u64, u64)> {
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&file[8..8 + n]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    let offset = |value: &Value, i: usize| value["data_offsets"][i].as_u64().unwrap();
    tensors.map(|(name, value)| (name, (offset(&value, 0), offset(&value, 1)))).collect()
}

#[test]
fn files_and_index_are_those_that_transformers_looks_for() {
    for source in [gguf(), common::hf_dir("nano-llama").keep()] {
        let whole = read(&source);
        for most in [1, 20_000, 60_000] {
            let (work, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let [dir, twin] = [&work, &again].map(|work| work.path().join("model"));
            let written = convert(&source, &dir, Format::SafeTensors, &of(most)).unwrap();
            convert(&source, &twin, Format::SafeTensors, &of(most)).unwrap();
            assert_eq!(content(&dir), content(&twin), "the same files each time");

            let files: BTreeMap<String, Vec<u8>> = content(&dir).into_iter().collect();
            let shards: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".safetensors")).collect();
            let names: Vec<_> = shards.iter().map(|(name, _)| name.as_str()).collect();
            let n = names.len();
            let expected: Vec<_> = (1..=n).map(|i| format!("model-{i:05}-of-{n:05}.safetensors")).collect();
            assert!(n > 1 && written.files[0].path.ends_with(INDEX));
            assert_eq!(names, expected);

            let (mut in_files, mut total) = (BTreeMap::new(), 0);
            for (name, file) in shards {
                let spans = spans(file);
                let bytes = spans.values().map(|(_, end)| *end).max().unwrap();
                assert!(bytes <= most || spans.len() == 1, "{name}: {bytes} bytes in {} tensors", spans.len());
                total += bytes;
                in_files.extend(spans.into_keys().map(|tensor| (tensor, name.clone())));
            }
            let text = String::from_utf8(files[INDEX].clone()).unwrap();
            let index: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(index["metadata"]["total_size"], total);
            let map: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].clone()).unwrap();
            assert_eq!(map, in_files);
            assert!(
                text.starts_with("{\n  \"metadata\": {\n    \"total_size\": ") && text.ends_with("}\n}\n"),
                "{text}"
            );

            let copy = read(&dir);
            assert_eq!(copy.identity(), whole.identity());
            for tensor in &whole.tensors {
                assert_eq!(apr_model::compare_values(tensor, copy.tensors.get(&tensor.name).unwrap()).n_different, 0);
            }
        }
    }
}

#[test]
fn a_model_that_fits_is_one_file_without_an_index() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("model");
    convert(&gguf(), &dir, Format::SafeTensors, &of(1 << 40)).unwrap();
    assert!(dir.join("model.safetensors").exists() && !dir.join(INDEX).exists());
}

/// GGUF or one file → shards → it again, and shards → every format → the same shards.
#[test]
fn every_way_back_gives_the_same_bytes() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let default = WriteOptions::default();
    convert(&gguf(), &path("from-gguf"), Format::SafeTensors, &of(20_000)).unwrap();
    let written = convert(&path("from-gguf"), &path("back.gguf"), Format::Gguf, &default).unwrap();
    assert_eq!(written.restored, Ok(()));
    assert!(std::fs::read(path("back.gguf")).unwrap() == std::fs::read(gguf()).unwrap());

    let single = common::hf_dir("nano-qwen2");
    convert(single.path(), &path("shards"), Format::SafeTensors, &of(100_000)).unwrap();
    std::fs::create_dir(path("single")).unwrap();
    let back = path("single/model.safetensors");
    assert_eq!(convert(&path("shards"), &back, Format::SafeTensors, &default).unwrap().restored, Ok(()));
    assert_eq!(content(&path("single")), content(single.path()));

    for via in [Format::Gguf, Format::Apr, Format::SafeTensors] {
        let (there, again) = (path(&format!("there-{via}")), path(&format!("again-{via}")));
        convert(&path("shards"), &there, via, &default).unwrap();
        assert_eq!(convert(&there, &again, Format::SafeTensors, &default).unwrap().restored, Ok(()), "{via}");
        assert_eq!(content(&again), content(&path("shards")), "{via}");
    }
}

#[test]
fn targets_that_shards_can_not_have_are_refused() {
    let work = tempfile::tempdir().unwrap();
    let check = |name: &str, format, most, expect: &str| {
        let error = convert(&gguf(), &work.path().join(name), format, &of(most)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
        assert_eq!(content(work.path()), [], "nothing was written");
    };
    check("x.safetensors", Format::SafeTensors, 100, "stand in a directory, with an index");
    check("x", Format::SafeTensors, 0, "at most 0 bytes");
}

/// nano-qwen2 in a few files, and its index.
fn sharded() -> (TempDir, Value) {
    let work = tempfile::tempdir().unwrap();
    convert(&gguf(), &work.path().join("model"), Format::SafeTensors, &of(40_000)).unwrap();
    let index = serde_json::from_slice(&std::fs::read(work.path().join("model").join(INDEX)).unwrap()).unwrap();
    (work, index)
}

#[test]
fn an_index_that_tells_another_story_than_its_files_is_refused() {
    let first = "model-00001-of-00003.safetensors";
    let check = |change: &dyn Fn(&Path, &mut Value) -> Option<String>, expect: &str| {
        let (work, mut index) = sharded();
        let dir = work.path().join("model");
        let text = change(&dir, &mut index).unwrap_or_else(|| index.to_string());
        std::fs::write(dir.join(INDEX), text).unwrap();
        let error = open(&dir, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    };
    let (_work, sound) = sharded();
    let map = sound["weight_map"].as_object().unwrap();
    assert!(map.values().any(|file| file == first), "{map:?}");
    let moved = map.iter().find(|(_, file)| *file != first).unwrap().0.clone();
    check(
        &|_, index| {
            index["weight_map"][&moved] = first.into();
            None
        },
        &format!("the index puts tensor {moved:?} in {first}, it is in"),
    );
    check(
        &|_, index| {
            index["weight_map"]["new"] = first.into();
            None
        },
        "the index names tensor \"new\"",
    );
    check(
        &|_, index| {
            index["weight_map"].as_object_mut().unwrap().remove(&moved);
            None
        },
        &format!("has tensor {moved:?}, which the index does not name"),
    );
    check(
        &|_, index| {
            let again = format!("\"weight_map\":{{{moved:?}:{first:?},");
            Some(index.to_string().replace("\"weight_map\":{", &again))
        },
        &format!("index: it names tensor {moved:?} twice"),
    );
    check(
        &|dir, index| {
            std::fs::copy(dir.join(first), dir.join("other.safetensors")).unwrap();
            index["weight_map"]["new"] = "other.safetensors".into();
            None
        },
        "is in two shards",
    );
    check(
        &|dir, _| {
            std::fs::remove_file(dir.join(first)).unwrap();
            None
        },
        "no such file",
    );
}

#[test]
fn a_wrong_total_size_is_noted_and_no_more() {
    let (work, mut index) = sharded();
    let dir = work.path().join("model");
    let noted = |dir: &Path| read(dir).notes.iter().filter(|note| note.code == "index-total-size").count();
    assert_eq!(noted(&dir), 0);
    index["metadata"]["total_size"] = 5.into();
    std::fs::write(dir.join(INDEX), index.to_string()).unwrap();
    assert_eq!(noted(&dir), 1);
    index.as_object_mut().unwrap().remove("metadata");
    std::fs::write(dir.join(INDEX), index.to_string()).unwrap();
    assert_eq!(noted(&dir), 0, "an index need not state it");
}

#[test]
fn a_shard_that_is_a_link_out_of_the_directory_is_refused_unless_it_leads_to_the_blobs_of_its_repository() {
    let (work, _) = sharded();
    let shard = "model-00002-of-00003.safetensors";
    let move_to = |dir: &Path, to: &Path, link: &Path| {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(dir.join(shard), to).unwrap();
        symlink(link, dir.join(shard)).unwrap();
    };
    let dir = work.path().join("model");
    let outside = work.path().join("elsewhere/secret");
    move_to(&dir, &outside, &outside);
    let error = open(&dir, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("shard {shard:?} is a link to")) && error.contains("secret"), "{error}");

    // The cache of the Hugging Face hub.
    let snapshot = work.path().join("models--nano/snapshots/0123");
    std::fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    std::fs::remove_file(dir.join(shard)).unwrap();
    std::fs::rename(&outside, dir.join(shard)).unwrap();
    std::fs::rename(&dir, &snapshot).unwrap();
    move_to(&snapshot, &work.path().join("models--nano/blobs/abcd"), Path::new("../../blobs/abcd"));
    assert_eq!(read(&snapshot).identity(), read(&gguf()).identity());
}

#[test]
fn a_bare_file_takes_its_hyper_parameters_from_a_config_that_is_named() {
    let (work, whole) = (tempfile::tempdir().unwrap(), common::hf_dir("nano-qwen2"));
    let bare = work.path().join("weights.safetensors");
    std::fs::copy(whole.path().join("model.safetensors"), &bare).unwrap();
    let error = open(&bare, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("no config.json lies beside it") && error.contains("--config"), "{error}");

    let config = whole.path().join("config.json");
    let source = apr_formats::Source::locate(&bare).unwrap().with_config(&config).unwrap();
    let checkpoint = apr_formats::open_source(&source, &Limits::default()).unwrap();
    assert_eq!(checkpoint.spec.facts(), read(whole.path()).spec.facts());
    assert_eq!(checkpoint.tensors.len(), read(whole.path()).tensors.len());

    for (path, expect) in [(whole.path().to_owned(), "lies beside it already"), (gguf(), "its own hyper-parameters")] {
        let error = apr_formats::Source::locate(&path).unwrap().with_config(&config).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}
