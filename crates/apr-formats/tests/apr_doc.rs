//! The hex dumps of docs/apr-format.md are those of the file that it names, and its dtypes are those of the table.

mod common;

use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_model::Format;
use apr_tensor::DTYPES;

#[test]
fn the_dumps_in_the_format_document_are_true() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.apr");
    let source = common::models().join("nano-qwen2/gguf/nano-qwen2-Q4_0.gguf");
    let target = Target { path: path.clone(), format: Format::Apr };
    let options = WriteOptions { capsule: false, ..WriteOptions::default() };
    write(&open(&source, &Limits::default()).unwrap(), &target, &options, &mut common::no_progress()).unwrap();
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
}
