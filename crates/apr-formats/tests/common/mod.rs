//! Fixtures, and how tests look at directories.
#![expect(dead_code, reason = "each test file uses some of these")]

pub(crate) mod bytes;

use apr_formats::{
    Limits, Source, SourceFile, Target, WriteError, WriteOptions, Written, capsule_contents, check_integrity, open,
    open_source, summarize, write,
};
use apr_model::Format;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

pub(crate) const MODELS: [&str; 4] = ["tiny-qwen2", "nano-qwen2", "nano-qwen3", "nano-llama"];

/// The GGUF files of a model, made by llama.cpp.
pub(crate) fn fixtures(model: &str, sub: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(models().join(model).join(sub)).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// A Transformers directory with nothing in it that is not part of the model.
pub(crate) fn hf_dir(model: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(models().join(model)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && !name.starts_with("golden") {
            std::fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    dir
}

/// Every model of the repository, as directories and as GGUF files.
pub(crate) fn sources() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    for model in MODELS {
        // Kept until the process ends, so that the paths stay valid.
        sources.push(hf_dir(model).keep());
        sources.extend(fixtures(model, "gguf"));
    }
    sources.push(models().join("../fixtures/dtypes/every-dtype.gguf"));
    sources.push(models().join("../fixtures/containers/nano-qwen2-Q4_0.carried.gguf"));
    sources
}

/// Models of an architecture that no table knows, as each format states it: those of the repository under another name.
pub(crate) fn unknown(format: Format, dir: &Path) -> PathBuf {
    let write = |name: &str, bytes: Vec<u8>| {
        std::fs::write(dir.join(name), bytes).unwrap();
        dir.join(name)
    };
    match format {
        Format::Gguf => {
            let mut bytes = std::fs::read(models().join("nano-llama/gguf/nano-llama-Q4_K_M.gguf")).unwrap();
            let key = b"general.architecture";
            let value = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4 + 8;
            assert_eq!(&bytes[value..value + 5], b"llama");
            bytes[value..value + 5].copy_from_slice(b"ferre");
            write("unknown.gguf", bytes)
        }
        Format::Apr => write(
            "unknown.apr",
            bytes::apr(&bytes::APR_METADATA.replace("qwen2", "ferre"), &[("w", 0, &[4, 16], 0)], 256),
        ),
        Format::SafeTensors => {
            let model = hf_dir("nano-qwen2").keep();
            let config = std::fs::read_to_string(model.join("config.json")).unwrap();
            let config = config.replace("Qwen2ForCausalLM", "FerreForCausalLM").replace("\"qwen2\"", "\"ferre\"");
            std::fs::write(model.join("config.json"), config).unwrap();
            std::fs::rename(&model, dir.join("unknown")).unwrap();
            dir.join("unknown")
        }
    }
}

/// The files at a path by name.
pub(crate) fn content(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
        }
    } else {
        files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()));
    }
    files.sort();
    files
}

pub(crate) fn no_progress() -> impl FnMut(u64, u64) -> ControlFlow<()> {
    |_, _| ControlFlow::Continue(())
}

/// Converts without an interruption.
pub(crate) fn convert(from: &Path, to: &Path, format: Format, options: &WriteOptions) -> Result<Written, WriteError> {
    let checkpoint = open(from, &Limits::default()).unwrap();
    let target = Target { path: to.to_owned(), format };
    write(&checkpoint, &target, options, &mut no_progress())
}

/// A located model made of bytes; SafeTensors gets the other files of nano-qwen2 beside it.
pub(crate) fn in_memory(name: &str, bytes: &[u8]) -> Result<Source, apr_formats::OpenError> {
    const COMPANIONS: [(&str, &[u8]); 3] = [
        ("config.json", include_bytes!("../../../../models/nano-qwen2/config.json")),
        ("tokenizer.json", include_bytes!("../../../../models/nano-qwen2/tokenizer.json")),
        ("tokenizer_config.json", include_bytes!("../../../../models/nano-qwen2/tokenizer_config.json")),
    ];
    let mut files = vec![SourceFile { name: name.to_owned(), bytes: bytes.to_vec().into() }];
    files.extend(COMPANIONS.map(|(name, bytes)| SourceFile { name: name.to_owned(), bytes: bytes.into() }));
    Source::from_memory(PathBuf::from(name), files)
}

/// Reads in every way there is, whatever comes of it.
pub(crate) fn read_every_way(name: &str, bytes: &[u8]) {
    let Ok(source) = in_memory(name, bytes) else { return };
    let limits = Limits::default();
    let _ = (summarize(&source, &limits).is_ok(), check_integrity(&source, &limits).is_ok());
    if let Ok(checkpoint) = open_source(&source, &limits) {
        let _ = capsule_contents(&checkpoint, &limits).is_ok();
    }
}
