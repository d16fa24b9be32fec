//! From a config.json to hyper-parameters.
//!
//! One struct lists every field of every family that matters, under all the names that families give it. Which of them
//! have a meaning is the architecture's row to say; a field that asks for what no row and no variation describes is
//! refused by name.

use super::{ACTIVATIONS, FULL, SLIDING};
use crate::{ParseError, unknown};
use apr_model::{
    Architecture, AttnScale, Experts, Format, ModelSpec, Positions, RopeScaling, Spec, UnknownArchitecture, Variation,
    Window, WindowRule, architecture_by_hf,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a config calls its model.
#[derive(Deserialize)]
struct Named {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    #[serde(rename = "apr.architecture")]
    unknown: Option<String>,
}

/// The fields of a known architecture that matter here; a config has many more, which travel with the file.
#[derive(Deserialize)]
struct Config {
    #[serde(alias = "n_embd")]
    hidden_size: u32,
    #[serde(alias = "n_layer")]
    num_hidden_layers: u32,
    #[serde(alias = "n_head")]
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    #[serde(alias = "n_inner")]
    intermediate_size: Option<u32>,
    vocab_size: u32,
    #[serde(alias = "n_positions")]
    max_position_embeddings: u32,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<RopeParameters>,
    partial_rotary_factor: Option<f64>,
    no_rope_layers: Option<Vec<u32>>,
    no_rope_layer_interval: Option<u32>,
    #[serde(alias = "layer_norm_eps", alias = "layer_norm_epsilon", alias = "norm_epsilon")]
    rms_norm_eps: f64,
    #[serde(alias = "activation_function")]
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    sliding_window: Option<u32>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u32>,
    #[serde(alias = "_sliding_window_pattern")]
    sliding_window_pattern: Option<u32>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f64>,
    attention_multiplier: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    embedding_multiplier: Option<f64>,
    residual_multiplier: Option<f64>,
    logits_scaling: Option<f64>,
    use_parallel_residual: Option<bool>,
    #[serde(alias = "num_local_experts")]
    num_experts: Option<u32>,
    num_experts_per_tok: Option<u32>,
    moe_intermediate_size: Option<u32>,
    shared_expert_intermediate_size: Option<u32>,
    norm_topk_prob: Option<bool>,
    decoder_sparse_step: Option<u32>,
    mlp_only_layers: Option<Vec<u32>>,
    tie_word_embeddings: Option<bool>,
    // What this version can't do where it is set.
    qk_layernorm: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    scale_attn_weights: Option<bool>,
    use_bidirectional_attention: Option<Value>,
    clip_qkv: Option<f64>,
}

/// The rotary parameters of one kind of layer.
#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u32>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    truncate: Option<bool>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
}

/// Newer configs: one set, or one for each kind of layer.
#[derive(Deserialize)]
#[serde(untagged)]
enum RopeParameters {
    PerKind { full_attention: Box<Rope>, sliding_attention: Option<Box<Rope>> },
    One(Box<Rope>),
}

/// What config.json says.
pub(in crate::safetensors) struct Parsed {
    pub(in crate::safetensors) spec: Spec,
    /// `tie_word_embeddings`, where it is stated.
    pub(in crate::safetensors) tied: Option<bool>,
}

/// Keys that Transformers fills with a particular model's value where a config lacks them. Such a value is no fact of the
/// file, so their absence is an error; one of those that share a place is enough. A null counts as stated.
const REQUIRED: &[(&str, &[&[&str]])] = &[
    ("mistral", &[&["sliding_window"]]),
    ("qwen2moe", &[&["num_experts", "num_local_experts"], &["shared_expert_intermediate_size"]]),
    ("qwen3moe", &[&["num_experts", "num_local_experts"]]),
    ("gemma", &[&["head_dim"]]),
    (
        "gemma2",
        &[
            &["head_dim"],
            &["query_pre_attn_scalar"],
            &["attn_logit_softcapping"],
            &["final_logit_softcapping"],
            &["sliding_window"],
        ],
    ),
    ("gemma3", &[&["head_dim"], &["query_pre_attn_scalar"], &["sliding_window"]]),
    ("smollm3", &[&["no_rope_layers", "no_rope_layer_interval"]]),
];

