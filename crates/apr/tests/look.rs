//! The commands that look at a model, from outside: `tensors`, `tree`, `hex`, `validate`.

mod support;

use serde_json::Value;
use support::{code, json, nano, repository, run, stderr, stdout};

fn safetensors() -> String {
    repository("models/nano-qwen2/model.safetensors").to_str().unwrap().to_owned()
}

fn fixture(path: &str) -> String {
    repository("fixtures").join(path).to_str().unwrap().to_owned()
}

/// The header of the SafeTensors file and a tensor's values, read here.
fn reference() -> (serde_json::Map<String, Value>, impl Fn(&Value) -> Vec<f64>) {
    let bytes = std::fs::read(safetensors()).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    header.remove("__metadata__");
    let values = move |tensor: &Value| {
        let at = |i: usize| start + tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let data = &bytes[at(0)..at(1)];
        match tensor["dtype"].as_str().unwrap() {
            "F32" => data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            "BF16" => data
                .chunks_exact(2)
                .map(|b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b.try_into().unwrap())) << 16)))
                .collect(),
            other => panic!("{other}"),
        }
    };
    (header, values)
}

#[test]
fn tensors_are_those_of_the_file_and_statistics_those_of_its_values() {
    let (header, values) = reference();
    let report = json(&run(&["tensors", &safetensors(), "--stats", "--json"]));
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), header.len());
    let mut n_values = 0;
    for tensor in tensors {
        let name = tensor["name"].as_str().unwrap();
        let (expected, found) = (&header[name], &tensor["statistics"]);
        assert_eq!((&tensor["dtype"], &tensor["shape"]), (&expected["dtype"], &expected["shape"]), "{name}");
        let values = values(expected);
        n_values += values.len() as u64;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        for (key, expected) in [
            ("min", values.iter().copied().fold(f64::INFINITY, f64::min)),
            ("max", values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            ("mean", mean),
            ("std", std),
            ("zero_fraction", values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64),
        ] {
            let found = found[key].as_f64().unwrap();
            assert!((found - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{name} {key}: {found}, {expected}");
        }
    }
    assert_eq!(report["n_values"].as_u64(), Some(n_values));
}

#[test]
fn a_filter_takes_the_names_of_either_format() {
    for text in ["self_attn.q_proj.weight", "attn_q.weight"] {
        let report = json(&run(&["tensors", &nano("Q8_0"), "--filter", text, "--json"]));
        let names: Vec<_> = report["tensors"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
        assert!(!names.is_empty() && names.iter().all(|n| n.as_str().unwrap().ends_with("q_proj.weight")), "{names:?}");
        assert!(names.len() < report["n_tensors"].as_u64().unwrap() as usize);
    }
    for command in ["tensors", "tree"] {
        let nothing = run(&[command, &nano("Q8_0"), "--filter", "no_such"]);
        assert_eq!(code(&nothing), 2, "{nothing:?}");
        assert!(stderr(&nothing).contains("no tensor's name contains \"no_such\""), "{nothing:?}");
        assert_eq!(code(&run(&[command, "absent.gguf"])), 3);
    }
    let text = stdout(&run(&["tensors", &nano("Q8_0"), "--filter", "output_norm"]));
    assert!(
        text.trim_start().starts_with("tensor ") && text.contains("model.norm.weight") && text.contains("1 of "),
        "{text}"
    );
}

#[test]
fn a_tree_sums_up_what_is_below() {
    let (header, _) = reference();
    let report = json(&run(&["tree", &safetensors(), "--json"]));
    let root = &report["root"];
    let bytes = |tensor: &Value| {
        let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap();
        at(1) - at(0)
    };
    assert_eq!(root["n_tensors"].as_u64(), Some(header.len() as u64));
    assert_eq!(root["bytes"].as_u64(), Some(header.values().map(bytes).sum()));
    let child = |node: &Value, name: &str| {
        node["children"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone()
    };
    let layer = ["model", "layers", "1"].iter().fold(root.clone(), |node, part| child(&node, part));
    let of_layer: Vec<_> = header.iter().filter(|(name, _)| name.starts_with("model.layers.1.")).collect();
    assert_eq!(layer["n_tensors"].as_u64(), Some(of_layer.len() as u64));
    assert_eq!(layer["bytes"].as_u64(), Some(of_layer.iter().map(|(_, tensor)| bytes(tensor)).sum()));
    let weight = ["self_attn", "q_proj", "weight"].iter().fold(layer, |node, part| child(&node, part));
    assert_eq!(weight["tensor"]["name"], "model.layers.1.self_attn.q_proj.weight");

    let text = stdout(&run(&["tree", &nano("Q8_0"), "--depth", "2"]));
    assert!(text.contains("└── ") && text.contains("layers  ") && !text.contains("q_proj"), "{text}");
}

#[test]
fn every_byte_of_a_file_has_a_meaning() {
    let work = tempfile::tempdir().unwrap();
    let apr = work.path().join("nano.apr");
    assert_eq!(code(&run(&["rosetta", "convert", &safetensors(), apr.to_str().unwrap()])), 0);
    for (model, first) in [
        (nano("Q4_K_M"), ("magic", "47 47 55 46")),
        (safetensors(), ("length of the JSON header", "")),
        (apr.to_str().unwrap().to_owned(), ("magic", "41 50 52 00")),
        (fixture("dtypes/every-dtype.gguf"), ("magic", "47 47 55 46")),
        (fixture("containers/every-dtype.safetensors"), ("length of the JSON header", "")),
        (fixture("containers/nano-qwen2-Q4_0.carried.gguf"), ("magic", "47 47 55 46")),
        (fixture("containers/nano-llama-Q4_0.big-endian.gguf"), ("magic", "47 47 55 46")),
    ] {
        let bytes = std::fs::read(&model).unwrap();
        let report = json(&run(&["hex", &model, "--limit", "0", "--json"]));
        let regions = report["regions"].as_array().unwrap();
        assert_eq!(regions[0]["what"], first.0, "{model}");
        assert!(regions[0]["hex"].as_str().unwrap().starts_with(first.1), "{model}");
        let mut at = 0;
        for region in regions {
            assert_eq!(region["offset"].as_u64(), Some(at), "{model}: {region}");
            let n = region["bytes"].as_u64().unwrap();
            let shown = &bytes[at as usize..(at + n.min(16)) as usize];
            let expected = shown.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
            assert_eq!(region["hex"], expected, "{model}: {region}");
            assert_ne!(region["section"], "unknown", "{model}: {region}");
            at += n;
        }
        assert_eq!((at, report["file_bytes"].as_u64()), (bytes.len() as u64, Some(at)), "{model}");
    }
}

/// Q8_0 has a scale per 32 values and a signed byte each: the nearest multiples of the scale to the values that were
/// quantised.
#[test]
fn a_block_shows_its_scale_its_quants_and_its_values() {
    let (header, values) = reference();
    let name = "model.layers.0.mlp.up_proj.weight";
    let original = values(&header[name]);
    let model = nano("Q8_0");
    let report = json(&run(&["hex", &model, "--tensor", name, "--blocks", "3", "--json"]));
    let blocks = report["tensor"]["blocks"].as_array().unwrap();
    assert_eq!((report["tensor"]["dtype"].as_str(), blocks.len()), (Some("Q8_0"), 3));
    let file = std::fs::read(&model).unwrap();
    for (block, original) in blocks.iter().zip(original.chunks_exact(32)) {
        let at = block["offset"].as_u64().unwrap() as usize;
        let group = &block["groups"][0];
        let scale = group["scale"].as_f64().unwrap();
        assert_eq!(block["fields"][0]["number"].as_f64(), Some(scale));
        for (i, original) in original.iter().enumerate() {
            assert_eq!(group["quants"][i].as_i64(), Some(i64::from(file[at + 2 + i] as i8)));
            let value = block["values"][i].as_f64().unwrap();
            // The file here has the values in BF16, whose numbers are 2^-8 apart.
            let tolerance = scale * 0.51 + original.abs() / 256.0;
            assert!((value - original).abs() <= tolerance, "{i}: {value} for {original}");
            assert_eq!(value, scale * group["quants"][i].as_f64().unwrap());
        }
    }
    // Its description, in four parts, and its data.
    assert_eq!(report["n_regions"], 5);
    let text = stdout(&run(&["hex", &model, "--tensor", "blk.0.ffn_up.weight"]));
    for part in ["name, behind its length", "block 1 at ", "group 0: scale ", "    quants ", "    values "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The big-endian file was made of the other one by gguf-py.
#[test]
fn a_block_of_a_big_endian_file_has_the_same_values() {
    let little = repository("models/nano-llama/gguf/nano-llama-Q4_0.gguf");
    let name = "model.layers.0.mlp.up_proj.weight";
    let tensor = |model: &str| json(&run(&["hex", model, "--tensor", name, "--json"]))["tensor"].clone();
    let (big, little) =
        (tensor(&fixture("containers/nano-llama-Q4_0.big-endian.gguf")), tensor(little.to_str().unwrap()));
    for i in 0..2 {
        let (big, little) = (&big["blocks"][i], &little["blocks"][i]);
        assert_ne!(big["fields"][0]["hex"], little["fields"][0]["hex"]);
        assert_eq!((&big["groups"], &big["values"]), (&little["groups"], &little["values"]));
        assert!(!big["groups"][0].is_null());
    }
}

#[test]
fn every_dtype_of_safetensors_is_taken_apart_as_far_as_its_values_are_known() {
    let model = fixture("containers/every-dtype.safetensors");
    let tensors = json(&run(&["tensors", &model, "--json"]));
    for tensor in tensors["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let output = run(&["hex", &model, "--tensor", name, "--blocks", "1", "--json"]);
        let block = json(&output)["tensor"]["blocks"][0].clone();
        assert_eq!((code(&output), block["fields"][0]["name"].as_str()), (0, Some("value")), "{output:?}");
        let dtype = tensor["dtype"].as_str().unwrap();
        let known = !(dtype.starts_with("F8_") || dtype.starts_with("F6_") || ["F4", "C64"].contains(&dtype));
        assert_eq!(block["values"].as_array().unwrap().len(), usize::from(known), "{dtype}");
    }
}

#[test]
fn hex_refuses_what_is_not_there_and_shows_the_bytes_of_what_is_no_model() {
    let model = nano("Q8_0");
    for (arguments, status, message) in [
        (vec!["hex", &model, "--tensor", "no.such"], 2, "the model has no tensor \"no.such\""),
        (vec!["hex", &model, "--file", "no.such"], 2, "the model has no file"),
        (vec!["hex", &model, "--offset", "999999999999"], 2, "behind the end"),
        (vec!["hex", "absent.gguf"], 3, "no such file"),
        (vec!["hex", "absent.gguf", "--raw"], 3, "no such file"),
    ] {
        let output = run(&arguments);
        assert_eq!(code(&output), status, "{output:?}");
        assert!(stderr(&output).contains(message), "{output:?}");
    }
    let malformed = repository("fixtures/malformed/bad_magic.gguf");
    let malformed = malformed.to_str().unwrap();
    assert_eq!(code(&run(&["hex", malformed])), 4);
    let report = json(&run(&["hex", malformed, "--raw", "--offset", "1", "--limit", "1", "--json"]));
    let bytes = &std::fs::read(malformed).unwrap()[1..17];
    let expected = bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    assert_eq!(report["regions"][0]["hex"], expected);
}

/// A copy of the model whose values of one tensor `damage` changed.
fn damaged(name: &str, damage: impl Fn(usize, f32) -> f32) -> tempfile::TempDir {
    let work = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(repository("models/nano-qwen2")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.file_name().unwrap().to_string_lossy().starts_with("golden") {
            std::fs::copy(&path, work.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = work.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let (header, _) = reference();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let at = |i: usize| start + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    let bf16 = header[name]["dtype"] == "BF16";
    let data = &mut bytes[at(0)..at(1)];
    for (i, number) in data.chunks_exact_mut(if bf16 { 2 } else { 4 }).enumerate() {
        // BF16 is the upper half of F32.
        let mut wide = [0; 4];
        wide[4 - number.len()..].copy_from_slice(number);
        let changed = damage(i, f32::from_le_bytes(wide)).to_le_bytes();
        number.copy_from_slice(&changed[4 - number.len()..]);
    }
    std::fs::write(&path, bytes).unwrap();
    work
}

#[test]
fn each_kind_of_damage_fails_its_check_and_costs_its_share_of_the_score() {
    let (matrix, embedding) = ("model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight");
    let (header, _) = reference();
    let columns = header[embedding]["shape"][1].as_u64().unwrap() as usize;
    // The embedding has more rows than the tokenizer has tokens.
    let tenth = 505 / 10;
    type Damage = Box<dyn Fn(usize, f32) -> f32>;
    let cases: [(&str, &str, Damage); 5] = [
        ("F-DATA-QUALITY-001", matrix, Box::new(|i, value| if i % 10 == 0 { value } else { 0.0 })),
        ("F-DATA-QUALITY-002", matrix, Box::new(|i, value| if i == 7 { f32::NAN } else { value })),
        ("F-DATA-QUALITY-002", matrix, Box::new(|i, value| if i == 7 { f32::INFINITY } else { value })),
        ("F-DATA-QUALITY-003", matrix, Box::new(|_, _| 0.5)),
        ("F-DATA-QUALITY-004", embedding, Box::new(move |i, value| if i / columns == tenth { 0.0 } else { value })),
    ];
    for (id, name, damage) in cases {
        let work = damaged(name, damage);
        let model = work.path().to_str().unwrap();
        let output = run(&["validate", model, "--json"]);
        let report = json(&output);
        assert_eq!(code(&output), 5, "{id}: {report}");
        let checks = report["checks"].as_array().unwrap();
        let failed: Vec<_> = checks.iter().filter(|c| c["status"] == "fail").map(|c| c["id"].clone()).collect();
        assert_eq!(failed, [id], "{report}");
        let computed = checks.iter().filter(|c| c["status"] != "not_measured").count() as f64;
        let score = 100.0 * (computed - 1.0) / computed;
        assert_eq!(report["score_percent"].as_f64(), Some(score));
        assert_eq!(code(&run(&["validate", model, "--min-score", &score.floor().to_string()])), 0);
        assert_eq!(code(&run(&["validate", model, "--min-score", &(score.floor() + 1.0).to_string()])), 5);
    }
    assert_eq!(code(&run(&["validate", &nano("Q8_0"), "--min-score", "101"])), 2);
}

#[test]
fn a_strict_validation_accepts_nothing_that_is_noticed() {
    let sound = repository("models/nano-qwen2");
    let report = json(&run(&["validate", sound.to_str().unwrap(), "--strict", "--json"]));
    assert_eq!((&report["valid"], &report["score_percent"]), (&true.into(), &100.0.into()), "{report}");
    // A tensor that belongs to no architecture is no check's failure.
    let work = damaged("model.norm.weight", |_, value| value);
    let path = work.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let end = bytes.len() - start;
    header.insert(
        "model.extra.weight".to_owned(),
        serde_json::json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}),
    );
    let text = serde_json::to_vec(&header).unwrap();
    let extended = [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[start..], &1.5f32.to_le_bytes()].concat();
    std::fs::write(&path, extended).unwrap();
    let model = work.path().to_str().unwrap();
    assert_eq!(code(&run(&["validate", model])), 0);
    let strict = run(&["validate", model, "--strict"]);
    assert_eq!(code(&strict), 5, "{strict:?}");
    assert!(stdout(&strict).contains("model.extra.weight"), "{strict:?}");
}

#[test]
fn statistics_of_another_dtype_are_near_and_those_of_a_damaged_tensor_are_not() {
    let original = repository("models/nano-qwen2");
    let original = original.to_str().unwrap();
    let saved = tempfile::tempdir().unwrap();
    let fingerprint = saved.path().join("fingerprint.json");
    std::fs::write(&fingerprint, run(&["rosetta", "fingerprint", original, "--json"]).stdout).unwrap();
    let fingerprint = fingerprint.to_str().unwrap();
    let command = ["rosetta", "validate-stats"];
    for reference in [original, fingerprint] {
        let output = run(&[&command[..], &[&nano("Q8_0"), "--reference", reference, "--json"]].concat());
        let report = json(&output);
        assert_eq!(code(&output), 0, "{report}");
        let worst = report["tensors"][0]["deviation"].as_f64().unwrap();
        assert!(worst > 0.0 && worst < 0.5, "{report}");
    }
    let strict = run(&[&command[..], &[&nano("Q8_0"), "--reference", original, "--threshold", "0"]].concat());
    assert_eq!(code(&strict), 5, "{strict:?}");

    let name = "model.layers.1.mlp.down_proj.weight";
    let work = damaged(name, |i, value| if i == 11 { 40.0 } else { value });
    let output = run(&[&command[..], &[work.path().to_str().unwrap(), "--reference", fingerprint, "--json"]].concat());
    let report = json(&output);
    assert_eq!(code(&output), 5, "{report}");
    let failed: Vec<_> = report["tensors"].as_array().unwrap().iter().filter(|t| t["passed"] == false).collect();
    assert_eq!((failed.len(), &failed[0]["name"], &failed[0]["by"]), (1, &name.into(), &"max".into()), "{report}");
    for (reference, threshold, status) in [("absent.json", "3", 3), (original, "-1", 2), (original, "nan", 2)] {
        let arguments = [original, "--reference", reference, &format!("--threshold={threshold}")];
        assert_eq!(code(&run(&[&command[..], &arguments].concat())), status, "{reference} {threshold}");
    }
}
