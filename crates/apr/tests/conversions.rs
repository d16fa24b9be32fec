//! The conversions from outside: the commands that convert, and `--dry-run`, which gives the report of the real run and
//! no file.

mod support;

use std::path::Path;
use support::{code, json, nano, repository, run, stdout};

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A report without what a second run may not repeat.
fn facts(report: &serde_json::Value) -> serde_json::Value {
    let facts = |step: &serde_json::Value| {
        let mut step = step.clone();
        step["elapsed_ms"] = 0.into();
        step["dry_run"] = true.into();
        step
    };
    match report["schema"].as_str() {
        Some("apr.chain/1") => report["steps"].as_array().unwrap().iter().map(facts).collect(),
        _ => facts(report),
    }
}

#[test]
fn a_dry_run_reports_what_a_conversion_writes_and_writes_nothing() {
    let work = tempfile::tempdir().unwrap();
    let original = repository("models/nano-qwen2").to_str().unwrap().to_owned();
    for (source, target, options) in [
        (nano("Q8_0"), "x.apr", &[] as &[&str]),
        (nano("Q8_0"), "directory/", &["--dtype", "bf16"]),
        (original, "x.gguf", &["--shard-size", "50KB"]),
        (nano("Q8_0"), "x/", &["--shard-size", "50KB", "--to", "apr"]),
    ] {
        let target = work.path().join(target);
        let arguments = [&["rosetta", "convert", &source, target.to_str().unwrap(), "--json"], options].concat();
        let dry = run(&[&arguments[..], &["--dry-run"]].concat());
        assert_eq!(code(&dry), 0, "{dry:?}");
        assert_eq!(json(&dry)["dry_run"], true);
        assert_eq!(entries(work.path()), [""; 0], "{arguments:?}");
        let done = run(&arguments);
        assert_eq!(code(&done), 0, "{done:?}");
        assert_eq!(json(&done)["dry_run"], false);
        assert_eq!(facts(&json(&dry)), facts(&json(&done)));
        // What is there is refused, as without --dry-run.
        assert_eq!(code(&run(&[&arguments[..], &["--dry-run"]].concat())), 7);
        let _ = std::fs::remove_dir_all(work.path());
        std::fs::create_dir(work.path()).unwrap();
    }
}

#[test]
fn a_dry_chain_reports_each_step_and_writes_nothing() {
    let work = tempfile::tempdir().unwrap();
    let steps = work.path().join("steps");
    let source = nano("Q8_0");
    let work_dir = ["--work-dir", steps.to_str().unwrap()];
    let arguments = [&["rosetta", "chain", &source, "apr", "safetensors", "gguf", "--json"], &work_dir[..]].concat();
    let dry = run(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(code(&dry), 0, "{dry:?}");
    assert!(!steps.exists());
    let done = run(&arguments);
    assert_eq!(code(&done), 0, "{done:?}");
    assert_eq!(facts(&json(&dry)), facts(&json(&done)));
    assert_eq!(json(&dry)["steps"][2]["restored"]["restored"], true);
    assert_eq!(code(&run(&[&arguments[..], &["--dry-run"]].concat())), 7);
    let text = stdout(&run(&["rosetta", "chain", &source, "apr", "--dry-run"]));
    assert!(text.contains("would be written; nothing was"), "{text}");
}

#[test]
fn import_export_and_convert_write_the_file_of_rosetta_convert() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let source = nano("Q8_0");
    for (arguments, target) in [
        (vec!["rosetta", "convert", &source, &path("a.apr")], "a.apr"),
        (vec!["import", &source, "-o", &path("b.apr")], "b.apr"),
        (vec!["export", &source, "--format", "apr", "--output", &path("c.apr")], "c.apr"),
        (vec!["convert", &source, &path("d.apr")], "d.apr"),
    ] {
        let output = run(&arguments);
        assert_eq!(code(&output), 0, "{output:?}");
        let bytes = |name: &str| std::fs::read(work.path().join(name)).unwrap();
        assert!(bytes(target) == bytes("a.apr"), "{target}");
    }
    assert_eq!(code(&run(&["import", &source, "-o", &path("a.apr")])), 7, "it is there");
    assert_eq!(code(&run(&["export", &source, "--format", "onnx", "-o", &path("x")])), 2);
    assert_eq!(code(&run(&["import", &source])), 2, "no target");
}

#[test]
fn every_command_that_writes_a_model_splits_it() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let (source, size) = (nano("Q8_0"), ["--shard-size", "50KB"]);
    let (steps, same) = (path("steps"), path("same.gguf"));
    for (arguments, files) in [
        (vec!["import", &source, "-o", &path("a/")], "a"),
        (vec!["export", &source, "--format", "safetensors", "-o", &path("s")], "s"),
        (vec!["quantize", &source, &path("q/"), "--to", "apr", "--type", "Q4_0", "--allow-requantize"], "q"),
        (vec!["rosetta", "chain", &source, "apr", "gguf", "safetensors", "--work-dir", &steps], "steps/1-apr"),
    ] {
        let output = run(&[&arguments[..], &size].concat());
        assert_eq!(code(&output), 0, "{output:?}");
        let files = path(files);
        let index = entries(Path::new(&files)).into_iter().find(|name| name.ends_with(".index.json"));
        assert_eq!(code(&run(&["validate", &format!("{files}/{}", index.expect(&files))])), 0);
    }
    // What is in several files is one model, and comes back as the file it was.
    assert_eq!(code(&run(&["rosetta", "convert", &path("a"), &same])), 0);
    assert!(std::fs::read(&same).unwrap() == std::fs::read(&source).unwrap());
    for command in ["inspect", "tensors", "tree", "hex"] {
        assert_eq!(code(&run(&[command, &path("a")])), 0, "{command}");
    }
}
