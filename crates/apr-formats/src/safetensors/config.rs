//! config.json: hyper-parameters as Transformers writes them.

use crate::ParseError;
use apr_model::{Architecture, Checkpoint, ModelSpec, architecture_by_hf};
use apr_tensor::DType;
use serde::Deserialize;
use serde_json::{Value, json};

/// The fields that matter here; a config has many more, which travel with the file.
#[derive(Deserialize)]
struct Config {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    hidden_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    intermediate_size: u32,
    vocab_size: u32,
    max_position_embeddings: u32,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    rms_norm_eps: f64,
    hidden_act: Option<String>,
    use_sliding_window: Option<bool>,
    #[serde(default)]
    tie_word_embeddings: Option<bool>,
}

#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f64>,
}

/// What config.json says.
pub(super) struct Parsed {
    pub(super) spec: ModelSpec,
    /// `tie_word_embeddings`, where it is stated.
    pub(super) tied: Option<bool>,
}

/// Reads hyper-parameters.
pub(super) fn parse(text: &[u8]) -> Result<Parsed, ParseError> {
    let config: Config = serde_json::from_slice(text).map_err(|e| ParseError::new(format!("config.json: {e}")))?;
    let class = config.architectures.as_ref().and_then(|list| list.first()).map(String::as_str);
    let arch = architecture_by_hf(class, config.model_type.as_deref()).ok_or_else(|| {
        let known: Vec<_> = apr_model::ARCHITECTURES.iter().map(|row| row.hf_class).collect();
        let found = class.or(config.model_type.as_deref()).unwrap_or("no architecture");
        ParseError::unsupported(format!("config.json names {found}; this version reads {}", known.join(", ")))
    })?;
    if let Some(other) = config.hidden_act.as_deref().filter(|&act| act != "silu") {
        return Err(ParseError::unsupported(format!("config.json: activation {other:?}, expected \"silu\"")));
    }
    if config.use_sliding_window == Some(true) {
        return Err(ParseError::unsupported("config.json: sliding-window attention"));
    }
    for rope in config.rope_scaling.iter().chain(&config.rope_parameters) {
        let kind = rope.rope_type.as_deref().or(rope.old_type.as_deref());
        if let Some(kind) = kind.filter(|&kind| kind != "default") {
            return Err(ParseError::unsupported(format!("config.json: rotary scaling {kind:?}")));
        }
    }
    let nested_theta = config.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
    let n_heads = config.num_attention_heads;
    let head_dim = match config.head_dim {
        Some(n) => n,
        None if n_heads > 0 && config.hidden_size.is_multiple_of(n_heads) => config.hidden_size / n_heads,
        None => {
            let detail = format!("config.json: {} hidden units don't divide into {n_heads} heads", config.hidden_size);
            return Err(ParseError::new(detail));
        }
    };
    let spec = ModelSpec {
        arch,
        name: None,
        n_layers: config.num_hidden_layers,
        hidden_size: config.hidden_size,
        n_heads,
        n_kv_heads: config.num_key_value_heads.unwrap_or(n_heads),
        head_dim,
        ffn_size: config.intermediate_size,
        vocab_size: config.vocab_size,
        context_length: config.max_position_embeddings,
        rope_theta: config.rope_theta.or(nested_theta).unwrap_or(10_000.0) as f32,
        rms_eps: config.rms_norm_eps as f32,
    };
    spec.validate().map_err(|e| ParseError::new(format!("config.json: {e}")))?;
    Ok(Parsed { spec, tied: config.tie_word_embeddings })
}

/// A config.json for a model that has none, in the layout of the hub's files.
pub(super) fn write(checkpoint: &Checkpoint, main_dtype: Option<DType>) -> String {
    let spec = &checkpoint.spec;
    let arch: &Architecture = spec.arch;
    let has_bias = checkpoint.tensors.iter().any(|t| t.name.ends_with("q_proj.bias"));
    let special = checkpoint.tokenizer.as_ref().map(|t| &t.special);
    let mut config = json!({
        "architectures": [arch.hf_class],
        "attention_dropout": 0.0,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.ffn_size,
        "max_position_embeddings": spec.context_length,
        "model_type": arch.id,
        "num_attention_heads": spec.n_heads,
        "num_hidden_layers": spec.n_layers,
        "num_key_value_heads": spec.n_kv_heads,
        "rms_norm_eps": decimal(spec.rms_eps),
        "rope_scaling": null,
        "rope_theta": decimal(spec.rope_theta),
        "tie_word_embeddings": checkpoint.is_tied(),
        "use_cache": true,
        "vocab_size": spec.vocab_size,
    });
    let map = config.as_object_mut().expect("json! made an object");
    if arch.qkv_bias != apr_model::Presence::Required {
        map.insert("attention_bias".into(), json!(has_bias));
    }
    if let Some(name) = main_dtype.and_then(|dtype| dtype.info().torch_name) {
        map.insert("torch_dtype".into(), json!(name));
    }
    for (key, id) in [("bos_token_id", special.and_then(|s| s.bos)), ("eos_token_id", special.and_then(|s| s.eos))] {
        if let Some(id) = id {
            map.insert(key.into(), json!(id));
        }
    }
    map.sort_keys();
    serde_json::to_string_pretty(&config).expect("a JSON value prints") + "\n"
}

/// The shortest decimal that reads back as this f32 (1e-6 rather than 9.999999974752427e-7).
fn decimal(x: f32) -> Value {
    let shortest: f64 = x.to_string().parse().expect("a printed float parses");
    json!(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: fn(&mut Value), expect: &str) {
        let mut config = json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 512,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        });
        change(&mut config);
        let found = match parse(config.to_string().as_bytes()) {
            Ok(parsed) => format!("{:?}", parsed.spec),
            Err(e) => e.detail,
        };
        assert!(found.contains(expect), "{found} should say {expect}");
    }

    #[test]
    fn what_the_engine_can_not_do_is_refused_by_name() {
        check(|_| (), "rope_theta: 10000.0");
        check(|c| c["hidden_act"] = json!("gelu"), "activation \"gelu\"");
        check(|c| c["use_sliding_window"] = json!(true), "sliding-window");
        check(|c| c["rope_scaling"] = json!({"rope_type": "yarn"}), "rotary scaling \"yarn\"");
        check(|c| c["architectures"] = json!(["GPT2LMHeadModel"]), "names GPT2LMHeadModel");
        check(|c| c["num_attention_heads"] = json!(0), "don't divide");
        check(|c| c["num_key_value_heads"] = json!(0), "num_key_value_heads is 0");
    }

    #[test]
    fn newer_configs_nest_the_rotary_base() {
        check(
            |c| {
                c.as_object_mut().unwrap().remove("rope_theta");
                c["rope_parameters"] = json!({"rope_theta": 5e5, "rope_type": "default"});
            },
            "rope_theta: 500000.0",
        );
    }
}
