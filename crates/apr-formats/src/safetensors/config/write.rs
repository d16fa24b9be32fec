//! From hyper-parameters to a config.json.

use super::{ACTIVATIONS, FULL, SLIDING};
use apr_model::{
    Architecture, AttnScale, Checkpoint, MlpKind, ModelSpec, Positions, RopeScaling, Spec, UnknownArchitecture,
    WindowRule,
};
use apr_tensor::DType;
use serde_json::{Map, Value, json};

/// A config.json for a model that has none, in the layout of the hub's files. That of an unknown architecture names no
/// class: Transformers may have one of that name, for which these tensors are not.
pub(in crate::safetensors) fn write(checkpoint: &Checkpoint, main_dtype: Option<DType>) -> String {
    let spec = match &checkpoint.spec {
        Spec::Known(spec) => spec,
        Spec::Unknown(architecture) => {
            return format!("{:#}\n", json!({ UnknownArchitecture::KEY: architecture.to_string() }));
        }
    };
    let arch: &Architecture = spec.arch;
    let special = checkpoint.tokenizer.as_ref().map(|t| &t.special);
    let activation = ACTIVATIONS.iter().find(|row| row.1 == arch.activation).expect("every activation has a name");
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    set("architectures", json!([arch.hf_class]));
    set("attention_dropout", json!(0.0));
    set("model_type", json!(arch.hf_model_type));
    set("tie_word_embeddings", json!(checkpoint.is_tied()));
    set("use_cache", json!(true));
    set("vocab_size", json!(spec.vocab_size));
    if arch.positions == Positions::Learned {
        set("activation_function", json!("gelu_new"));
        set("layer_norm_epsilon", decimal(spec.norm_eps));
        set("n_embd", json!(spec.hidden_size));
        set("n_head", json!(spec.n_heads));
        set("n_inner", json!(spec.ffn_size));
        set("n_layer", json!(spec.n_layers));
        set("n_positions", json!(spec.context_length));
    } else {
        set("head_dim", json!(spec.head_dim));
        set("hidden_act", json!(activation.0));
        set("hidden_size", json!(spec.hidden_size));
        set("intermediate_size", json!(spec.ffn_size));
        set("max_position_embeddings", json!(spec.context_length));
        set("num_attention_heads", json!(spec.n_heads));
        set("num_hidden_layers", json!(spec.n_layers));
        set("num_key_value_heads", json!(spec.n_kv_heads));
        set("rope_scaling", rope_scaling(spec.variation.rope_scaling));
        set("rope_theta", decimal(spec.rope_theta));
        set(eps_key(arch), decimal(spec.norm_eps));
    }
    // Transformers reads activations of gemma under this name, and the biases of each family under its own.
    if arch.root_embed_scale {
        set("hidden_activation", json!(activation.0));
    }
    let has_bias = |name: &str| checkpoint.tensors.iter().any(|t| t.name.ends_with(name));
    for (key, tensor) in bias_keys(arch) {
        set(key, json!(has_bias(tensor)));
    }
    variation(&mut set, spec);
    if let Some(name) = main_dtype.and_then(|dtype| dtype.info().torch_name) {
        set("torch_dtype", json!(name));
    }
    for (key, id) in [("bos_token_id", special.and_then(|s| s.bos)), ("eos_token_id", special.and_then(|s| s.eos))] {
        if let Some(id) = id {
            set(key, json!(id));
        }
    }
    if PADS_BY_DEFAULT.contains(&arch.id) {
        set("pad_token_id", json!(special.and_then(|s| s.pad)));
    }
    map.sort_keys();
    serde_json::to_string_pretty(&map).expect("a JSON value prints") + "\n"
}

/// Transformers gives their models a padding token where a config does not state its absence.
const PADS_BY_DEFAULT: [&str; 2] = ["phi3", "smollm3"];

fn eps_key(arch: &Architecture) -> &'static str {
    match (arch.id, arch.norm) {
        ("starcoder2", _) => "norm_epsilon",
        (_, apr_model::NormKind::Layer) => "layer_norm_eps",
        _ => "rms_norm_eps",
    }
}

