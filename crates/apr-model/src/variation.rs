//! What differs between models of one architecture, apart from counts.

use crate::{ModelSpec, SpecError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Hyper-parameters that a plain decoder does not have. The default is a plain decoder.
///
/// It is written as JSON, in which what is plain is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Variation {
    /// Values of a head that turn, the first ones; all of them where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_dim: Option<u32>,
    /// How rotary frequencies are scaled.
    #[serde(skip_serializing_if = "RopeScaling::is_none")]
    pub rope_scaling: RopeScaling,
    /// Base of the rotary frequencies, without scaling, in layers with a window, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_rope_theta: Option<f32>,
    /// Layers whose queries and keys don't turn, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unrotated_layers: Vec<u32>,
    /// The sliding window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What scores are multiplied by.
    #[serde(skip_serializing_if = "AttnScale::is_plain")]
    pub attn_scale: AttnScale,
    /// Where it is `c`, a score `s` becomes `c * tanh(s / c)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attn_softcap: Option<f32>,
    /// The same for logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_softcap: Option<f32>,
    /// What embeddings are multiplied by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed_scale: Option<f32>,
    /// What the output of attention and of the feed-forward block is multiplied by before it is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual_scale: Option<f32>,
    /// What logits are divided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_divisor: Option<f32>,
    /// Whether the feed-forward block reads the input of attention, not its output.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parallel_residual: bool,
    /// The experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
}

/// A sliding window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Positions that a token sees, its own included.
    pub size: u32,
    /// Layers that have it, ascending.
    pub layers: Vec<u32>,
}

/// What scores are multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttnScale {
    /// `1 / sqrt(head_dim)`
    #[default]
    Plain,
    /// `1 / sqrt(of)`
    InverseRoot(f32),
    /// The number itself.
    Factor(f32),
}

impl AttnScale {
    fn is_plain(&self) -> bool {
        *self == AttnScale::Plain
    }
}

/// How rotary frequencies are scaled; the fields are those of a Transformers config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Divided by a factor.
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// As Llama 3.1.
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// Turns in the original context up to which a frequency is divided.
        low_freq_factor: f64,
        /// Turns in the original context from which on a frequency is kept.
        high_freq_factor: f64,
        /// Positions of the original context.
        original_max_position_embeddings: u32,
    },
    /// YaRN.
    Yarn {
        /// How much longer the context is.
        factor: f64,
        /// Turns of the pair where mixing begins.
        beta_fast: f64,
        /// Turns of the pair where mixing ends.
        beta_slow: f64,
        /// Positions of the original context.
        original_max_position_embeddings: u32,
        /// What cosines and sines are multiplied by; `0.1 ln(factor) + 1` where it is absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Whether the mixed range is rounded outwards to whole pairs.
        truncate: bool,
    },
    /// NTK-aware: the base grows with the position, past the model's context length.
    Dynamic {
        /// How much the base grows.
        factor: f64,
    },
}

impl RopeScaling {
    fn is_none(&self) -> bool {
        *self == RopeScaling::None
    }
}

/// The experts of layers that have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experts {
    /// Experts of a layer.
    pub n_experts: u32,
    /// Experts that a token uses.
    pub n_used: u32,
    /// Width of one expert's feed-forward block.
    pub ffn_size: u32,
    /// Width of the expert that every token uses, besides; zero where there is none.
    pub shared_ffn_size: u32,
    /// Whether the weights of the used experts are divided by their sum.
    pub normalise: bool,
    /// Layers that have a plain feed-forward block instead, ascending.
    pub dense_layers: Vec<u32>,
}

/// Most experts in all layers: each has tensors that are listed when the structure is checked.
const MAX_EXPERTS: u64 = 1 << 17;

impl ModelSpec {
    /// Values of a head that turn.
    pub fn rotary_dim(&self) -> u32 {
        self.variation.rotary_dim.unwrap_or(self.head_dim)
    }

    /// The window of a layer, in positions.
    pub fn window(&self, layer: u32) -> Option<u32> {
        self.variation.window.as_ref().filter(|window| window.layers.contains(&layer)).map(|window| window.size)
    }

