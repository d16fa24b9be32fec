//! A → B → A gives back the same files, for every fixture and every pair of formats.

mod common;

use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_model::Format;
use common::{content, fixtures, no_progress, sources};
use std::path::Path;

fn convert(from: &Path, to: &Path, format: Format) -> apr_formats::Written {
    let checkpoint = open(from, &Limits::default()).unwrap();
    let target = Target { path: to.to_owned(), format };
    write(&checkpoint, &target, &WriteOptions::default(), &mut no_progress()).unwrap()
}

fn target_name(step: usize, format: Format) -> String {
    match format {
        Format::SafeTensors => format!("{step}-dir"),
        other => format!("{step}.{}", other.name()),
    }
}

/// Converts `source` along `path` and demands the source's files at the end.
fn check(source: &Path, path: &[Format]) {
    let work = tempfile::tempdir().unwrap();
    let mut current = source.to_owned();
    let mut last = None;
    for (step, &format) in path.iter().enumerate() {
        let next = work.path().join(target_name(step, format));
        last = Some(convert(&current, &next, format));
        current = next;
    }
    let why = format!("{} along {path:?}", source.display());
    assert_eq!(last.unwrap().restored, Ok(()), "{why}");
    let before = content(source);
    let after = content(&current);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if source.is_dir() {
        assert_eq!(names(&before), names(&after), "{why}");
    }
    for ((name, a), (_, b)) in before.iter().zip(&after) {
        assert!(a == b, "{why}: {name} differs");
    }
}

#[test]
fn f_conv_rt_001_every_fixture_comes_back_through_every_other_format() {
    for source in sources() {
        let origin = open(&source, &Limits::default()).unwrap().origin.format;
        for via in Format::ALL.into_iter().filter(|&f| f != origin) {
            check(&source, &[via, origin]);
        }
    }
}

#[test]
fn f_conv_rt_002_and_003_longer_ways_come_back_too() {
    use Format::{Apr, Gguf, SafeTensors};
    for name in ["tiny-qwen2", "nano-qwen3", "nano-llama"] {
        let source = common::hf_dir(name);
        check(source.path(), &[Apr, Gguf, SafeTensors]);
        check(source.path(), &[Apr, Gguf, Apr, SafeTensors]);
        check(source.path(), &[Gguf, Apr, Gguf, Apr, SafeTensors]);
    }
    for gguf in fixtures("nano-llama", "gguf") {
        check(&gguf, &[Apr, SafeTensors, Gguf]);
        check(&gguf, &[SafeTensors, Apr, SafeTensors, Gguf]);
    }
}

#[test]
fn f_conv_com_001_a_detour_gives_the_same_tensors() {
    use Format::{Apr, SafeTensors};
    for gguf in fixtures("nano-qwen2", "gguf").into_iter().chain(fixtures("nano-llama", "gguf")) {
        let work = tempfile::tempdir().unwrap();
        let (direct, dir, detour) = (work.path().join("d.apr"), work.path().join("dir"), work.path().join("e.apr"));
        convert(&gguf, &direct, Apr);
        convert(&gguf, &dir, SafeTensors);
        convert(&dir, &detour, Apr);
        let a = open(&direct, &Limits::default()).unwrap();
        let b = open(&detour, &Limits::default()).unwrap();
        assert_eq!(a.identity(), b.identity());
        assert_eq!(a.tensors.len(), b.tensors.len());
        for tensor in &a.tensors {
            let other = b.tensors.get(&tensor.name).unwrap();
            assert_eq!((tensor.dtype, &*tensor.data), (other.dtype, &*other.data), "{}", tensor.name);
        }
    }
}

#[test]
fn a_detour_does_not_depend_on_what_files_are_called() {
    use Format::{Apr, Gguf};
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    convert(&common::models().join("nano-qwen2/gguf/nano-qwen2-Q8_0.gguf"), &at("a.apr"), Apr);
    convert(&at("a.apr"), &at("another name.gguf"), Gguf);
    convert(&at("another name.gguf"), &at("b.apr"), Apr);
    assert!(std::fs::read(at("a.apr")).unwrap() == std::fs::read(at("b.apr")).unwrap());
}
