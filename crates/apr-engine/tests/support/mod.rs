//! Test models and goldens from `models/`, read with just enough code for files that are known to be sound.
#![allow(dead_code, reason = "each test binary uses another part")]

use apr_kernels::{Backend, Isa, KernelSet};
use apr_model::{
    ChatTemplates, Checkpoint, Format, LayerRole, ModelSpec, Origin, Relayout, Spec, Tensor, TensorRole, Tensors,
    Variation, architecture_by_hf,
};
use apr_tensor::{Bytes, DType, Shape};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// Every test model.
pub(crate) const MODELS: [&str; 4] = ["tiny-qwen2", "nano-qwen2", "nano-qwen3", "nano-llama"];

fn path(model: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models").join(model).join(file)
}

fn json(model: &str, file: &str) -> Value {
    let text = std::fs::read_to_string(path(model, file)).unwrap_or_else(|e| panic!("{model}/{file}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// Name, dtype, shape and data of each tensor of a SafeTensors file, in the order of its header.
fn safetensors(model: &str, file: &str) -> Vec<(String, DType, Vec<u64>, Bytes)> {
    let bytes = Bytes::from(std::fs::read(path(model, file)).unwrap());
    let data_start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..data_start]).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let tensors = tensors.map(|(name, info)| {
        let numbers = |key: &str| info[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
        let at = numbers("data_offsets");
        let data = bytes.slice(data_start + at[0] as usize..data_start + at[1] as usize).unwrap();
        let dtype = DType::from_safetensors_name(info["dtype"].as_str().unwrap()).unwrap();
        (name.clone(), dtype, numbers("shape"), data)
    });
    tensors.collect()
}

/// The model as a checkpoint, without tokenizer.
pub(crate) fn checkpoint(model: &str) -> Checkpoint {
    let config = json(model, "config.json");
    let number = |key: &str| config[key].as_u64().map(|n| n as u32);
    let (hidden_size, n_heads) = (number("hidden_size").unwrap(), number("num_attention_heads").unwrap());
    let spec = ModelSpec {
        arch: architecture_by_hf(config["architectures"][0].as_str(), None).unwrap(),
        name: None,
        n_layers: number("num_hidden_layers").unwrap(),
        hidden_size,
        n_heads,
        n_kv_heads: number("num_key_value_heads").unwrap(),
        head_dim: number("head_dim").unwrap_or(hidden_size / n_heads),
        ffn_size: number("intermediate_size").unwrap(),
        vocab_size: number("vocab_size").unwrap(),
        context_length: number("max_position_embeddings").unwrap(),
        rope_theta: config["rope_theta"].as_f64().unwrap() as f32,
        norm_eps: config["rms_norm_eps"].as_f64().unwrap() as f32,
        variation: Variation::default(),
    };
    let mut tensors = Tensors::default();
    for (name, dtype, dims, data) in safetensors(model, "model.safetensors") {
        let role = TensorRole::from_hf_name(&name, spec.arch);
        let tensor = Tensor::new(name, role, dtype, Shape::new(&dims).unwrap(), data, Relayout::Identity).unwrap();
        tensors.push(tensor).unwrap();
    }
    with_tensors(spec, tensors)
}

/// A checkpoint of a spec and tensors alone.
pub(crate) fn with_tensors(spec: ModelSpec, tensors: Tensors) -> Checkpoint {
    let origin = Origin {
        format: Format::SafeTensors,
        byte_order: Default::default(),
        identity: None,
        files: Vec::new(),
        is_dir: true,
    };
    let spec = Spec::Known(spec);
    Checkpoint {
        spec,
        tensors,
        tokenizer: None,
        chat_templates: ChatTemplates::default(),
        origin,
        capsule: None,
        notes: Vec::new(),
    }
}

/// The checkpoint with each tensor replaced; `None` leaves one out.
pub(crate) fn map_tensors(checkpoint: &Checkpoint, change: impl Fn(&Tensor) -> Option<Tensor>) -> Checkpoint {
    let mut tensors = Tensors::default();
    for tensor in checkpoint.tensors.iter().filter_map(change) {
        tensors.push(tensor).unwrap();
    }
    with_tensors(checkpoint.spec.known().unwrap().clone(), tensors)
}

/// Whether this is a weight or bias of q or k: what llama.cpp's converter permutes.
pub(crate) fn is_rotary(tensor: &Tensor) -> bool {
    matches!(tensor.role, Some(TensorRole::Layer(_, LayerRole::AttnQ | LayerRole::AttnK, _)))
}

/// The tensor with its rows, or the elements of a vector, stored for interleaved rotary pairs.
///
/// Written from the description of llama.cpp's converter (each head's rows as two halves, interleaved), not with
/// [`Relayout`], which the engine uses to undo it.
pub(crate) fn interleaved(tensor: &Tensor, head_dim: usize) -> Tensor {
    let shape = &tensor.shape;
    let n_rows = if shape.dims().len() == 1 { shape.n_elements() } else { shape.n_rows() };
    let row_bytes = tensor.data.len() / n_rows;
    let mut stored = Vec::with_capacity(tensor.data.len());
    for head in tensor.data.chunks_exact(head_dim * row_bytes) {
        let (first_half, second_half) = head.split_at(head.len() / 2);
        for (a, b) in first_half.chunks_exact(row_bytes).zip(second_half.chunks_exact(row_bytes)) {
            stored.extend_from_slice(a);
            stored.extend_from_slice(b);
        }
    }
    Tensor { data: Bytes::from(stored), relayout: Relayout::RotaryInterleaved { head_dim }, ..tensor.clone() }
}

/// The tensor with its values stored as `f32`, the same values.
pub(crate) fn widened(tensor: &Tensor) -> Tensor {
    assert_eq!(tensor.dtype, DType::BF16, "{}: the test models are stored as BF16", tensor.name);
    let data: Vec<u8> = tensor.data.chunks_exact(2).flat_map(|b| [0, 0, b[0], b[1]]).collect();
    Tensor { dtype: DType::F32, data: Bytes::from(data), ..tensor.clone() }
}

/// One prompt of `golden.json`.
pub(crate) struct Prompt {
    pub(crate) id: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) greedy_ids: Vec<u32>,
    pub(crate) greedy_margins: Vec<f64>,
    pub(crate) top5: Vec<(u32, f64)>,
    pub(crate) mean_nll: f64,
}

/// Reference outputs of Transformers in float32.
pub(crate) struct Golden {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) layer_prompt: String,
    tensors: HashMap<String, (Vec<u64>, Vec<f32>)>,
}

