//! GGUF models split over files: read, written, merged, and given back byte for byte.

mod common;

use apr_formats::{Limits, Source, WriteOptions, open, summarize};
use apr_model::{Checkpoint, Format};
use common::bytes::{Info, gguf, model_pairs, u32_value};
use common::{content, convert};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What llama.cpp's `llama-gguf-split` made of nano-qwen2-Q4_0.
fn split_fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/containers/split")
}

fn whole() -> PathBuf {
    common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf")
}

fn first(dir: &Path) -> PathBuf {
    dir.join("nano-qwen2-Q4_0-00001-of-00003.gguf")
}

fn read(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

fn same_model(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.identity(), b.identity());
    assert_eq!(a.tensors.len(), b.tensors.len());
    for (x, y) in a.tensors.iter().zip(&b.tensors) {
        assert_eq!((&x.name, x.dtype), (&y.name, y.dtype));
        assert!(*x.data == *y.data, "{}", x.name);
    }
}

fn metadata(path: &Path) -> Vec<(String, String)> {
    summarize(&Source::locate(path).unwrap(), &Limits::default()).unwrap().metadata
}

#[test]
fn any_file_and_the_directory_open_the_whole_model() {
    let sound = read(&whole());
    for name in content(&split_fixture()).iter().map(|(name, _)| split_fixture().join(name)) {
        same_model(&read(&name), &sound);
    }
    let in_dir = read(&split_fixture());
    same_model(&in_dir, &sound);
    let files: Vec<_> = in_dir.origin.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(files, ["model-00001-of-00003.gguf", "model-00002-of-00003.gguf", "model-00003-of-00003.gguf"]);
}

#[test]
fn a_split_model_comes_back_through_every_format_and_through_one_file() {
    for via in [Format::Apr, Format::SafeTensors, Format::Gguf] {
        let work = tempfile::tempdir().unwrap();
        let there = work.path().join(if via == Format::Gguf { "whole.gguf" } else { "there" });
        convert(&first(&split_fixture()), &there, via, &Default::default()).unwrap();
        let back = work.path().join("back");
        std::fs::create_dir(&back).unwrap();
        let written = convert(&there, &first(&back), Format::Gguf, &Default::default()).unwrap();
        assert_eq!(written.restored, Ok(()), "by {via}");
        assert!(content(&back) == content(&split_fixture()), "by {via}");
        // Under another name they hold the same.
        let other = work.path().join("other name-00001-of-00003.gguf");
        convert(&there, &other, Format::Gguf, &Default::default()).unwrap();
        assert!(std::fs::read(work.path().join("other name-00003-of-00003.gguf")).unwrap() == content(&back)[2].1);
    }
}

#[test]
fn merging_keeps_every_key_in_its_order_and_splitting_gives_the_files_of_llama_cpp() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let plain = WriteOptions { capsule: false, ..WriteOptions::default() };
    convert(&first(&split_fixture()), &at("merged.gguf"), Format::Gguf, &plain).unwrap();
    // The model that was split, byte for byte: its layout is llama.cpp's, and so is ours.
    assert!(std::fs::read(at("merged.gguf")).unwrap() == std::fs::read(whole()).unwrap());

    // Sizes at which the same tensors come together as in the fixture.
    let summary = summarize(&Source::locate(&split_fixture()).unwrap(), &Limits::default()).unwrap();
    let len = |file: &str| {
        let tensors = summary.tensors.iter().filter(|t| t.file.contains(file));
        tensors.map(|t| t.range.len().next_multiple_of(32) as u64).sum::<u64>()
    };
    let lens = ["00001-of", "00002-of", "00003-of"].map(len);
    assert!(lens[0] >= lens[1] && lens[0] >= lens[2], "{lens:?}: the first is the largest");
    let most = WriteOptions { shard_bytes: Some(lens[0]), ..plain.clone() };
    let written = convert(&whole(), &at("x.gguf"), Format::Gguf, &most).unwrap();
    same_model(&read(&at("x-00001-of-00003.gguf")), &read(&whole()));
    assert_eq!(metadata(&at("x-00001-of-00003.gguf")), metadata(&split_fixture()));
    for file in content(&split_fixture()).iter().filter(|(name, _)| name.contains("00001")) {
        assert!(std::fs::read(at("x-00001-of-00003.gguf")).unwrap() == file.1, "the first file is llama.cpp's");
    }
    assert_eq!(written.files.len(), 3);
    assert_eq!(written.n_verbatim, 26);

    let back = at("back.gguf");
    convert(&at("x-00002-of-00003.gguf"), &back, Format::Gguf, &plain).unwrap();
    assert!(std::fs::read(&back).unwrap() == std::fs::read(whole()).unwrap());
}

