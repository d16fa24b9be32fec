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

#[test]
fn gguf_holds_a_family_or_says_why_not() {
    let mut n_held = 0;
    for source in models() {
        let work = tempfile::tempdir().unwrap();
        let (gguf, back) = (work.path().join("m.gguf"), work.path().join("back"));
        let checkpoint = open(&source, &Limits::default()).unwrap();
        let why = match (checkpoint.spec.arch.gguf, convert(&source, &gguf, Format::Gguf, true)) {
            (GgufForm::Refused(why), Err(error)) => {
                assert!(error.contains(checkpoint.spec.arch.id) && error.contains(why), "{error}");
                continue;
            }
            (GgufForm::Refused(why), Ok(_)) => panic!("{} as GGUF, though {why}", source.display()),
            (GgufForm::Plain { .. }, result) => result.err(),
        };
        if let Some(error) = why {
            // A model that is more than its architecture's GGUF form can say.
            println!("{error}");
            assert!(error.contains("GGUF has no key"), "{error}");
            continue;
        }
        assert_eq!(open(&gguf, &Limits::default()).unwrap().spec, checkpoint.spec, "{}", source.display());
        let restored = convert(&gguf, &back, Format::SafeTensors, true).unwrap().restored;
        assert_eq!(restored, Ok(()), "{}", source.display());
        assert_eq!(content(&source), content(&back), "{}", source.display());
        n_held += 1;
    }
    assert!(n_held >= 4, "{n_held}");
}
