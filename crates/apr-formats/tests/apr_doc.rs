//! The hex dumps of docs/apr-format.md are those of the file that it names, its dtypes are those of the table, and who
//! knows no more than it says reads the file.

mod common;

use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_model::Format;
use apr_tensor::{DTYPES, codec};
use std::path::Path;
use std::process::{Command, Output};

/// Writes the document's example.
fn example(path: &Path) {
    let source = common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf");
    let target = Target { path: path.to_owned(), format: Format::Apr };
    let options = WriteOptions { capsule: false, ..WriteOptions::default() };
    write(&open(&source, &Limits::default()).unwrap(), &target, &options, &mut common::no_progress()).unwrap();
}

#[test]
fn the_dumps_in_the_format_document_are_true() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.apr");
    example(&path);
    let bytes = std::fs::read(path).unwrap();
    let document = std::fs::read_to_string(common::models().join("../docs/apr-format.md")).unwrap();
    let mut n_lines = 0;
    for line in document.lines().filter(|line| line.ends_with('|') && line.get(8..10) == Some("  ")) {
        let at = usize::from_str_radix(&line[..8], 16).unwrap();
        let hex: Vec<u8> = line[10..57].split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(hex, bytes[at..at + hex.len()], "line {line:?}");
        n_lines += 1;
    }
    assert!(n_lines >= 12, "the document has lost its dumps");
    assert!(document.contains(&format!("({} bytes)", bytes.len())));
}

#[test]
fn the_dtypes_in_the_format_document_are_those_of_the_table() {
    let document = std::fs::read_to_string(common::models().join("../docs/apr-format.md")).unwrap();
    let after = document.split_once("| id | dtype |").expect("a table of dtypes").1;
    let table = after.split("\n\n").next().unwrap();
    let mut found: Vec<(u32, &str, usize, usize)> = Vec::new();
    for line in table.lines().skip(2) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for cell in [1, 6].into_iter().filter(|&cell| !cells[cell].is_empty()) {
            let number = |i: usize| cells[cell + i].parse().unwrap();
            found.push((cells[cell].parse().unwrap(), cells[cell + 1], number(2), number(3)));
        }
    }
    found.sort_unstable();
    let mut expected: Vec<_> =
        DTYPES.iter().map(|row| (row.id, row.name, row.block_elements, row.block_bytes)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let reader = std::fs::read_to_string(common::models().join("../docs/read_apr.py")).unwrap();
    for (id, name, elements, bytes) in expected {
        assert!(reader.contains(&format!("{id}: (\"{name}\", {elements}, {bytes})")), "read_apr.py lacks {name}");
    }
}

/// Runs docs/read_apr.py; None where there is no Python.
fn python_reader(arguments: &[&str]) -> Option<Output> {
    let program = common::models().join("../docs/read_apr.py");
    match Command::new("python3").arg(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("left out, as python3 does not start: {error}");
            None
        }
    }
}

#[test]
fn a_reader_made_from_the_document_reads_the_same_values() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.apr");
    example(&path);
    let path = path.to_str().unwrap();
    // What llama.cpp wrote, not what was made of it.
    let source = open(&common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf"), &Limits::default()).unwrap();
    let Some(listed) = python_reader(&[path]) else { return };
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut expected: Vec<String> = source
        .tensors
        .iter()
        .map(|t| {
            let crc = common::bytes::crc32(&[&t.data]);
            format!("{} {} {:?} {} {crc:08x}", t.name, t.dtype, t.shape.dims(), t.data.len())
        })
        .collect();
    expected.sort();
    expected.insert(0, format!("qwen2 {} tensors", source.tensors.len()));
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    let mut dtypes = std::collections::HashSet::new();
    for tensor in source.tensors.iter().filter(|tensor| dtypes.insert(tensor.dtype)) {
        let output = python_reader(&[path, &tensor.name]).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found: Vec<f32> = text.lines().map(|line| line.parse::<f64>().unwrap() as f32).collect();
        let mut values = vec![0.0; tensor.shape.n_elements()];
        codec::decode(tensor.dtype, &tensor.data, &mut values);
        assert_eq!(found, values, "{} {}", tensor.name, tensor.dtype);
    }
    assert!(dtypes.len() >= 3, "{dtypes:?}");
}

#[test]
fn a_reader_made_from_the_document_refuses_what_is_damaged() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.apr");
    example(&path);
    let whole = std::fs::read(&path).unwrap();
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (bytes, expect) in [
        (damaged(44), "the header's checksum is wrong"),
        (damaged(10368), "model.embed_tokens.weight: checksum"),
        (damaged(8575), "the file's checksum is wrong"),
        (damaged(whole.len() - 1), "the file's checksum is wrong"),
        (whole[..40_000].to_vec(), "its data lies behind the end"),
        (b"GGUF".repeat(20), "magic"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let Some(output) = python_reader(&[path.to_str().unwrap()]) else { return };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expect), "{said:?} should say {expect:?}");
    }
}