#[test]
fn every_size_holds_the_same_model_and_no_file_more_than_asked() {
    for source in [whole(), first(&split_fixture()), common::hf_dir("nano-qwen2").keep()] {
        for shard_bytes in [1u64, 4096, 20_000, 1 << 40] {
            let work = tempfile::tempdir().unwrap();
            let options = WriteOptions { shard_bytes: Some(shard_bytes), ..WriteOptions::default() };
            let written = convert(&source, &work.path().join("m.gguf"), Format::Gguf, &options).unwrap();
            assert_eq!(written.files.len() > 1, shard_bytes < 1 << 40);
            let single = work.path().join("single.gguf");
            convert(&source, &single, Format::Gguf, &WriteOptions { shard_bytes: Some(u64::MAX), ..options }).unwrap();
            same_model(&read(&written.files.last().unwrap().path), &read(&single));
            assert_eq!(read(&single).tensors.len(), 26);
            let source = Source::locate(&written.files[0].path).unwrap();
            let summary = summarize(&source, &Limits::default()).unwrap();
            for file in &written.files {
                let in_file = || summary.tensors.iter().filter(|t| file.path.ends_with(&t.file));
                let bytes: usize = in_file().map(|t| t.range.len()).sum();
                assert!(bytes as u64 <= shard_bytes || in_file().count() == 1, "{}", file.path.display());
            }
        }
    }
}

#[test]
fn what_the_name_of_a_target_can_not_mean_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let check = |source: &Path, name: &str, format, shard_bytes, expect: &str| {
        let options = WriteOptions { shard_bytes, ..WriteOptions::default() };
        let error = convert(source, &work.path().join(name), format, &options).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
        assert_eq!(content(work.path()), [], "nothing was written");
    };
    let split = first(&split_fixture());
    check(&whole(), "x-00001-of-00003.gguf", Format::Gguf, None, "it was one file; --shard-size makes new ones");
    check(&split, "x-00001-of-00002.gguf", Format::Gguf, None, "name NAME-00001-of-00003.gguf as target");
    check(&split, "x-00002-of-00003.gguf", Format::Gguf, None, "name the first of the files");
    check(&whole(), "x-00001-of-00003.gguf", Format::Gguf, Some(100), "name it NAME.gguf");
    check(&whole(), "x.gguf", Format::Gguf, Some(0), "at most 0 bytes");
    check(&whole(), "x.apr", Format::Apr, Some(100), "stand in a directory, with an index");
}

/// A copy of the fixture.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in content(&split_fixture()) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn refused(path: &Path, expect: &[&str]) {
    let error = open(path, &Limits::default()).unwrap_err().to_string();
    for expect in expect {
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }
    assert!(summarize(&Source::locate(path).unwrap(), &Limits::default()).is_err());
}