/// The fields that say whether a model has biases, and a tensor that it then has.
fn bias_keys(arch: &Architecture) -> Vec<(&'static str, &'static str)> {
    use apr_model::Presence::Optional;
    match arch.id {
        "stablelm" => vec![("use_qkv_bias", "q_proj.bias")],
        "starcoder2" => vec![("use_bias", "q_proj.bias")],
        _ => {
            let mut keys = Vec::new();
            if arch.qkv_bias != apr_model::Presence::Required && arch.positions == Positions::Rotary {
                keys.push(("attention_bias", "q_proj.bias"));
            }
            if arch.mlp_bias == Optional && arch.mlp == MlpKind::Gated {
                keys.push(("mlp_bias", "down_proj.bias"));
            }
            keys
        }
    }
}

fn rope_scaling(scaling: RopeScaling) -> Value {
    if scaling == RopeScaling::None {
        return Value::Null;
    }
    serde_json::to_value(scaling).expect("numbers print")
}

/// Fields beyond a plain decoder's.
fn variation(set: &mut impl FnMut(&str, Value), spec: &ModelSpec) {
    let (arch, v) = (spec.arch, &spec.variation);
    if let Some(n) = v.rotary_dim {
        set("partial_rotary_factor", json!(f64::from(n) / f64::from(spec.head_dim)));
    }
    if let Some(theta) = v.window_rope_theta {
        set("rope_local_base_freq", decimal(theta));
    }
    if !v.unrotated_layers.is_empty() || arch.id == "smollm3" {
        let turns = (0..spec.n_layers).map(|index| u32::from(!v.unrotated_layers.contains(&index)));
        set("no_rope_layers", json!(turns.collect::<Vec<_>>()));
    }
    if let Some(window) = &v.window {
        set("sliding_window", json!(window.size));
        set("use_sliding_window", json!(true));
        let types = (0..spec.n_layers).map(|index| if window.layers.contains(&index) { SLIDING } else { FULL });
        set("layer_types", json!(types.collect::<Vec<_>>()));
    } else if arch.window != WindowRule::Absent {
        set("sliding_window", Value::Null);
        set("use_sliding_window", json!(false));
    }
    match v.attn_scale {
        // Transformers takes it as an integer where it is one.
        AttnScale::InverseRoot(of) if of == (of as u32) as f32 => set("query_pre_attn_scalar", json!(of as u32)),
        AttnScale::InverseRoot(of) => set("query_pre_attn_scalar", decimal(of)),
        AttnScale::Factor(factor) => set("attention_multiplier", decimal(factor)),
        AttnScale::Plain if arch.root_embed_scale => set("query_pre_attn_scalar", json!(spec.head_dim)),
        AttnScale::Plain => {}
    }
    // A family that knows a cap takes its absence for the default, so it is stated.
    if arch.root_embed_scale {
        set("attn_logit_softcapping", v.attn_softcap.map_or(Value::Null, decimal));
        set("final_logit_softcapping", v.logit_softcap.map_or(Value::Null, decimal));
    }
    for (key, factor) in [
        ("embedding_multiplier", v.embed_scale),
        ("residual_multiplier", v.residual_scale),
        ("logits_scaling", v.logit_divisor),
    ] {
        if let Some(factor) = factor {
            set(key, decimal(factor));
        }
    }
    if v.parallel_residual {
        set("use_parallel_residual", json!(true));
    }
    if let Some(experts) = &v.experts {
        set("num_experts", json!(experts.n_experts));
        set("num_experts_per_tok", json!(experts.n_used));
        set("moe_intermediate_size", json!(experts.ffn_size));
        set("shared_expert_intermediate_size", json!(experts.shared_ffn_size));
        set("norm_topk_prob", json!(experts.normalise));
        set("decoder_sparse_step", json!(1));
        set("mlp_only_layers", json!(experts.dense_layers));
    }
}

/// The shortest decimal that reads back as this f32 (1e-6 rather than 9.999999974752427e-7).
fn decimal(x: f32) -> Value {
    let shortest: f64 = x.to_string().parse().expect("a printed float parses");
    json!(shortest)
}