fn unsupported(detail: String) -> ParseError {
    ParseError::unsupported(format!("config.json: {detail}"))
}

/// Reads hyper-parameters.
pub(in crate::safetensors) fn parse(text: &[u8]) -> Result<Parsed, ParseError> {
    let malformed = |e: serde_json::Error| ParseError::new(format!("config.json: {e}"));
    let arch = match serde_json::from_slice::<Named>(text).map_err(malformed)?.architecture()? {
        Ok(arch) => arch,
        Err(unknown) => return Ok(Parsed { spec: Spec::Unknown(unknown), tied: None }),
    };
    let config: Config = serde_json::from_slice(text).map_err(malformed)?;
    require_what_has_no_default(text, arch)?;
    config.refuse_what_is_absent(arch)?;
    let n_heads = config.num_attention_heads;
    let head_dim = match config.head_dim {
        Some(n) => n,
        None if n_heads > 0 && config.hidden_size.is_multiple_of(n_heads) => config.hidden_size / n_heads,
        None => {
            let detail = format!("config.json: {} hidden units don't divide into {n_heads} heads", config.hidden_size);
            return Err(ParseError::new(detail));
        }
    };
    // GPT-2 leaves it out where it is the usual width.
    let ffn_size = match (config.intermediate_size, arch.positions) {
        (Some(n), _) => n,
        (None, Positions::Learned) => config.hidden_size.saturating_mul(4),
        (None, Positions::Rotary) => return Err(ParseError::new("config.json: intermediate_size is missing")),
    };
    let spec = ModelSpec {
        arch,
        name: None,
        n_layers: config.num_hidden_layers,
        hidden_size: config.hidden_size,
        n_heads,
        n_kv_heads: config.num_key_value_heads.unwrap_or(n_heads),
        head_dim,
        ffn_size,
        vocab_size: config.vocab_size,
        context_length: config.max_position_embeddings,
        rope_theta: config.rope_theta() as f32,
        norm_eps: config.rms_norm_eps as f32,
        variation: config.variation(arch, head_dim)?,
    };
    spec.validate().map_err(|e| ParseError::new(format!("config.json: {e}")))?;
    Ok(Parsed { spec: Spec::Known(spec), tied: config.tie_word_embeddings })
}

fn require_what_has_no_default(text: &[u8], arch: &Architecture) -> Result<(), ParseError> {
    let Some((_, required)) = REQUIRED.iter().find(|(id, _)| *id == arch.id) else { return Ok(()) };
    let map: Map<String, Value> =
        serde_json::from_slice(text).map_err(|e| ParseError::new(format!("config.json: {e}")))?;
    match required.iter().find(|keys| !keys.iter().any(|key| map.contains_key(*key))) {
        Some(keys) => {
            let keys = keys.join(" or ");
            Err(ParseError::new(format!("config.json: {keys} is missing, a {} model needs it", arch.id)))
        }
        None => Ok(()),
    }
}

impl Named {
    /// The row for it, or the architecture that no row is for.
    fn architecture(&self) -> Result<Result<&'static Architecture, UnknownArchitecture>, ParseError> {
        if let Some(text) = &self.unknown {
            return unknown::architecture(text).map(Err);
        }
        let class = self.architectures.as_ref().and_then(|list| list.first()).map(String::as_str);
        let model_type = self.model_type.as_deref();
        let name = class.or(model_type).ok_or_else(|| unsupported("it names no architecture".to_owned()))?;
        let unknown = || UnknownArchitecture { name: name.to_owned(), format: Format::SafeTensors };
        Ok(architecture_by_hf(class, model_type).ok_or_else(unknown))
    }
}

