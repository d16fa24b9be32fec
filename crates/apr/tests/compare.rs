//! What `apr rosetta` says about two models: fingerprints, and the causes of differences.

mod support;

use std::path::Path;
use support::{code, json, repository, run, stdout};

const TINY: &str = "models/tiny-qwen2";

/// A copy of a model of `models/`, in which `change` has changed the bytes of one tensor.
fn changed(model: &str, tensor: &str, change: impl FnOnce(&mut [u8])) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(repository(model)).unwrap() {
        let from = entry.unwrap().path();
        if from.is_file() {
            std::fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
        }
    }
    let weights = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let at = |i: usize| start + header[tensor]["data_offsets"][i].as_u64().unwrap() as usize;
    change(&mut bytes[at(0)..at(1)]);
    std::fs::write(&weights, bytes).unwrap();
    copy
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_model_has_one_fingerprint_in_every_format() {
    for model in ["models/tiny-qwen2", "models/nano-llama", "models/nano-qwen3"] {
        let source = repository(model);
        let of_source = json(&run(&["rosetta", "fingerprint", path(&source), "--json"]));
        for format in ["gguf", "apr", "safetensors"] {
            let scratch = tempfile::tempdir().unwrap();
            let copy = scratch.path().join(format!("model.{format}"));
            let done = run(&["rosetta", "convert", path(&source), path(&copy), "--to", format]);
            assert_eq!(code(&done), 0, "{done:?}");
            let compared = run(&["rosetta", "fingerprint", path(&copy), path(&source), "--json"]);
            let report = json(&compared);
            assert_eq!(
                (code(&compared), &report["fingerprint"]),
                (0, &of_source["fingerprint"]),
                "{model} in {format}"
            );
            let n_tensors = report["tensors"].as_array().unwrap().len();
            assert!(n_tensors > 10 && report["comparison"]["different"].as_array().unwrap().is_empty());
        }
    }
}

#[test]
fn a_fingerprint_tells_one_bit_and_names_the_tensor() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let other = changed(TINY, name, |bytes| bytes[100] ^= 1);
    let saved = other.path().join("saved.json");
    std::fs::write(&saved, run(&["rosetta", "fingerprint", path(&repository(TINY)), "--json"]).stdout).unwrap();
    for against in [repository(TINY), saved] {
        let compared = run(&["rosetta", "fingerprint", path(other.path()), path(&against)]);
        assert_eq!(code(&compared), 5, "{compared:?}");
        assert!(stdout(&compared).contains(&format!("  {name} differs\ndifferent models\n")), "{compared:?}");
    }
    let not_one = other.path().join("config.json");
    assert_eq!(code(&run(&["rosetta", "fingerprint", "builtin:tiny", path(&not_one)])), 4);
}

#[test]
fn values_that_differ_have_a_cause_and_a_fix() {
    let query = "model.layers.0.self_attn.q_proj.weight";
    let plain = |a: &Path, b: &Path| run(&["rosetta", "diff-tensors", path(a), path(b)]);
    let values = |a: &Path, b: &Path| run(&["rosetta", "diff-tensors", path(a), path(b), "--values", "--json"]);
    let source = repository(TINY);
    let same = values(&source, &source);
    assert_eq!((code(&same), &json(&same)["value_differences"]), (0, &serde_json::json!([])));

    let row_bytes = {
        let report = json(&run(&["inspect", path(&source), "--tensors", "--json"]));
        let tensor = report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == query).unwrap().clone();
        assert_eq!(tensor["dtype"], "BF16", "{tensor}");
        2 * tensor["shape"][1].as_u64().unwrap() as usize
    };
    type Change = Box<dyn FnOnce(&mut [u8])>;
    let cases: [(&str, Change); 5] = [
        ("the same rows in another order", Box::new(move |bytes| bytes.rotate_left(row_bytes))),
        (
            "the same columns in another order",
            Box::new(move |bytes| bytes.chunks_mut(row_bytes).for_each(|r| r.rotate_left(2))),
        ),
        // The exponent of bfloat16 begins at bit 7.
        (
            "scaled: every value is 2.0",
            Box::new(|bytes| {
                bytes.chunks_mut(2).filter(|b| b[1] & 0x7f != 0).for_each(|b| {
                    let bits = u16::from_le_bytes([b[0], b[1]]) + (1 << 7);
                    b.copy_from_slice(&bits.to_le_bytes());
                });
            }),
        ),
        ("begins 6 bytes late", Box::new(|bytes| bytes.copy_within(6.., 0))),
        ("all zero in the second file", Box::new(|bytes| bytes.fill(0))),
    ];
    for (cause, change) in cases {
        let other = changed(TINY, query, change);
        assert_eq!(code(&plain(&source, other.path())), 0, "headers alone don't tell");
        let found = values(&source, other.path());
        let differences = json(&found)["value_differences"].as_array().unwrap().clone();
        assert_eq!((code(&found), differences.len()), (5, 1), "{cause}: {differences:?}");
        let difference = &differences[0];
        assert_eq!((&difference["tensor"], &difference["layer"]), (&query.into(), &0.into()));
        assert!(difference["cause"].as_str().unwrap().contains(cause), "{cause}: {difference}");
        assert!(difference["fix"].as_str().is_some_and(|fix| !fix.is_empty()));
    }
}
