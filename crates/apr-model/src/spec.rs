//! Hyper-parameters: what the engine and the converters need to know about a model, spelt once.

use crate::{Architecture, Variation};
use serde::Serialize;
use std::fmt;

/// Frozen hyper-parameters of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Row of the architecture table.
    pub arch: &'static Architecture,
    /// Name of the model, where the file has one. Not part of the model's identity.
    pub name: Option<String>,
    /// Number of decoder layers.
    pub n_layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: u32,
    /// Width of one head (even).
    pub head_dim: u32,
    /// Width of the feed-forward block.
    pub ffn_size: u32,
    /// Rows of the embedding; may exceed the number of tokens.
    pub vocab_size: u32,
    /// Longest context the model was made for, in tokens.
    pub context_length: u32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added under the square root of every norm.
    pub norm_eps: f32,
    /// What makes it more than a plain decoder.
    pub variation: Variation,
}

/// Why hyper-parameters can't describe a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found}, expected {expected}")]
pub struct SpecError {
    /// The field, named as in a Transformers config.
    pub key: &'static str,
    /// The value found.
    pub found: String,
    /// What it must be.
    pub expected: String,
}

/// Most layers, heads and the like that a spec may state: far above any model, far below what could exhaust memory.
pub(crate) const MAX_COUNT: u32 = 1 << 24;
/// Most layers: the structure of each one is listed when it is checked, whether the file has its tensors or not.
const MAX_LAYERS: u32 = 1 << 12;

impl ModelSpec {
    /// Checks the relations that the engine relies on.
    pub fn validate(&self) -> Result<(), SpecError> {
        let error = |key, found: &dyn fmt::Display, expected: &str| {
            Err(SpecError { key, found: found.to_string(), expected: expected.to_owned() })
        };
        for (key, value) in self.counts() {
            let most = if key == "num_hidden_layers" { MAX_LAYERS } else { MAX_COUNT };
            if value == 0 || value > most {
                return error(key, &value, &format!("between 1 and {most}"));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return error("num_key_value_heads", &self.n_kv_heads, &format!("a divisor of {} heads", self.n_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return error("head_dim", &self.head_dim, "an even number");
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return error("rope_theta", &self.rope_theta, "a positive number");
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return error("rms_norm_eps", &self.norm_eps, "a number that is not negative");
        }
        self.variation.validate(self)
    }

    /// The counts by their Transformers names.
    pub fn counts(&self) -> [(&'static str, u32); 8] {
        [
            ("num_hidden_layers", self.n_layers),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.ffn_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.context_length),
        ]
    }

    /// The fields that make two models compute differently, by Transformers names, as comparable text.
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![("model_type".to_owned(), self.arch.id.to_owned())];
        facts.extend(self.counts().map(|(key, value)| (key.to_owned(), value.to_string())));
        facts.push(("rope_theta".to_owned(), self.rope_theta.to_string()));
        facts.push(("rms_norm_eps".to_owned(), self.norm_eps.to_string()));
        facts.extend(self.variation.facts());
        facts
    }

    #[cfg(test)]
    pub(crate) fn for_tests(arch: &'static Architecture) -> Self {
        ModelSpec {
            arch,
            name: None,
            n_layers: 2,
            hidden_size: 64,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            ffn_size: 160,
            vocab_size: 512,
            context_length: 2048,
            rope_theta: 1e4,
            norm_eps: 1e-6,
            variation: Variation::default(),
        }
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("architecture", self.arch.id)?;
        for (key, value) in self.counts() {
            map.serialize_entry(key, &value)?;
        }
        map.serialize_entry("rope_theta", &self.rope_theta)?;
        map.serialize_entry("rms_norm_eps", &self.norm_eps)?;
        if !self.variation.is_plain() {
            map.serialize_entry("variation", &self.variation)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ARCHITECTURES;

    #[test]
    fn relations_are_checked() {
        let good = ModelSpec::for_tests(&ARCHITECTURES[0]);
        assert_eq!(good.validate(), Ok(()));
        let bad = |change: fn(&mut ModelSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            spec.validate().unwrap_err().key
        };
        assert_eq!(bad(|s| s.n_kv_heads = 3), "num_key_value_heads");
        assert_eq!(bad(|s| s.n_layers = 0), "num_hidden_layers");
        assert_eq!(bad(|s| s.hidden_size = u32::MAX), "hidden_size");
        assert_eq!(bad(|s| s.head_dim = 15), "head_dim");
        assert_eq!(bad(|s| s.rope_theta = f32::NAN), "rope_theta");
        assert_eq!(bad(|s| s.norm_eps = -1.0), "rms_norm_eps");
    }
}
