//! A write leaves either the new model or what was there before, and nothing else.

mod common;

use apr_formats::{Limits, Target, WriteError, WriteOptions, open, write};
use apr_model::Format;
use common::{content, fixtures, no_progress};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const FORCE: WriteOptions =
    WriteOptions { force: true, capsule: true, recoding: None, shard_bytes: None, dry_run: false };

fn gguf() -> PathBuf {
    fixtures("nano-llama", "gguf").into_iter().find(|path| path.ends_with("nano-llama-Q8_0.gguf")).unwrap()
}

fn target_of(format: Format) -> &'static str {
    match format {
        Format::Gguf => "model.gguf",
        Format::SafeTensors => "model",
        Format::Apr => "model.apr",
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn convert(to: &Path, format: Format, options: &WriteOptions) -> Result<(), WriteError> {
    common::convert(&gguf(), to, format, options).map(|_| ())
}

#[test]
fn seed_166_silent_overwrite() {
    for format in Format::ALL {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join(target_of(format));
        if format == Format::SafeTensors {
            fs::create_dir(&target).unwrap();
            fs::write(target.join("precious"), "old").unwrap();
        } else {
            fs::write(&target, "old").unwrap();
        }
        let before = content(&target);
        let error = convert(&target, format, &WriteOptions::default()).unwrap_err();
        assert!(matches!(&error, WriteError::Exists { path } if *path == target), "{error}");
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(content(&target), before, "what was there is intact");
        convert(&target, format, &FORCE).unwrap();
        assert_eq!(open(&target, &Limits::default()).unwrap().origin.format, format);
        assert_eq!(names(work.path()), [target_of(format)], "nothing else is left");
        if format == Format::SafeTensors {
            assert_eq!(fs::read(target.join("precious")).unwrap(), b"old", "a file of somebody else stays");
        }
    }
}

#[test]
fn a_single_safetensors_file_does_not_replace_its_neighbours() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("config.json"), "{}").unwrap();
    let target = work.path().join("x.safetensors");
    let error = convert(&target, Format::SafeTensors, &WriteOptions::default()).unwrap_err();
    assert!(matches!(&error, WriteError::Exists { path } if path.ends_with("config.json")), "{error}");
    assert_eq!(names(work.path()), ["config.json"]);
    assert_eq!(fs::read(work.path().join("config.json")).unwrap(), b"{}");
    convert(&target, Format::SafeTensors, &FORCE).unwrap();
    assert!(open(&target, &Limits::default()).is_ok());
    // The same files beside it are no obstacle for a second one.
    convert(&work.path().join("y.safetensors"), Format::SafeTensors, &WriteOptions::default()).unwrap();
}

#[test]
fn files_of_another_model_are_not_mixed_in() {
    for stale in
        ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "merges.txt", "chat_template.jinja"]
    {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join("model");
        fs::create_dir(&target).unwrap();
        fs::write(target.join(stale), "old").unwrap();
        let error = convert(&target, Format::SafeTensors, &FORCE).unwrap_err();
        assert!(error.to_string().contains(&format!("{stale} of another model is there")), "{error}");
        assert_eq!(names(&target), [stale]);
    }
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("chat_template.jinja"), "old").unwrap();
    let error = convert(&work.path().join("x.safetensors"), Format::SafeTensors, &WriteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("chat_template.jinja of another model is there"), "{error}");
    convert(&work.path().join("x.gguf"), Format::Gguf, &WriteOptions::default()).unwrap();
}

