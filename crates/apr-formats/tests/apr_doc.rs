//! The hex dumps of docs/apr-format.md are those of the file that it names.

mod common;

use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_model::Format;

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
