//! A model of an architecture that no table knows, from outside: looked at, compared, converted, and never run.

mod support;

use std::path::{Path, PathBuf};
use support::{code, json, repository, run, stderr, stdout};

/// nano-qwen2 under another name, as llama.cpp's converter would state it.
fn gguf(dir: &Path) -> PathBuf {
    let mut bytes = std::fs::read(support::nano("Q8_0")).unwrap();
    let key = b"general.architecture";
    let value = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4 + 8;
    assert_eq!(&bytes[value..value + 5], b"qwen2");
    bytes[value..value + 5].copy_from_slice(b"ferre");
    std::fs::write(dir.join("m.gguf"), bytes).unwrap();
    dir.join("m.gguf")
}

/// The same of its Transformers directory.
fn directory(dir: &Path) -> PathBuf {
    let target = dir.join("m");
    std::fs::create_dir(&target).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(repository("models/nano-qwen2").join(name), target.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(target.join("config.json")).unwrap();
    std::fs::write(target.join("config.json"), config.replace("Qwen2ForCausalLM", "FerreForCausalLM")).unwrap();
    target
}

#[test]
fn it_is_looked_at_and_nothing_of_it_counts_as_checked() {
    let work = tempfile::tempdir().unwrap();
    for (model, name) in [(gguf(work.path()), "ferre"), (directory(work.path()), "FerreForCausalLM")] {
        let model = model.to_str().unwrap();
        let report = json(&run(&["inspect", model, "--json"]));
        assert_eq!((&report["architecture"], &report["spec"]), (&name.into(), &serde_json::json!({})));
        assert!(report["notes"][0].as_str().unwrap().contains("not in the table"), "{report}");
        assert_eq!(code(&run(&["hex", model])), 0);
        for arguments in [&["tree", model][..], &["tensors", model, "--stats"]] {
            let output = run(arguments);
            assert_eq!(code(&output), 0, "{output:?}");
            assert!(stdout(&output).contains(if name == "ferre" { "blk" } else { "model" }), "{output:?}");
        }

        let output = run(&["validate", model, "--json"]);
        assert_eq!(code(&output), 5);
        let report = json(&output);
        assert_eq!((&report["valid"], &report["score_percent"]), (&false.into(), &100.0.into()), "{report}");
        let status = |id: &str| {
            let checks = report["checks"].as_array().unwrap().iter();
            checks.filter(|check| check["id"] == id).map(|check| check["status"].clone()).collect::<Vec<_>>()
        };
        for id in ["G0-TENSOR-001", "G0-LAYOUT-001", "F-LAYOUT-002", "G0-TOKENIZER-001", "F-DATA-QUALITY-004"] {
            assert_eq!(status(id), ["not_measured"], "{id}");
        }
        assert_eq!(status("F-DATA-QUALITY-002"), ["pass"]);
        assert!(report["findings"][0].as_str().unwrap().contains("unknown-architecture"));
        assert!(stdout(&run(&["validate", model])).contains("NOT CHECKED IN FULL"));
        assert_eq!(code(&run(&["validate", model, "--min-score", "100"])), 0, "what was checked is sound");
    }
}

#[test]
fn it_is_converted_with_a_warning_and_compared() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let source = gguf(work.path()).to_str().unwrap().to_owned();
    let (dir, apr, back) = (at("dir/"), at("m.apr"), at("back.gguf"));
    let output = run(&["convert", &source, &dir, "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let warning = "architecture ferre is not in the table: tensors are carried under their own names, and nothing is renamed, \
                   permuted or checked for roles; what a loader of SafeTensors makes of it is unknown";
    assert_eq!(stderr(&output), format!("warning: {warning}\n"));
    assert_eq!(json(&output)["warnings"], serde_json::json!([warning]));
    assert_eq!(json(&output)["not_carried"], serde_json::json!([]));
    assert_eq!(code(&run(&["convert", &dir, &apr])), 0);
    assert_eq!(json(&run(&["convert", &apr, &back, "--json"]))["restored"]["restored"], true);
    assert!(std::fs::read(&source).unwrap() == std::fs::read(&back).unwrap());

    let fingerprint = |path: &str| json(&run(&["rosetta", "fingerprint", path, "--json"]))["fingerprint"].clone();
    assert_eq!(fingerprint(&source), fingerprint(&apr));
    assert_eq!(fingerprint(&source), fingerprint(&dir));
    assert_eq!(code(&run(&["rosetta", "diff-tensors", &source, &dir, "--values"])), 0);
    assert_eq!(code(&run(&["rosetta", "verify", &source, &apr])), 0);
    // The same weights under Transformers' names are no tensors of it.
    assert_eq!(code(&run(&["rosetta", "diff-tensors", &source, &support::nano("Q8_0")])), 5);

    let output = run(&["convert", &source, &at("plain.apr"), "--no-capsule", "--json"]);
    assert!(json(&output)["not_carried"][0].as_str().unwrap().contains("in the capsule alone"), "{output:?}");
    let output = run(&["convert", &source, &at("x.apr"), "--dtype", "f16"]);
    assert_eq!(code(&output), 6);
    assert!(stderr(&output).contains("architecture ferre is not in the table"), "{output:?}");
    let output = run(&["quantize", &source, &at("x.gguf"), "--type", "Q4_K_M"]);
    assert_eq!(code(&output), 6, "{output:?}");
}

#[test]
fn it_is_not_run() {
    let work = tempfile::tempdir().unwrap();
    let model = gguf(work.path()).to_str().unwrap().to_owned();
    for arguments in [
        vec!["run", &model, "hello", "-n", "1"],
        vec!["chat", &model],
        vec!["bench", &model],
        vec!["rosetta", "compare-inference", &model, &model],
    ] {
        let output = run(&arguments);
        assert_eq!(code(&output), 6, "{output:?}");
        assert!(stderr(&output).contains("architecture \"ferre\"; this version runs"), "{output:?}");
    }
}
