//! The layout of a fresh GGUF model, as llama.cpp's converter would write it.

use super::container::{Container, Entry, Pairs, kind};
use super::rope;
use super::stacks::{self, Stored};
use super::templates;
use super::variation::{self, Pair};
use super::{CAPSULE_KEY, DEFAULT_ALIGNMENT, FAMILY_KEY, MAX_DIMS, NO_TOKENIZER, STOP_IDS_KEY};
use crate::plan::{OutFile, OutPiece, Plan};
use crate::{Limits, WriteError};
use apr_model::{Checkpoint, Positions, Spec, TensorRole, UnknownArchitecture};
use apr_tensor::DType;
use std::path::Path;

/// Row-major dtype → `general.file_type` (llama.cpp's `llama_ftype`) for files that are mostly of one dtype.
const MOSTLY: &[(DType, u32)] = &[
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q8_0, 7),
    (DType::Q5_0, 8),
    (DType::Q5_1, 9),
    (DType::Q2K, 10),
    (DType::Q3K, 12),
    (DType::Q4K, 15),
    (DType::Q5K, 17),
    (DType::Q6K, 18),
    (DType::IQ2XXS, 19),
    (DType::IQ2XS, 20),
    (DType::IQ3XXS, 23),
    (DType::IQ1S, 24),
    (DType::IQ4NL, 25),
    (DType::IQ3S, 26),
    (DType::IQ2S, 28),
    (DType::IQ4XS, 30),
    (DType::IQ1M, 31),
    (DType::BF16, 32),
    (DType::TQ1_0, 36),
    (DType::TQ2_0, 37),
    (DType::MXFP4, 38),
    (DType::NVFP4, 39),
    (DType::Q1_0, 40),
    (DType::Q2_0, 41),
];

/// Version that is written.
const VERSION: u32 = 3;

/// Plans the files of a GGUF target: one, or several of at most `shard_bytes` of tensors.
///
/// What this project's reader would refuse is refused here, before anything is written. `path` is for errors.
pub(crate) fn layout(
    checkpoint: &Checkpoint,
    plan: &Plan,
    capsule: Option<&str>,
    name: String,
    shard_bytes: Option<u64>,
    path: &Path,
) -> Result<Vec<OutFile>, WriteError> {
    let cannot = |detail: String| WriteError::Cannot { path: path.to_owned(), detail };
    let limits = Limits::default();
    if let Some(n) = capsule.map(str::len).filter(|&n| n as u64 > limits.string_bytes) {
        let cap = limits.string_bytes;
        return Err(cannot(format!(
            "a capsule of {n} bytes, at most {cap} are read again; --no-capsule leaves it out and gives up the way \
             back to the same file"
        )));
    }
    let mut pairs = Pairs::default();
    model_pairs(&mut pairs, checkpoint, plan).map_err(cannot)?;
    tokenizer_pairs(&mut pairs, checkpoint);
    templates::write(&mut pairs, &checkpoint.chat_templates);
    if let Some(text) = capsule {
        pairs.string(CAPSULE_KEY, text);
    }

    let stored = stacks::of(checkpoint, plan).map_err(cannot)?;
    let mut tensors = Vec::with_capacity(stored.len());
    tensors.extend(checkpoint.spec.known().and_then(rope::entry));
    for Stored { name: stored_name, dims, parts } in stored {
        if dims.len() > MAX_DIMS {
            return Err(cannot(format!(
                "tensor {stored_name:?} has {} dimensions, GGUF allows {MAX_DIMS}",
                dims.len()
            )));
        }
        if stored_name.len() as u64 > limits.name_bytes {
            let (n, cap) = (stored_name.len(), limits.name_bytes);
            return Err(cannot(format!("a tensor name of {n} bytes, at most {cap} are read again")));
        }
        let dtype = parts[0].dtype;
        let data = parts.into_iter().cloned().map(OutPiece::Tensor).collect();
        tensors.push(Entry { name: stored_name, dims, dtype, data });
    }
    let container = Container { version: VERSION, alignment: DEFAULT_ALIGNMENT, pairs, tensors };
    container.into_files(name, shard_bytes).map_err(cannot)
}

