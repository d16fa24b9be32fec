//! Models of every family come back through every format that can hold them, and are refused by name elsewhere.

mod common;

use apr_formats::{Limits, Target, WriteOptions, Written, open, write};
use apr_model::{ARCHITECTURES, Format, GgufForm};
use common::{content, no_progress};
use std::path::{Path, PathBuf};

fn models() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    models.sort();
    assert!(models.len() >= ARCHITECTURES.len());
    models
}

fn convert(from: &Path, to: &Path, format: Format, capsule: bool) -> Result<Written, String> {
    let checkpoint = open(from, &Limits::default()).map_err(|error| error.to_string())?;
    let target = Target { path: to.to_owned(), format };
    let options = WriteOptions { capsule, ..WriteOptions::default() };
    write(&checkpoint, &target, &options, &mut no_progress()).map_err(|error| error.to_string())
}

#[test]
fn every_family_comes_back_through_apr() {
    for source in models() {
        let work = tempfile::tempdir().unwrap();
        let (apr, back) = (work.path().join("m.apr"), work.path().join("back"));
        convert(&source, &apr, Format::Apr, true).unwrap();
        let restored = convert(&apr, &back, Format::SafeTensors, true).unwrap().restored;
        assert_eq!(restored, Ok(()), "{}", source.display());
        assert_eq!(content(&source), content(&back), "{}", source.display());
    }
}

/// A file without a recipe states the same model under this project's own config.json.
#[test]
fn hyper_parameters_survive_without_a_capsule() {
    for source in models() {
        let work = tempfile::tempdir().unwrap();
        let (apr, back) = (work.path().join("m.apr"), work.path().join("back"));
        convert(&source, &apr, Format::Apr, false).unwrap();
        convert(&apr, &back, Format::SafeTensors, false).unwrap();
        let spec = |path: &Path| open(path, &Limits::default()).unwrap().spec;
        assert_eq!(spec(&apr), spec(&source), "{}", source.display());
        assert_eq!(spec(&back), spec(&source), "{}", source.display());
    }
}

/// Models that are more than GGUF can say.
const NOT_IN_GGUF: &[&str] = &["llama-dynamic", "llama-llama3", "qwen2-window"];

#[test]
fn every_family_comes_back_through_gguf() {
    for source in models() {
        let name = source.file_name().unwrap().to_str().unwrap();
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let checkpoint = open(&source, &Limits::default()).unwrap();
        let written = convert(&source, &at("m.gguf"), Format::Gguf, true);
        if NOT_IN_GGUF.contains(&name) {
            let error = written.unwrap_err();
            assert!(error.contains("GGUF has no key"), "{name}: {error}");
            continue;
        }
        if let GgufForm::Refused(why) = checkpoint.spec.arch.gguf {
            let error = written.unwrap_err();
            assert!(error.contains(checkpoint.spec.arch.id) && error.contains(why), "{error}");
            continue;
        }
        written.unwrap_or_else(|error| panic!("{name}: {error}"));
        let gguf = open(&at("m.gguf"), &Limits::default()).unwrap();
        assert_eq!(gguf.spec, checkpoint.spec, "{name}");
        assert_eq!(gguf.structure(), [], "{name}");
        let restored = convert(&at("m.gguf"), &at("back"), Format::SafeTensors, true).unwrap().restored;
        assert_eq!(restored, Ok(()), "{name}");
        assert_eq!(content(&source), content(&at("back")), "{name}");

        // The GGUF file too is a source that comes back, and says the same without any recipe.
        for (format, between) in [(Format::Apr, "m.apr"), (Format::SafeTensors, "m")] {
            convert(&source, &at("plain.gguf"), Format::Gguf, false).unwrap();
            convert(&at("plain.gguf"), &at(between), format, true).unwrap();
            let restored = convert(&at(between), &at("again.gguf"), Format::Gguf, true).unwrap().restored;
            assert_eq!(restored, Ok(()), "{name} through {format}");
            let bytes = |file: &str| std::fs::read(at(file)).unwrap();
            assert!(bytes("plain.gguf") == bytes("again.gguf"), "{name} through {format}");
            let spec = open(&at(between), &Limits::default()).unwrap().spec;
            assert_eq!(spec, checkpoint.spec, "{name} as {format}");
            std::fs::remove_file(at("plain.gguf")).unwrap();
            std::fs::remove_file(at("again.gguf")).unwrap();
        }
    }
}

/// A file of llama.cpp's converter says no more than llama; the family and its window are this project's own keys.
#[test]
fn a_mistral_model_is_a_llama_file_that_names_its_family() {
    let source = models().into_iter().find(|path| path.ends_with("mistral")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let gguf = work.path().join("m.gguf");
    let written = convert(&source, &gguf, Format::Gguf, false).unwrap();
    assert!(written.elsewhere[0].contains("sliding window of Mistral models: past 6 positions"), "{written:?}");
    let bytes = std::fs::read(&gguf).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&gguf, bytes).unwrap();
        open(&gguf, &Limits::default()).map_err(|error| error.to_string())
    };
    let error = changed("apr.family", "apr.famili").unwrap_err();
    assert!(error.contains("llama.attention.sliding_window in a llama model"), "{error}");
    let error = changed("mistral", "starcod").unwrap_err();
    assert!(error.contains("family \"starcod\" of architecture \"llama\""), "{error}");
    let error = changed(
        "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
        "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0qwen3",
    );
    let error = error.unwrap_err();
    assert!(error.contains("family \"mistral\" of architecture \"qwen3\""), "{error}");
}