impl Golden {
    pub(crate) fn load(model: &str) -> Self {
        let golden = json(model, "golden.json");
        let ids = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect::<Vec<_>>();
        let floats = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
        let prompts = golden["prompts"].as_array().unwrap().iter().map(|p| Prompt {
            id: p["id"].as_str().unwrap().to_owned(),
            ids: ids(&p["ids"]),
            greedy_ids: ids(&p["greedy_ids"]),
            greedy_margins: floats(&p["greedy_margins"]),
            top5: p["top5"].as_array().unwrap().iter().map(|t| (ids_of(&t[0]), t[1].as_f64().unwrap())).collect(),
            mean_nll: p["mean_nll"].as_f64().unwrap_or(f64::NAN),
        });
        let tensors = safetensors(model, "golden.safetensors").into_iter().map(|(name, dtype, dims, data)| {
            assert_eq!(dtype, DType::F32);
            (name, (dims, data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()))
        });
        Golden {
            prompts: prompts.collect(),
            layer_prompt: golden["layer_prompt"].as_str().unwrap().to_owned(),
            tensors: tensors.collect(),
        }
    }

    pub(crate) fn prompt(&self, id: &str) -> &Prompt {
        self.prompts.iter().find(|prompt| prompt.id == id).unwrap_or_else(|| panic!("no prompt {id}"))
    }

    pub(crate) fn values(&self, name: &str) -> &[f32] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no golden tensor {name}")).1
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

fn ids_of(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

/// The widest kernels here, on one thread.
pub(crate) fn backend() -> Backend {
    Backend::new(KernelSet::detect().expect("APR_ISA names what this machine has"), 1)
}

/// Every instruction set here, with each number of threads.
pub(crate) fn backends() -> Vec<(Isa, usize, Backend)> {
    let sets = KernelSet::available();
    let pairs = sets
        .into_iter()
        .flat_map(|set| [1, 2, 5].map(|n_threads| (set.isa(), n_threads, Backend::new(set, n_threads))));
    pairs.collect()
}

/// Largest absolute difference; infinite where lengths differ or a value is not a number.
pub(crate) fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs());
    worst.fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

/// Index of the first highest value.
pub(crate) fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}
