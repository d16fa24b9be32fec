//! Every input that the fuzzers kept, as an ordinary test.

mod common;

use apr_formats::{Limits, Source, capsule_contents, check_integrity, open_source, summarize};
use common::bytes::seal_apr;
use std::path::Path;

fn read(source: &Source) -> bool {
    let limits = Limits::default();
    let listed = summarize(source, &limits).is_ok();
    let opened = open_source(source, &limits);
    if let Ok(checkpoint) = &opened {
        assert!(listed, "what can be opened can be listed");
        let _ = capsule_contents(checkpoint, &limits);
    }
    let _ = check_integrity(source, &limits);
    opened.is_ok()
}

#[test]
fn no_input_of_the_fuzzers_brings_a_reader_down() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in ["gguf", "safetensors", "apr", "roundtrip"] {
        let (mut n, mut opened) = (0, 0);
        for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
            let mut bytes = std::fs::read(entry.unwrap().path()).unwrap();
            n += 1;
            for _ in ["as it is", "with a header whose checksum is right"] {
                if let Ok(source) = common::in_memory("model.safetensors", &bytes) {
                    opened += usize::from(read(&source));
                }
                seal_apr_file(&mut bytes);
            }
        }
        assert!(n >= 5 && opened > 0, "{target}: {n} inputs, {opened} of them models");
    }
}

fn seal_apr_file(bytes: &mut [u8]) {
    if bytes.starts_with(b"APR") {
        seal_apr(bytes);
    }
}