fn model_pairs(pairs: &mut Pairs, checkpoint: &Checkpoint, plan: &Plan) -> Result<(), String> {
    let spec = match &checkpoint.spec {
        Spec::Known(spec) => spec,
        Spec::Unknown(architecture) => {
            pairs.string("general.architecture", UnknownArchitecture::STATED);
            pairs.string(UnknownArchitecture::KEY, &architecture.to_string());
            return Ok(());
        }
    };
    let arch = spec.arch;
    let key = |suffix: &str| format!("{}.{suffix}", arch.gguf_id());
    pairs.string("general.architecture", arch.gguf_id());
    if arch.gguf.architecture.is_some() {
        pairs.string(FAMILY_KEY, arch.id);
    }
    pairs.string("general.type", "model");
    if let Some(name) = &spec.name {
        pairs.string("general.name", name);
    }
    pairs.u32(&key("block_count"), spec.n_layers);
    pairs.u32(&key("context_length"), spec.context_length);
    pairs.u32(&key("embedding_length"), spec.hidden_size);
    pairs.u32(&key("feed_forward_length"), spec.ffn_size);
    pairs.u32(&key("attention.head_count"), spec.n_heads);
    pairs.u32(&key("attention.head_count_kv"), spec.n_kv_heads);
    if arch.positions == Positions::Rotary {
        pairs.f32(&key("rope.freq_base"), spec.rope_theta);
    }
    pairs.f32(&key(variation::norm_eps(arch)), spec.norm_eps);
    let default_head_dim = spec.hidden_size / spec.n_heads;
    if arch.gguf.writes_head_dim || spec.head_dim != default_head_dim {
        pairs.u32(&key("attention.key_length"), spec.head_dim);
        pairs.u32(&key("attention.value_length"), spec.head_dim);
    }
    let embedding_rows = checkpoint.tensors.role(TensorRole::TokenEmbed).and_then(|t| t.shape.dims().first().copied());
    // Readers take the rows of the embedding for the vocabulary where the key is absent.
    if arch.gguf.permutes_qk || checkpoint.tokenizer.is_none() || embedding_rows != Some(spec.vocab_size as usize) {
        pairs.u32(&key("vocab_size"), spec.vocab_size);
    }
    for pair in variation::pairs(spec)? {
        match pair {
            Pair::U32(suffix, value) => pairs.u32(&key(suffix), value),
            Pair::Layers(suffix, list) => {
                pairs.array(&key(suffix), kind::U32, list, |p, flag| p.u32(flag));
            }
            Pair::F32(suffix, value) => pairs.f32(&key(suffix), value),
            Pair::OwnF32(key, value) => pairs.f32(key, value),
            Pair::OwnStr(key, value) => pairs.string(key, &value),
            Pair::Bool(suffix, value) => pairs.bool(&key(suffix), value),
            Pair::Str(suffix, value) => pairs.string(&key(suffix), value),
        }
    }
    let mostly = || MOSTLY.iter().find(|(dtype, _)| Some(*dtype) == plan.main_dtype()).map(|(_, id)| *id);
    if let Some(file_type) = plan.gguf_file_type.or_else(mostly) {
        pairs.u32("general.file_type", file_type);
    }
    pairs.u32("general.quantization_version", 2);
    Ok(())
}

fn tokenizer_pairs(pairs: &mut Pairs, checkpoint: &Checkpoint) {
    let Some(tokenizer) = &checkpoint.tokenizer else {
        // An unknown architecture's may be one that is not understood.
        if checkpoint.spec.known().is_some() {
            pairs.string("tokenizer.ggml.model", NO_TOKENIZER);
        }
        return;
    };
    let fields = tokenizer.to_gguf(checkpoint.spec.known().map_or(0, |spec| spec.vocab_size));
    pairs.string("tokenizer.ggml.model", &fields.model);
    pairs.string("tokenizer.ggml.pre", fields.pre.as_deref().unwrap_or("default"));
    pairs.array("tokenizer.ggml.tokens", kind::STR, &fields.tokens, |p, t| p.text(t));
    if let Some(scores) = &fields.scores {
        pairs.array("tokenizer.ggml.scores", kind::F32, scores, |p, &s| p.f32(s));
    }
    if let Some(types) = &fields.token_types {
        pairs.array("tokenizer.ggml.token_type", kind::I32, types, |p, &t| p.i32(t));
    }
    if let Some(merges) = &fields.merges {
        pairs.array("tokenizer.ggml.merges", kind::STR, merges, |p, m| p.text(m));
    }
    let ids = [("bos", fields.bos), ("eos", fields.eos), ("unknown", fields.unk), ("padding", fields.pad)];
    for (name, id) in ids {
        if let Some(id) = id {
            pairs.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    if let Some(stop_ids) = &fields.stop_ids {
        pairs.array(STOP_IDS_KEY, kind::U32, stop_ids, |p, &id| p.u32(id));
    }
    for (name, flag) in [("add_bos_token", fields.add_bos), ("add_eos_token", fields.add_eos)] {
        if let Some(flag) = flag {
            pairs.bool(&format!("tokenizer.ggml.{name}"), flag);
        }
    }
    if let Some(flag) = fields.add_space_prefix {
        pairs.bool("tokenizer.ggml.add_space_prefix", flag);
    }
    if let Some(prefix) = &fields.space_prefix {
        pairs.string("apr.space_prefix", prefix);
    }
}
