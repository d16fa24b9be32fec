//! Metadata edits: types and order kept, tensors byte for byte, and the old file or the new one at any moment.

mod common;

use apr_formats::gguf::{EditError, Edits, plan_edit};
use apr_formats::{Limits, Source, WriteError, open, summarize};
use common::{content, no_progress};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn containers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/containers")
}

fn copy(source: &Path) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    std::fs::copy(source, &path).unwrap();
    (dir, path)
}

fn edits(rename: &[(&str, &str)], remove: &[&str], set: &[(&str, &str)]) -> Edits {
    let owned = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Edits { rename: owned(rename), remove: remove.iter().map(|key| (*key).to_owned()).collect(), set: owned(set) }
}

fn edit(path: &Path, edits: &Edits) {
    plan_edit(path, edits, &Limits::default()).unwrap().write(None, false, &mut no_progress()).unwrap();
}

fn metadata(path: &Path) -> Vec<(String, String)> {
    summarize(&Source::locate(path).unwrap(), &Limits::default()).unwrap().metadata
}

/// The bytes of each tensor as they are stored.
fn stored(path: &Path) -> Vec<(String, Vec<u8>)> {
    let summary = summarize(&Source::locate(path).unwrap(), &Limits::default()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    summary.tensors.into_iter().map(|t| (t.stored_name, bytes[t.range].to_vec())).collect()
}

/// Both byte orders, every type.
fn twins() -> [PathBuf; 2] {
    ["every-order.gguf", "every-order.big-endian.gguf"].map(|name| containers().join(name))
}

#[test]
fn keys_keep_their_place_and_type_and_tensors_their_bytes() {
    for source in twins() {
        let (_dir, path) = copy(&source);
        let before = metadata(&path);
        let set = [
            ("test.uint8", "7"),
            ("test.int16", "-32768"),
            ("test.uint64", "18446744073709551615"),
            ("test.float64", "0.1"),
            ("test.bool", "false"),
            ("test.string", "another text, longer than the one that was there before it → by far"),
            ("test.ints", "[5, -6]"),
            ("test.texts", "[\"x\", \"→\"]"),
            ("new.count", "3"),
            ("new.text", "a=b"),
            ("new.negative", "-3"),
            ("new.real", "0.5"),
            ("new.wide:u64", "3"),
            ("new.list:[f32]", "[1, 2.5]"),
        ];
        edit(&path, &edits(&[("test.int8", "renamed.int8")], &["test.uint16"], &set));
        let after = metadata(&path);
        let expect = |key: &str| -> Option<String> {
            let shown = match key {
                "test.uint8" => "7",
                "test.int16" => "-32768",
                "test.uint64" => "18446744073709551615",
                "test.float64" => "0.1",
                "test.bool" => "false",
                "test.string" => "\"another text, longer than the one that was there before it → by far\"",
                "test.ints" => "[5, -6]",
                "test.texts" => "array of 2",
                _ => return None,
            };
            Some(shown.to_owned())
        };
        let mut expected: Vec<(String, String)> = before
            .into_iter()
            .filter(|(key, _)| key != "test.uint16")
            .map(|(key, value)| {
                let value = expect(&key).unwrap_or(value);
                (if key == "test.int8" { "renamed.int8".to_owned() } else { key }, value)
            })
            .collect();
        let new = [("new.count", "3"), ("new.text", "\"a=b\""), ("new.negative", "-3"), ("new.real", "0.5")];
        expected.extend(new.map(|(key, value)| (key.to_owned(), value.to_owned())));
        expected.push(("new.wide".to_owned(), "3".to_owned()));
        expected.push(("new.list".to_owned(), "[1.0, 2.5]".to_owned()));
        assert_eq!(after, expected);
        assert!(stored(&path) == stored(&source), "tensors");
        assert_eq!(content(path.parent().unwrap()).len(), 1, "no other file stays");
    }
}

#[test]
fn undoing_an_edit_gives_the_file_again() {
    for source in twins() {
        let (_dir, path) = copy(&source);
        edit(&path, &edits(&[("test.int8", "test.other")], &[], &[("test.string", "x"), ("test.int32", "1")]));
        assert!(std::fs::read(&path).unwrap() != std::fs::read(&source).unwrap());
        edit(&path, &edits(&[("test.other", "test.int8")], &[], &[("test.string", "Grüße"), ("test.int32", "-70000")]));
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&source).unwrap());
    }
}