#[test]
fn a_missing_file_is_named_with_what_is_there() {
    for (index, from) in [(2, 1), (3, 2), (1, 2)] {
        let dir = copy();
        let name = |index: usize| format!("nano-qwen2-Q4_0-{index:05}-of-00003.gguf");
        std::fs::remove_file(dir.path().join(name(index))).unwrap();
        let missing = format!("{} is missing (1 of 3 files); put it beside nano", name(index));
        refused(&dir.path().join(name(from)), &[&missing, &name(from)]);
        refused(dir.path(), &[&missing]);
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let second = |dir: &TempDir| dir.path().join("nano-qwen2-Q4_0-00002-of-00003.gguf");
    // The same file twice.
    let dir = copy();
    std::fs::copy(dir.path().join("nano-qwen2-Q4_0-00003-of-00003.gguf"), second(&dir)).unwrap();
    refused(dir.path(), &["00002-of-00003.gguf", "it says that it is file 3 of 3, expected file 2 of 3"]);
    // A whole model under the name of a part, and a part under the name of a whole model.
    let dir = copy();
    std::fs::copy(whole(), second(&dir)).unwrap();
    refused(dir.path(), &["it says that it is none of several, expected file 2 of 3"]);
    let dir = copy();
    std::fs::copy(whole(), first(dir.path())).unwrap();
    refused(dir.path(), &["its name is that of the first of 3 files, and split.count says nothing"]);
    let alone = dir.path().join("alone.gguf");
    std::fs::copy(first(&split_fixture()), &alone).unwrap();
    refused(&alone, &["one of 3 files of a model, whose name does not end in -00001-of-00003.gguf"]);
}

#[test]
fn a_whole_model_may_have_the_name_of_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-00001-of-00003.gguf");
    std::fs::copy(whole(), &path).unwrap();
    same_model(&read(&path), &read(&whole()));
    let path = dir.path().join("y-00001-of-00001.gguf");
    std::fs::copy(whole(), &path).unwrap();
    same_model(&read(&path), &read(&whole()));
}

/// Two files made by hand, each rule broken on its own.
#[test]
fn counts_are_checked() {
    let u16_value = |n: u16| [2u32.to_le_bytes().as_slice(), &n.to_le_bytes()].concat();
    let write = |no: [u16; 2], count: [u16; 2], n_tensors: [u32; 2], names: [&str; 2]| {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..2 {
            let place = [
                ("split.no".to_owned(), u16_value(no[index])),
                ("split.count".to_owned(), u16_value(count[index])),
                ("split.tensors.count".to_owned(), u32_value(n_tensors[index])),
            ];
            let pairs: Vec<_> =
                if index == 0 { model_pairs("qwen2") } else { Vec::new() }.into_iter().chain(place).collect();
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
            let tensors: [Info<'_>; 1] = [(names[index], 0, &[8], 0)];
            std::fs::write(dir.path().join(format!("m-0000{}-of-00002.gguf", index + 1)), gguf(&pairs, &tensors, 32))
                .unwrap();
        }
        dir
    };
    let sound = write([0, 1], [2, 2], [2, 2], ["a", "b"]);
    assert_eq!(read(sound.path()).tensors.len(), 2);
    let check = |dir: TempDir, expect: &[&str]| refused(dir.path(), expect);
    check(write([0, 0], [2, 2], [2, 2], ["a", "b"]), &["m-00002-of", "it is file 1 of 2, expected file 2 of 2"]);
    check(write([1, 0], [2, 2], [2, 2], ["a", "b"]), &["m-00001-of", "it is file 2 of 2, expected file 1 of 2"]);
    check(write([0, 65535], [2, 2], [2, 2], ["a", "b"]), &["it is file 65536 of 2"]);
    check(write([0, 1], [3, 3], [2, 2], ["a", "b"]), &["its name says 2 files, split.count says 3"]);
    check(write([0, 1], [2, 3], [2, 2], ["a", "b"]), &["it is file 2 of 3, expected file 2 of 2"]);
    check(write([0, 1], [2, 0], [2, 2], ["a", "b"]), &["it is none of several"]);
    check(write([0, 1], [65535, 2], [2, 2], ["a", "b"]), &["split.count says 65535"]);
    check(write([0, 1], [2, 2], [3, 3], ["a", "b"]), &["m-00001-of", "split.tensors.count is 3, the files have 2"]);
    check(write([0, 1], [2, 2], [2, u32::MAX], ["a", "b"]), &["m-00002-of", "split.tensors.count is 4294967295"]);
    let twice = write([0, 1], [2, 2], [2, 2], ["a", "a"]);
    let error = open(twice.path(), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("m-00002-of") && error.contains("two tensors are \"a\""), "{error}");
}
