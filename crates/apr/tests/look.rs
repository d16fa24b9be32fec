//! The commands that look at a model, from outside: `tensors`, `tree`, `hex`.

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
