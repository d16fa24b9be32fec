//! Big-endian files hold the same model as their little-endian twins, and come back byte for byte.

mod common;

use apr_formats::{Limits, open, summarize};
use apr_model::{Checkpoint, Format};
use common::{convert, in_memory};
use std::path::{Path, PathBuf};

fn containers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/containers")
}

/// A little-endian file, and what gguf-py's converter of byte orders made of it.
fn twins() -> [(PathBuf, PathBuf); 2] {
    let llama = common::models().join("nano-llama/gguf/nano-llama-Q4_0.gguf");
    [
        (containers().join("every-order.gguf"), containers().join("every-order.big-endian.gguf")),
        (llama, containers().join("nano-llama-Q4_0.big-endian.gguf")),
    ]
}

fn read(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

#[test]
fn both_orders_hold_the_same_model() {
    for (little, big) in twins() {
        assert!(std::fs::read(&little).unwrap() != std::fs::read(&big).unwrap());
        let (a, b) = (read(&little), read(&big));
        assert_eq!(a.identity(), b.identity());
        assert_eq!(a.tensors.len(), b.tensors.len());
        for (x, y) in a.tensors.iter().zip(&b.tensors) {
            assert_eq!((&x.name, x.dtype, &x.shape), (&y.name, y.dtype, &y.shape));
            assert!(*x.data == *y.data, "{} {}", x.dtype, x.name);
        }
        let summary = |path: &Path| {
            let source = apr_formats::Source::locate(path).unwrap();
            summarize(&source, &Limits::default()).unwrap()
        };
        assert_eq!(summary(&little).metadata, summary(&big).metadata);
        assert_eq!([summary(&little).version, summary(&big).version], ["v3", "v3, big-endian"]);
    }
}

#[test]
fn a_big_endian_file_comes_back_through_every_format() {
    for (_, big) in twins() {
        for via in [Format::Apr, Format::SafeTensors] {
            let work = tempfile::tempdir().unwrap();
            let (there, back) = (work.path().join("there"), work.path().join("back.gguf"));
            let written = convert(&big, &there, via, &Default::default()).unwrap();
            assert_eq!(written.n_verbatim, 0, "every tensor was swapped");
            assert!(written.steps.iter().all(|step| step.swapped));
            let written = convert(&there, &back, Format::Gguf, &Default::default()).unwrap();
            assert_eq!(written.restored, Ok(()));
            assert!(std::fs::read(&back).unwrap() == std::fs::read(&big).unwrap(), "{} by {via}", big.display());
        }
        let work = tempfile::tempdir().unwrap();
        let copy = work.path().join("copy.gguf");
        let written = convert(&big, &copy, Format::Gguf, &Default::default()).unwrap();
        assert_eq!((written.restored, written.steps.len()), (Ok(()), 0));
        assert!(std::fs::read(&copy).unwrap() == std::fs::read(&big).unwrap());
    }
}

#[test]
fn one_number_that_was_not_swapped_makes_another_model() {
    for (little, big) in twins() {
        let sound = read(&little);
        let bytes = std::fs::read(&big).unwrap();
        let little_bytes = std::fs::read(&little).unwrap();
        let summary = summarize(&in_memory("x.gguf", &bytes).unwrap(), &Limits::default()).unwrap();
        let mut different = 0;
        for tensor in summary.tensors {
            let range = tensor.range.clone();
            if bytes[range.clone()] == little_bytes[range.clone()] {
                continue;
            }
            let mut changed = bytes.clone();
            changed[range.clone()].copy_from_slice(&little_bytes[range]);
            let read = apr_formats::open_source(&in_memory("x.gguf", &changed).unwrap(), &Limits::default()).unwrap();
            let [x, y] = [&sound, &read].map(|checkpoint| checkpoint.tensors.get(&tensor.name).unwrap());
            assert!(*x.data != *y.data, "{}", tensor.name);
            different += 1;
        }
        assert!(different >= 9, "{different} tensors have numbers in them");
    }
}

#[test]
fn versions_and_orders_that_are_not_read_are_named() {
    let start = |version: [u8; 4]| [b"GGUF".as_slice(), &version, &[0; 16]].concat();
    for (version, expect) in [
        (1u32.to_le_bytes(), "GGUF version 1"),
        (1u32.to_be_bytes(), "GGUF version 1"),
        (4u32.to_le_bytes(), "version 4, versions 2 and 3 are read"),
        (4u32.to_be_bytes(), "version 4, versions 2 and 3 are read"),
        ([0; 4], "version 0, versions 2 and 3 are read"),
        ([1, 0, 0, 1], "version 16777217, versions 2 and 3 are read"),
        // Read as far as the metadata, in either order.
        (2u32.to_le_bytes(), "\"general.architecture\" is missing"),
        (2u32.to_be_bytes(), "\"general.architecture\" is missing"),
        (3u32.to_be_bytes(), "\"general.architecture\" is missing"),
    ] {
        let source = in_memory("x.gguf", &start(version)).unwrap();
        let error = apr_formats::open_source(&source, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }
    // Blocks that ggml reads in the order of its machine, whatever a converter did with them.
    let mut bytes = std::fs::read(containers().join("every-order.big-endian.gguf")).unwrap();
    let name = b"test.Q8_0";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    assert_eq!(bytes[at..at + 4], 2u32.to_be_bytes());
    let dtype = at + 4 + 2 * 8;
    assert_eq!(bytes[dtype..dtype + 4], 8u32.to_be_bytes());
    bytes[dtype..dtype + 4].copy_from_slice(&6u32.to_be_bytes());
    let error = apr_formats::open_source(&in_memory("x.gguf", &bytes).unwrap(), &Limits::default()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("\"test.Q8_0\" of dtype Q5_0 in a big-endian file"), "{error}");
}

#[test]
fn lengths_are_checked_in_either_order() {
    let bytes = std::fs::read(containers().join("every-order.big-endian.gguf")).unwrap();
    let summary = summarize(&in_memory("x.gguf", &bytes).unwrap(), &Limits::default()).unwrap();
    let start = summary.tensors.iter().map(|tensor| tensor.range.start).min().unwrap();
    let end = summary.tensors.iter().map(|tensor| tensor.range.end).max().unwrap();
    for n in 0..end {
        let Ok(source) = in_memory("x.gguf", &bytes[..n]) else { continue };
        assert!(apr_formats::open_source(&source, &Limits::default()).is_err(), "cut at {n}");
    }
    for at in 8..start {
        for value in [0, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            // An error or a model.
            drop(apr_formats::open_source(&in_memory("x.gguf", &changed).unwrap(), &Limits::default()));
        }
    }
}
