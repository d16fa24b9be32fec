//! What the fuzz targets do with their bytes.
//!
//! *In:* any bytes. *Out:* nothing; a broken promise is a panic. *Afterwards:* a reader gave an error or a model, and a
//! model went to every other format and came back as the same file.
//! *Absent on purpose:* tokenizers and the engine, which have tests of their own.
//!
//! `cargo fuzz` builds with a nightly compiler; with a stable one, `RUSTC_BOOTSTRAP=1` does:
//!
//! ```sh
//! RUSTC_BOOTSTRAP=1 cargo fuzz run gguf -- -max_total_time=600            # new inputs go to corpus/gguf
//! RUSTC_BOOTSTRAP=1 cargo fuzz cmin gguf                                  # keeps those that add coverage
//! ```
//!
//! `apr-formats/tests/corpus.rs` reads every kept input as an ordinary test.

use apr_formats::{
    Limits, Source, SourceFile, Target, WriteError, WriteOptions, Written, capsule_contents, check_integrity, open,
    open_source, summarize, write,
};
use apr_model::{Checkpoint, Format};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The files that lie beside weights in a SafeTensors directory.
const COMPANIONS: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../models/nano-qwen2/config.json")),
    ("generation_config.json", include_bytes!("../../models/nano-qwen2/generation_config.json")),
    ("tokenizer.json", include_bytes!("../../models/nano-qwen2/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../models/nano-qwen2/tokenizer_config.json")),
];

/// Caps that keep one input cheap. They change how much is accepted, not what is checked.
fn limits() -> Limits {
    Limits { array_elements: 1 << 20, capsule_bytes: 16 << 20, ..Limits::default() }
}

/// Reads `data` as every part of the library does.
pub fn read(data: &[u8]) {
    let limits = limits();
    let Some(source) = source(data) else { return };
    let summary = summarize(&source, &limits);
    let checkpoint = open_source(&source, &limits);
    if let Ok(checkpoint) = &checkpoint {
        let summary = summary.expect("what can be opened can be listed");
        assert_eq!(summary.tensors.len(), checkpoint.tensors.len());
        for tensor in &checkpoint.tensors {
            let n = apr_model::Tensor::size_bytes(&tensor.name, tensor.dtype, &tensor.shape).expect("checked");
            assert_eq!(tensor.data.len(), n, "{}", tensor.name);
        }
        let _ = checkpoint.identity();
        let _ = capsule_contents(checkpoint, &limits);
    }
    let _ = check_integrity(&source, &limits);
}

/// `data` as a located model. The checksum of an APR header is put right, for nothing behind it is reached otherwise.
fn source(data: &[u8]) -> Option<Source> {
    let mut data = data.to_vec();
    repair(&mut data);
    let mut files = vec![SourceFile { name: "model.safetensors".to_owned(), bytes: data.into() }];
    files.extend(COMPANIONS.map(|(name, bytes)| SourceFile { name: name.to_owned(), bytes: bytes.into() }));
    Source::from_memory(PathBuf::from("fuzz"), files).ok()
}

fn repair(data: &mut [u8]) {
    const HEADER_BYTES: usize = 64;
    const CHECKSUM: std::ops::Range<usize> = 40..44;
    if data.len() >= HEADER_BYTES && data.starts_with(b"APR") {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&data[..CHECKSUM.start]);
        crc.update(&data[CHECKSUM.end..HEADER_BYTES]);
        data[CHECKSUM].copy_from_slice(&crc.finalize().to_le_bytes());
    }
}

/// Writes `data` to every other format and back.
pub fn round_trip(data: &[u8]) {
    let Some(memory) = source(data) else { return };
    // Rows of the vocabulary without a token are filled in, as many as the file asks for: that takes time, not sense.
    const MOST_ROWS: u32 = 1 << 16;
    if !open_source(&memory, &limits()).is_ok_and(|checkpoint| checkpoint.spec.known().is_none_or(|spec| spec.vocab_size <= MOST_ROWS)) {
        return;
    }
    let work = tempfile::tempdir_in("/dev/shm").expect("/dev/shm takes files");
    let files: &[SourceFile] = if memory.format == Format::SafeTensors { &memory.files } else { &memory.files[..1] };
    let source = work.path().join("source");
    std::fs::create_dir(&source).expect("a new directory");
    for file in files {
        std::fs::write(source.join(&file.name), &*file.bytes).expect("a new file");
    }
    let Ok(checkpoint) = open(&source, &limits()) else { panic!("what opens in memory opens from files") };
    for format in Format::ALL.into_iter().filter(|&f| f != memory.format) {
        for capsule in [true, false] {
            let there = work.path().join(format!("there-{format}-{capsule}"));
            if convert(&checkpoint, &there, format, capsule).is_err() {
                continue;
            }
            let copy = open(&there, &Limits::default()).unwrap_or_else(|e| panic!("what was written opens: {e}"));
            check_integrity(&Source::locate(&there).expect("opened above"), &Limits::default()).expect("checksums fit");
            assert_eq!(copy.identity(), checkpoint.identity(), "{format} holds the same model");
            if !capsule {
                continue;
            }
            let back = work.path().join(format!("back-{format}"));
            let written = convert(&copy, &back, memory.format, true).unwrap_or_else(|e| panic!("way back: {e}"));
            assert_eq!(written.restored, Ok(()), "{} by way of {format}", memory.format);
            let original: Vec<_> = files.iter().map(|file| &*file.bytes).collect();
            for (file, bytes) in written.files.iter().zip(original) {
                assert_eq!(std::fs::read(&file.path).expect("written above"), bytes, "{}", file.path.display());
            }
        }
    }
}

fn convert(checkpoint: &Checkpoint, path: &Path, format: Format, capsule: bool) -> Result<Written, WriteError> {
    let target = Target { path: path.to_owned(), format };
    let options = WriteOptions { capsule, ..WriteOptions::default() };
    write(checkpoint, &target, &options, &mut |_, _| ControlFlow::Continue(()))
}