#[test]
fn an_interruption_leaves_nothing_and_the_old_file() {
    for format in Format::ALL {
        for old in [false, true] {
            let work = tempfile::tempdir().unwrap();
            let target = Target { path: work.path().join(target_of(format)), format };
            if old && format != Format::SafeTensors {
                fs::write(&target.path, "old").unwrap();
            }
            let before = names(work.path());
            let checkpoint = open(&gguf(), &Limits::default()).unwrap();
            let mut seen = Vec::new();
            let mut stop_in_the_middle = |done: u64, total: u64| {
                // While it is written it has no final name.
                seen = names(work.path());
                if done > total / 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let error = write(&checkpoint, &target, &FORCE, &mut stop_in_the_middle).unwrap_err();
            assert!(matches!(error, WriteError::Interrupted), "{error}");
            assert_eq!(names(work.path()), before, "{format}");
            assert!(seen.iter().any(|name| name.starts_with('.') && name.ends_with(".partial")), "{seen:?}");
            if old && format != Format::SafeTensors {
                assert_eq!(fs::read(&target.path).unwrap(), b"old");
            }
        }
    }
}

/// Tests may run as root, for whom no directory is read-only: a path under a file refuses everybody.
#[test]
fn a_target_that_can_not_be_created_is_an_error_with_its_path() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("file"), "").unwrap();
    for format in Format::ALL {
        for parent in ["file", "absent"] {
            let target = work.path().join(parent).join(target_of(format));
            let error = convert(&target, format, &FORCE).unwrap_err();
            assert!(matches!(error, WriteError::Io { .. }), "{error:?}");
            assert!(error.to_string().contains(work.path().to_str().unwrap()), "{error}");
        }
        if format == Format::Gguf {
            let error = convert(work.path(), format, &FORCE).unwrap_err();
            assert!(error.to_string().contains("this is a directory; name a file"), "{error}");
        }
    }
    assert_eq!(names(work.path()), ["file"]);
}

#[test]
fn a_directory_that_disappears_while_writing_is_an_error() {
    for format in Format::ALL {
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let target = Target { path: dir.join(target_of(format)), format };
        let checkpoint = open(&gguf(), &Limits::default()).unwrap();
        let mut remove = |_, _| {
            drop(fs::remove_dir_all(&dir));
            ControlFlow::Continue(())
        };
        let error = write(&checkpoint, &target, &WriteOptions::default(), &mut remove).unwrap_err();
        assert!(matches!(error, WriteError::Io { .. }), "{error:?}");
        assert_eq!(names(work.path()), [""; 0]);
    }
}

#[test]
fn a_target_that_appears_while_writing_stays() {
    let work = tempfile::tempdir().unwrap();
    let target = Target { path: work.path().join("model.apr"), format: Format::Apr };
    let checkpoint = open(&gguf(), &Limits::default()).unwrap();
    let mut create = |_, _| {
        fs::write(&target.path, "somebody else's").unwrap();
        ControlFlow::Continue(())
    };
    let error = write(&checkpoint, &target, &WriteOptions::default(), &mut create).unwrap_err();
    assert!(matches!(error, WriteError::Exists { .. }), "{error:?}");
    assert_eq!(content(work.path()), [("model.apr".to_owned(), b"somebody else's".to_vec())]);
}

#[test]
fn a_source_can_be_replaced_by_its_own_conversion() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("model");
    fs::copy(gguf(), &path).unwrap();
    let before = open(&path, &Limits::default()).unwrap();
    let target = Target { path: path.clone(), format: Format::Apr };
    write(&before, &target, &FORCE, &mut no_progress()).unwrap();
    let after = open(&path, &Limits::default()).unwrap();
    for tensor in &before.tensors {
        let same = compare(tensor, after.tensors.get(&tensor.name).unwrap());
        assert!(same, "{}: the map of the old file stays valid", tensor.name);
    }
}

fn compare(a: &apr_model::Tensor, b: &apr_model::Tensor) -> bool {
    (0..a.canonical_rows()).all(|row| a.canonical_row(row) == b.canonical_row(row))
}