impl Config {
    fn refuse_what_is_absent(&self, arch: &Architecture) -> Result<(), ParseError> {
        if let Some(act) = self.hidden_activation.as_deref().or(self.hidden_act.as_deref()) {
            let known = ACTIVATIONS.iter().any(|&(name, activation)| name == act && activation == arch.activation);
            if !known {
                let names = ACTIVATIONS.iter().filter(|row| row.1 == arch.activation).map(|row| row.0);
                let names = names.collect::<Vec<_>>().join("\" or \"");
                return Err(unsupported(format!("activation {act:?}, expected \"{names}\" in a {} model", arch.id)));
            }
        }
        let known = [SLIDING, FULL];
        if let Some(other) = self.layer_types.iter().flatten().find(|kind| !known.contains(&kind.as_str())) {
            return Err(unsupported(format!("a layer of type {other:?}")));
        }
        let refused = [
            ("qk_layernorm", self.qk_layernorm == Some(true)),
            ("scale_attn_by_inverse_layer_idx", self.scale_attn_by_inverse_layer_idx == Some(true)),
            ("scale_attn_weights = false", self.scale_attn_weights == Some(false)),
            ("clip_qkv", self.clip_qkv.is_some()),
            (
                "use_bidirectional_attention",
                !matches!(self.use_bidirectional_attention, None | Some(Value::Null | Value::Bool(false))),
            ),
        ];
        match refused.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(unsupported(format!("{key} is not supported"))),
            None => Ok(()),
        }
    }

    /// The rotary parameters of layers without a window, wherever they stand.
    fn rope(&self) -> Option<&Rope> {
        match &self.rope_parameters {
            Some(RopeParameters::PerKind { full_attention, .. }) => Some(full_attention),
            Some(RopeParameters::One(rope)) => Some(rope),
            None => self.rope_scaling.as_ref(),
        }
    }

    fn rope_theta(&self) -> f64 {
        self.rope_theta.or_else(|| self.rope()?.rope_theta).unwrap_or(10_000.0)
    }

    fn variation(&self, arch: &Architecture, head_dim: u32) -> Result<Variation, ParseError> {
        let narrow = |x: Option<f64>| x.map(|x| x as f32);
        // A factor of one changes nothing.
        let factor = |x: Option<f64>| narrow(x).filter(|&x| x != 1.0);
        let attn_scale = match (self.attention_multiplier, self.query_pre_attn_scalar) {
            (Some(factor), _) => AttnScale::Factor(factor as f32),
            (None, Some(of)) => AttnScale::InverseRoot(of as f32),
            (None, None) => AttnScale::Plain,
        };
        Ok(Variation {
            rotary_dim: self.rotary_dim(arch, head_dim),
            rope_scaling: self.rope_scaling()?,
            window_rope_theta: self.window_rope_theta()?,
            unrotated_layers: self.unrotated_layers(),
            window: self.window(arch)?,
            attn_scale: if attn_scale == AttnScale::InverseRoot(head_dim as f32) {
                AttnScale::Plain
            } else {
                attn_scale
            },
            attn_softcap: narrow(self.attn_logit_softcapping),
            logit_softcap: narrow(self.final_logit_softcapping),
            embed_scale: factor(self.embedding_multiplier),
            residual_scale: factor(self.residual_multiplier),
            logit_divisor: factor(self.logits_scaling),
            parallel_residual: self.use_parallel_residual == Some(true),
            experts: self.experts(arch)?,
        })
    }

    fn rotary_dim(&self, arch: &Architecture, head_dim: u32) -> Option<u32> {
        let share = self.partial_rotary_factor.or_else(|| self.rope()?.partial_rotary_factor);
        let share = share.unwrap_or(f64::from(arch.partial_rotary));
        let turned = (f64::from(head_dim) * share) as u32;
        (arch.positions == Positions::Rotary && turned != head_dim).then_some(turned)
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ParseError> {
        let Some(rope) = self.rope() else { return Ok(RopeScaling::None) };
        let kind = rope.rope_type.as_deref().or(rope.old_type.as_deref()).unwrap_or("default");
        let need = |value: Option<f64>, key: &str| {
            value.ok_or_else(|| ParseError::new(format!("config.json: rotary scaling {kind:?} without {key}")))
        };
        let original = rope.original_max_position_embeddings.unwrap_or(self.max_position_embeddings);
        Ok(match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: need(rope.factor, "factor")? },
            "dynamic" => RopeScaling::Dynamic { factor: need(rope.factor, "factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: need(rope.factor, "factor")?,
                low_freq_factor: need(rope.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: need(rope.high_freq_factor, "high_freq_factor")?,
                original_max_position_embeddings: original,
            },
            "yarn" if rope.attention_factor.is_none() && rope.mscale.or(rope.mscale_all_dim).is_some() => {
                return Err(unsupported("rotary scaling \"yarn\" with mscale".to_owned()));
            }
            "yarn" => RopeScaling::Yarn {
                factor: need(rope.factor, "factor")?,
                beta_fast: rope.beta_fast.unwrap_or(32.0),
                beta_slow: rope.beta_slow.unwrap_or(1.0),
                original_max_position_embeddings: original,
                attention_factor: rope.attention_factor,
                truncate: rope.truncate.unwrap_or(true),
            },
            other => return Err(unsupported(format!("rotary scaling {other:?}"))),
        })
    }

    /// The base in layers with a window, where a config states it apart; without scaling.
    fn window_rope_theta(&self) -> Result<Option<f32>, ParseError> {
        let theta = match &self.rope_parameters {
            Some(RopeParameters::PerKind { sliding_attention: Some(rope), .. }) => {
                if let Some(kind) = rope.rope_type.as_deref().filter(|&kind| kind != "default") {
                    return Err(unsupported(format!("rotary scaling {kind:?} in layers with a window")));
                }
                rope.rope_theta
            }
            _ => self.rope_local_base_freq,
        };
        // Other layers may be scaled where these are not, so an equal base is stated too.
        Ok(theta.map(|theta| theta as f32))
    }

    /// Transformers lists the layers that do turn as ones.
    fn unrotated_layers(&self) -> Vec<u32> {
        match (&self.no_rope_layers, self.no_rope_layer_interval) {
            (Some(turns), _) => (0..).zip(turns).filter(|(_, turns)| **turns == 0).map(|(index, _)| index).collect(),
            (None, Some(interval)) if interval > 0 => {
                (0..self.num_hidden_layers).filter(|index| (index + 1).is_multiple_of(interval)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn window(&self, arch: &Architecture) -> Result<Option<Window>, ParseError> {
        let Some(size) = self.sliding_window else { return Ok(None) };
        if self.use_sliding_window == Some(false) {
            return Ok(None);
        }
        let all = 0..self.num_hidden_layers;
        let layers: Vec<u32> = match (&self.layer_types, arch.window) {
            (Some(types), _) => (0..).zip(types).filter(|(_, kind)| *kind == SLIDING).map(|(index, _)| index).collect(),
            (None, WindowRule::Absent) if self.use_sliding_window == Some(true) => {
                return Err(unsupported(format!("sliding-window attention in a {} model", arch.id)));
            }
            (None, WindowRule::Absent) => return Ok(None),
            (None, WindowRule::All) => all.collect(),
            (None, WindowRule::FromLayer) if self.use_sliding_window != Some(true) => return Ok(None),
            (None, WindowRule::FromLayer) => all.skip(self.max_window_layers.unwrap_or(0) as usize).collect(),
            (None, WindowRule::AllButEvery(n)) => {
                let n = self.sliding_window_pattern.unwrap_or(n).max(1);
                all.filter(|index| !(index + 1).is_multiple_of(n)).collect()
            }
        };
        Ok((!layers.is_empty()).then_some(Window { size, layers }))
    }

    fn experts(&self, arch: &Architecture) -> Result<Option<Experts>, ParseError> {
        let Some(n_experts) = self.num_experts.filter(|&n| arch.experts && n > 0) else { return Ok(None) };
        let need = |value: Option<u32>, key: &str| {
            value.ok_or_else(|| ParseError::new(format!("config.json: num_experts without {key}")))
        };
        let step = self.decoder_sparse_step.unwrap_or(1).max(1);
        let listed = self.mlp_only_layers.as_deref().unwrap_or_default();
        let is_dense = |index: &u32| listed.contains(index) || !(index + 1).is_multiple_of(step);
        Ok(Some(Experts {
            n_experts,
            n_used: need(self.num_experts_per_tok, "num_experts_per_tok")?,
            ffn_size: need(self.moe_intermediate_size, "moe_intermediate_size")?,
            shared_ffn_size: self.shared_expert_intermediate_size.unwrap_or(0),
            normalise: self.norm_topk_prob.unwrap_or(false),
            dense_layers: (0..self.num_hidden_layers.min(1 << 16)).filter(is_dense).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn qwen2() -> Value {
        json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 512,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        })
    }

    fn check(change: fn(&mut Value), expect: &str) {
        let mut config = qwen2();
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
        check(|c| c["rope_scaling"] = json!({"rope_type": "longrope"}), "rotary scaling \"longrope\"");
        check(|c| c["rope_scaling"] = json!({"rope_type": "yarn"}), "rotary scaling \"yarn\" without factor");
        check(|c| c["architectures"] = json!(["FalconForCausalLM"]), "Unknown(UnknownArchitecture");
        check(|c| *c = json!({"model_type": "falcon"}), "\"falcon\"");
        check(|c| *c = json!({}), "names no architecture");
        check(|c| c["num_attention_heads"] = json!(0), "don't divide");
        check(|c| c["num_key_value_heads"] = json!(0), "num_key_value_heads is 0");
        check(|c| c["architectures"] = json!(["MistralForCausalLM"]), "sliding_window is missing");
        check(|c| c["architectures"] = json!(["Qwen3MoeForCausalLM"]), "num_experts or num_local_experts is missing");
        check(|c| c["clip_qkv"] = json!(8.0), "clip_qkv");
        check(|c| c["layer_types"] = json!(["full_attention", "linear_attention"]), "\"linear_attention\"");
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

    /// The keys of files on the hub, which older versions of Transformers wrote; `fixtures/families` has the new ones.
    #[test]
    fn older_configs_say_the_same_under_other_keys() {
        let spec = |change: fn(&mut Value)| {
            let mut config = qwen2();
            change(&mut config);
            parse(config.to_string().as_bytes()).map_err(|e| e.detail).unwrap().spec.known().unwrap().variation.clone()
        };
        let layers = |v: &Variation| v.window.as_ref().map(|window| (window.size, window.layers.clone()));
        let qwen = spec(|c| {
            c["use_sliding_window"] = json!(true);
            c["sliding_window"] = json!(16);
            c["max_window_layers"] = json!(3);
        });
        assert_eq!(layers(&qwen), Some((16, vec![3])));
        let gemma3 = spec(|c| {
            c["architectures"] = json!(["Gemma3ForCausalLM"]);
            c["hidden_activation"] = json!("gelu_pytorch_tanh");
            c["sliding_window"] = json!(16);
            c["sliding_window_pattern"] = json!(2);
            c["rope_local_base_freq"] = json!(1e4);
            c["rope_scaling"] = json!({"type": "linear", "factor": 8.0});
            c["query_pre_attn_scalar"] = json!(16);
            c["head_dim"] = json!(16);
        });
        assert_eq!(layers(&gemma3), Some((16, vec![0, 2])));
        assert_eq!(gemma3.window_rope_theta, Some(1e4));
        assert_eq!(gemma3.rope_scaling, RopeScaling::Linear { factor: 8.0 });
        assert_eq!(gemma3.attn_scale, AttnScale::Plain, "the head's size is the default");
        let stablelm = spec(|c| {
            c["architectures"] = json!(["StableLmForCausalLM"]);
            c["partial_rotary_factor"] = json!(0.5);
        });
        assert_eq!(stablelm.rotary_dim, Some(8));
        let smollm3 = spec(|c| {
            c["architectures"] = json!(["SmolLM3ForCausalLM"]);
            c["no_rope_layer_interval"] = json!(4);
        });
        assert_eq!(smollm3.unrotated_layers, [3]);
    }
}