    /// The experts of a layer, where it has them.
    pub fn experts(&self, layer: u32) -> Option<&Experts> {
        self.variation.experts.as_ref().filter(|experts| !experts.dense_layers.contains(&layer))
    }

    /// Most tokens of a context: scaled frequencies may go beyond the length that the model was first made for.
    pub fn longest_context(&self) -> u32 {
        let scaled = |length: u32, factor: f64| (f64::from(length) * factor) as u32;
        match self.variation.rope_scaling {
            RopeScaling::Dynamic { factor } => self.context_length.max(scaled(self.context_length, factor)),
            RopeScaling::Yarn { factor, original_max_position_embeddings, .. } => {
                self.context_length.max(scaled(original_max_position_embeddings, factor))
            }
            _ => self.context_length,
        }
    }
}

impl Variation {
    /// Whether the model is a plain decoder.
    pub fn is_plain(&self) -> bool {
        *self == Variation::default()
    }

    /// What is not plain, each as its name and JSON text.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let value = serde_json::to_value(self).expect("numbers, strings and lists print");
        let map = value.as_object().expect("a struct is an object").iter();
        map.map(|(key, value)| (key.clone(), value.to_string())).collect()
    }

    /// Checks the relations that the engine relies on.
    pub(crate) fn validate(&self, spec: &ModelSpec) -> Result<(), SpecError> {
        let error = |key, found: &dyn fmt::Display, expected: &str| {
            Err(SpecError { key, found: found.to_string(), expected: expected.to_owned() })
        };
        if let Some(n) = self.rotary_dim.filter(|&n| n == 0 || n % 2 != 0 || n > spec.head_dim) {
            return error("rotary_dim", &n, &format!("an even number up to the head's {}", spec.head_dim));
        }
        let factors = [
            ("window_rope_theta", self.window_rope_theta),
            ("attn_softcap", self.attn_softcap),
            ("logit_softcap", self.logit_softcap),
            ("embed_scale", self.embed_scale),
            ("residual_scale", self.residual_scale),
            ("logit_divisor", self.logit_divisor),
            match self.attn_scale {
                AttnScale::Plain => ("attn_scale", None),
                AttnScale::InverseRoot(of) => ("attn_scale", Some(of)),
                AttnScale::Factor(factor) => ("attn_scale", Some(factor)),
            },
        ];
        for (key, value) in factors {
            if let Some(x) = value.filter(|x| !(x.is_finite() && *x > 0.0)) {
                return error(key, &x, "a positive number");
            }
        }
        self.validate_scaling(spec)?;
        let experts = self.experts.as_ref();
        let lists = [
            ("unrotated_layers", self.unrotated_layers.as_slice()),
            ("window.layers", self.window.as_ref().map_or(&[], |window| &window.layers)),
            ("experts.dense_layers", experts.map_or(&[], |experts| &experts.dense_layers)),
        ];
        for (key, list) in lists {
            let ascending = list.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || list.last().is_some_and(|&last| last >= spec.n_layers) {
                return error(key, &format!("{list:?}"), &format!("ascending layers below {}", spec.n_layers));
            }
        }
        if self.window.as_ref().is_some_and(|window| window.size == 0) {
            return error("sliding_window", &0, "at least 1");
        }
        let Some(Experts { n_experts, n_used, ffn_size, shared_ffn_size, .. }) = experts else { return Ok(()) };
        if !spec.arch.experts {
            return error("num_experts", n_experts, &format!("none in a {} model", spec.arch.id));
        }
        let n_all = u64::from(*n_experts) * u64::from(spec.n_layers);
        if *n_experts == 0 || n_all > MAX_EXPERTS {
            return error("num_experts", n_experts, &format!("at least 1, and at most {MAX_EXPERTS} in all layers"));
        }
        if *n_used == 0 || n_used > n_experts {
            return error("num_experts_per_tok", n_used, &format!("between 1 and {n_experts}"));
        }
        let most = crate::spec::MAX_COUNT;
        if *ffn_size == 0 || *ffn_size > most || *shared_ffn_size > most {
            return error("moe_intermediate_size", &ffn_size.max(shared_ffn_size), &format!("between 1 and {most}"));
        }
        Ok(())
    }

    fn validate_scaling(&self, spec: &ModelSpec) -> Result<(), SpecError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let good = match self.rope_scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { factor } => positive(factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: n,
            } => positive(factor) && positive(low) && positive(high) && low < high && n > 0,
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings: n,
                attention_factor,
                ..
            } => {
                [factor, beta_fast, beta_slow, attention_factor.unwrap_or(1.0)].into_iter().all(positive)
                    && n > 0
                    && spec.rope_theta > 1.0
            }
            RopeScaling::Dynamic { factor } => factor.is_finite() && factor >= 1.0 && spec.rotary_dim() > 2,
        };
        if good {
            return Ok(());
        }
        let found = serde_json::to_string(&self.rope_scaling).expect("numbers print");
        Err(SpecError { key: "rope_scaling", found, expected: "positive numbers that scale its frequencies".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture_by_id;

    fn spec(arch: &str, variation: Variation) -> ModelSpec {
        ModelSpec { variation, ..ModelSpec::for_tests(architecture_by_id(arch).unwrap()) }
    }

    #[test]
    fn what_is_plain_is_not_written_and_what_is_not_comes_back() {
        assert_eq!(serde_json::to_string(&Variation::default()).unwrap(), "{}");
        assert!(Variation::default().facts().is_empty());
        let variation = Variation {
            rotary_dim: Some(4),
            rope_scaling: RopeScaling::Linear { factor: 4.0 },
            window: Some(Window { size: 8, layers: vec![0, 1] }),
            attn_scale: AttnScale::InverseRoot(24.0),
            parallel_residual: true,
            ..Variation::default()
        };
        let text = serde_json::to_string(&variation).unwrap();
        assert_eq!(serde_json::from_str::<Variation>(&text).unwrap(), variation, "{text}");
        assert_eq!(variation.facts().len(), 5);
        assert!(serde_json::from_str::<Variation>(r#"{"sinks": 1}"#).is_err(), "an unknown field is no default");
    }

    #[test]
    fn relations_are_checked() {
        let check = |variation: Variation, expected: Option<&str>| {
            let found = spec("qwen3moe", variation.clone()).validate().err().map(|e| e.key);
            assert_eq!(found, expected, "{variation:?}");
        };
        let plain = Variation::default;
        check(plain(), None);
        check(Variation { rotary_dim: Some(3), ..plain() }, Some("rotary_dim"));
        check(Variation { rotary_dim: Some(18), ..plain() }, Some("rotary_dim"));
        check(Variation { attn_softcap: Some(0.0), ..plain() }, Some("attn_softcap"));
        check(Variation { attn_scale: AttnScale::Factor(f32::NAN), ..plain() }, Some("attn_scale"));
        check(Variation { unrotated_layers: vec![1, 0], ..plain() }, Some("unrotated_layers"));
        check(Variation { window: Some(Window { size: 4, layers: vec![2] }), ..plain() }, Some("window.layers"));
        check(Variation { window: Some(Window { size: 0, layers: vec![] }), ..plain() }, Some("sliding_window"));
        check(Variation { rope_scaling: RopeScaling::Linear { factor: 0.0 }, ..plain() }, Some("rope_scaling"));
        let experts = Experts {
            n_experts: 4,
            n_used: 2,
            ffn_size: 8,
            shared_ffn_size: 0,
            normalise: true,
            dense_layers: Vec::new(),
        };
        let with = |experts: Experts| Variation { experts: Some(experts), ..plain() };
        check(with(experts.clone()), None);
        check(with(Experts { n_used: 5, ..experts.clone() }), Some("num_experts_per_tok"));
        check(with(Experts { n_experts: u32::MAX, ..experts.clone() }), Some("num_experts"));
        check(with(Experts { ffn_size: 0, ..experts.clone() }), Some("moe_intermediate_size"));
        assert_eq!(spec("llama", with(experts)).validate().unwrap_err().key, "num_experts");
    }

    #[test]
    fn scaling_may_lengthen_the_context() {
        let longest =
            |rope_scaling| spec("llama", Variation { rope_scaling, ..Variation::default() }).longest_context();
        assert_eq!(longest(RopeScaling::None), 2048);
        assert_eq!(longest(RopeScaling::Linear { factor: 4.0 }), 2048);
        assert_eq!(longest(RopeScaling::Dynamic { factor: 4.0 }), 8192);
    }
}