#[test]
fn a_source_that_changes_while_it_is_read_gives_no_target() {
    use std::fs::{File, OpenOptions};
    use std::time::{Duration, SystemTime};
    let open_file = |path: &Path| OpenOptions::new().write(true).open(path).unwrap();
    // Within the last page nothing fails when it is read: there are zeros behind a new end.
    let shorter = |file: File, len: u64| file.set_len(len - 1).unwrap();
    let longer = |file: File, len: u64| file.set_len(len + 1).unwrap();
    let other = |file: File, _: u64| std::os::unix::fs::FileExt::write_all_at(&file, b"G", 0).unwrap();
    type Change<'a> = &'a dyn Fn(File, u64);
    let changes: [(Change<'_>, &str); 3] =
        [(&shorter, "it was changed"), (&longer, "it was changed"), (&other, "was written to")];
    for (change, expect) in changes {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source.gguf");
        fs::copy(gguf(), &source).unwrap();
        open_file(&source).set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        let target = Target { path: work.path().join("model.apr"), format: Format::Apr };
        fs::write(&target.path, "old").unwrap();
        let checkpoint = open(&source, &Limits::default()).unwrap();
        let len = fs::metadata(&source).unwrap().len();
        let mut once = Some(());
        let mut progress = |_, _| {
            if once.take().is_some() {
                change(open_file(&source), len);
            }
            ControlFlow::Continue(())
        };
        let error = write(&checkpoint, &target, &FORCE, &mut progress).unwrap_err().to_string();
        assert!(error.contains("source.gguf") && error.contains(expect), "{error:?} should say {expect:?}");
        assert_eq!(fs::read(&target.path).unwrap(), b"old");
        assert_eq!(names(work.path()), ["model.apr", "source.gguf"]);
    }
}

#[test]
fn a_symbolic_link_is_no_target() {
    for format in Format::ALL {
        let work = tempfile::tempdir().unwrap();
        let (file, link) = (work.path().join("file"), work.path().join(target_of(format)));
        std::os::unix::fs::symlink("file", &link).unwrap();
        for (old, options) in [(false, &FORCE), (true, &FORCE), (true, &WriteOptions::default())] {
            if old {
                fs::write(&file, "old").unwrap();
            }
            let error = convert(&link, format, options).unwrap_err().to_string();
            assert!(error.contains("a symbolic link to file"), "{error}");
            assert_eq!(fs::read(&file).ok(), old.then(|| b"old".to_vec()));
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("file"));
        }
    }
    // Models of a cache are links to files that are called otherwise: as sources they are files.
    let work = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(gguf(), work.path().join("x.gguf")).unwrap();
    assert!(open(&work.path().join("x.gguf"), &Limits::default()).is_ok());
}

#[test]
fn a_safetensors_directory_gets_its_files_and_no_others() {
    for (source, expected) in [
        (
            common::hf_dir("nano-qwen2").keep(),
            vec![
                "config.json",
                "generation_config.json",
                "merges.txt",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "vocab.json",
            ],
        ),
        (
            gguf(),
            vec![
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer.model",
                "tokenizer_config.json",
            ],
        ),
    ] {
        let work = tempfile::tempdir().unwrap();
        let apr = work.path().join("x.apr");
        common::convert(&source, &apr, Format::Apr, &WriteOptions::default()).unwrap();
        let dir = work.path().join("dir");
        common::convert(&apr, &dir, Format::SafeTensors, &WriteOptions::default()).unwrap();
        assert_eq!(names(&dir), expected);
        assert_eq!(names(work.path()), ["dir", "x.apr"]);
    }
}

#[test]
fn new_files_have_the_permissions_that_the_umask_leaves() {
    let work = tempfile::tempdir().unwrap();
    // What the system gives to a file and a directory that anybody creates here.
    fs::write(work.path().join("probe"), "").unwrap();
    fs::create_dir(work.path().join("probe.d")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (file_mode, dir_mode) = (mode(&work.path().join("probe")), mode(&work.path().join("probe.d")));
    for format in Format::ALL {
        let target = work.path().join(target_of(format));
        convert(&target, format, &WriteOptions::default()).unwrap();
        if format == Format::SafeTensors {
            assert_eq!(mode(&target), dir_mode);
            for name in names(&target) {
                assert_eq!(mode(&target.join(&name)), file_mode, "{name}");
            }
        } else {
            assert_eq!(mode(&target), file_mode, "{format}");
        }
    }
}
