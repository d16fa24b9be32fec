//! The dtype of every matrix, for every file type, is the one that llama.cpp's `llama-quantize` chooses.
//! Expected values: `fixtures/file_types/make_file_types.py`.

use apr_model::{
    Experts, FILE_TYPES, FileType, LayerRole, Mixing, ModelSpec, Part, Relayout, Tensor, TensorRole, Variation,
    architecture_by_id,
};
use apr_tensor::{Bytes, DType, Shape};
use serde_json::Value;
use std::path::PathBuf;

fn goldens() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/file_types/file_types.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn spec(facts: &Value) -> ModelSpec {
    let count = |key: &str| facts[key].as_u64().unwrap() as u32;
    let experts = (count("n_experts") > 0).then(|| Experts {
        n_experts: count("n_experts"),
        n_used: 2,
        ffn_size: count("ffn_size"),
        shared_ffn_size: 0,
        normalise: true,
        dense_layers: Vec::new(),
    });
    ModelSpec {
        arch: architecture_by_id(facts["arch"].as_str().unwrap()).unwrap(),
        name: None,
        n_layers: count("n_layers"),
        hidden_size: count("hidden_size"),
        n_heads: count("n_heads"),
        n_kv_heads: count("n_kv_heads"),
        head_dim: count("hidden_size") / count("n_heads"),
        ffn_size: count("ffn_size"),
        vocab_size: 32,
        context_length: 64,
        rope_theta: 1e4,
        norm_eps: 1e-5,
        variation: Variation { experts, ..Variation::default() },
    }
}

/// The role of a tensor named as in the goldens, which have stacks of experts, and the length of its rows.
fn tensor(name: &str, layer: u32, spec: &ModelSpec) -> Tensor {
    let role = match name {
        "ffn_gate_exps" => TensorRole::Layer(layer, LayerRole::ExpertGate(0), Part::Weight),
        "ffn_up_exps" => TensorRole::Layer(layer, LayerRole::ExpertUp(0), Part::Weight),
        "ffn_down_exps" => TensorRole::Layer(layer, LayerRole::ExpertDown(0), Part::Weight),
        "ffn_gate_inp" => TensorRole::Layer(layer, LayerRole::Router, Part::Weight),
        "output" | "token_embd" => TensorRole::from_gguf_name(&format!("{name}.weight"), spec.arch).unwrap(),
        _ => TensorRole::from_gguf_name(&format!("blk.{layer}.{name}.weight"), spec.arch).unwrap(),
    };
    let columns = if name.starts_with("ffn_down") { spec.ffn_size } else { spec.hidden_size };
    Tensor {
        name: name.to_owned(),
        role: Some(role),
        dtype: DType::F32,
        shape: Shape::new(&[8, u64::from(columns)]).unwrap(),
        data: Bytes::from(Vec::new()),
        relayout: Relayout::Identity,
    }
}

#[test]
fn every_matrix_gets_the_dtype_that_llama_quantize_chooses() {
    let mut n_checked = 0;
    for (model, entry) in goldens().as_object().unwrap() {
        let spec = spec(&entry["spec"]);
        let is_tied = entry["spec"]["is_tied"].as_bool().unwrap();
        for (label, has_importance) in [("plain", false), ("importance", true)] {
            let mixing = Mixing { spec: &spec, is_tied, has_importance };
            let types = entry[label].as_object().unwrap();
            assert_eq!(types.len(), FILE_TYPES.len());
            for (name, tensors) in types {
                let file_type = FileType::from_name(name).unwrap();
                for (tensor_name, expected) in tensors.as_object().unwrap() {
                    let layers =
                        if ["output", "token_embd"].contains(&tensor_name.as_str()) { 1 } else { spec.n_layers };
                    for layer in 0..layers {
                        let expected = expected.get(layer as usize).unwrap_or(expected).as_str().unwrap();
                        let tensor = tensor(tensor_name, layer, &spec);
                        let stored = file_type.choose(&tensor, &mixing).map_or(tensor.dtype, |choice| choice.stored);
                        assert_eq!(stored.name(), expected, "{model} {label} {name}: {tensor_name} of layer {layer}");
                        n_checked += 1;
                    }
                }
            }
        }
    }
    assert!(n_checked > 10_000, "{n_checked}");
}

#[test]
fn vectors_and_norms_stay_as_they_are() {
    let goldens = goldens();
    let spec = spec(&goldens["plain"]["spec"]);
    let mixing = Mixing { spec: &spec, is_tied: false, has_importance: false };
    let norm = Tensor { shape: Shape::new(&[256]).unwrap(), ..tensor("attn_norm", 0, &spec) };
    let unknown = Tensor { role: None, name: "x.norm.weight".to_owned(), ..tensor("attn_q", 0, &spec) };
    for file_type in FILE_TYPES {
        assert_eq!(file_type.choose(&norm, &mixing), None);
        assert_eq!(file_type.choose(&unknown, &mixing), None);
    }
}