#[test]
fn what_fits_moves_nothing_and_what_does_not_moves_all_by_the_alignment() {
    let (_dir, path) = copy(&twins()[0]);
    let plan = |text: &str| plan_edit(&path, &edits(&[], &[], &[("test.string", text)]), &Limits::default()).unwrap();
    let same = plan("GRUESSE");
    assert_eq!(same.data_offset_before, same.data_offset_after);
    let longer = plan(&"x".repeat(100));
    assert!(longer.data_offset_after > longer.data_offset_before);
    assert!((longer.data_offset_after - longer.data_offset_before).is_multiple_of(32));
    assert!(metadata(&path) == metadata(&twins()[0]), "a plan writes nothing");
}

#[test]
fn a_model_still_opens_and_other_files_are_left() {
    let source = common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf");
    let (dir, path) = copy(&source);
    let target = dir.path().join("y.gguf");
    let plan = plan_edit(&path, &edits(&[], &[], &[("general.name", "renamed")]), &Limits::default()).unwrap();
    plan.write(Some(&target), false, &mut no_progress()).unwrap();
    let opened = open(&target, &Limits::default()).unwrap();
    assert_eq!(opened.spec.known().unwrap().name.as_deref(), Some("renamed"));
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&source).unwrap());
    let error = plan.write(Some(&target), false, &mut no_progress()).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    plan.write(Some(&target), true, &mut no_progress()).unwrap();
    let link = dir.path().join("link.gguf");
    std::os::unix::fs::symlink("x.gguf", &link).unwrap();
    let plan = plan_edit(&link, &edits(&[], &[], &[("general.name", "renamed")]), &Limits::default()).unwrap();
    let error = plan.write(None, false, &mut no_progress()).unwrap_err().to_string();
    assert!(error.contains("a link to x.gguf"), "{error}");
    // Asked to stop, it leaves nothing behind.
    let stopped = plan.write(Some(&dir.path().join("z.gguf")), false, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(WriteError::Interrupted)), "{stopped:?}");
    assert_eq!(content(dir.path()).len(), 3, "x, y and the link");
    // The file became another one between plan and write.
    std::fs::write(&path, b"GGUF").unwrap();
    let error = plan.write(Some(&dir.path().join("z.gguf")), false, &mut no_progress()).unwrap_err().to_string();
    assert!(error.contains("changed"), "{error}");
    assert!(!dir.path().join("z.gguf").exists());
}

#[test]
fn what_can_not_be_is_refused_and_changes_nothing() {
    let split = containers().join("split/nano-qwen2-Q4_0-00001-of-00003.gguf");
    let check = |source: &Path, edits: Edits, expect: &str| {
        let (_dir, path) = copy(source);
        let Err(EditError::Refused(detail)) = plan_edit(&path, &edits, &Limits::default()) else {
            panic!("{edits:?} should be refused")
        };
        assert!(detail.contains(expect), "{detail:?} should say {expect:?}");
        assert!(std::fs::read(&path).unwrap() == std::fs::read(source).unwrap());
    };
    let [file, _] = twins();
    let set = |key: &str, value: &str| edits(&[], &[], &[(key, value)]);
    check(&file, set("general.alignment", "64"), "it says where the tensors lie");
    check(&split, set("split.count", "2"), "which files make up the model");
    check(&split, edits(&[], &["split.no"], &[]), "which files make up the model");
    check(&file, set("apr.capsule", "x"), "can only be removed");
    check(&file, edits(&[("test.int8", "test.bool")], &[], &[]), "\"test.bool\" is there already");
    check(&file, edits(&[("none", "x")], &[], &[]), "no key \"none\" to rename");
    check(&file, edits(&[("test.int8", "general.alignment")], &[], &[]), "can't be edited");
    check(&file, edits(&[], &["none"], &[]), "no key \"none\" to remove");
    check(&file, edits(&[("test.int8", "")], &[], &[]), "is no key");
    check(&file, set("a b", "1"), "is no key");
    check(&file, set(&"k".repeat(65_536), "1"), "is no key");
    check(&file, set("test.uint8", "256"), "\"256\" is no u8");
    check(&file, set("test.uint8", "-1"), "is no u8");
    check(&file, set("test.bool", "yes"), "is no bool");
    check(&file, set("test.float64", "1e999"), "is no f64");
    check(&file, set("test.ints", "[1.5]"), "1.5 is no element of [i32]");
    check(&file, set("test.ints", "[\"1\"]"), "is no element of [i32]");
    check(&file, set("test.ints", "1"), "is no JSON array");
    check(&file, set("test.texts", "[1]"), "1 is no element of [str]");
    let nested = [9u32.to_le_bytes().as_slice(), &9u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("n.gguf"), common::bytes::gguf(&[("k", nested)], &[], 0)).unwrap();
    check(&dir.path().join("n.gguf"), set("k", "[[1]]"), "can't be written as text");
    let opened = plan_edit(&common::models().join("nano-qwen2/model.safetensors"), &set("a", "1"), &Limits::default());
    assert!(matches!(opened, Err(EditError::Open(_))));
}
