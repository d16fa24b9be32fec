//! Tensor roles and their spellings: one bijective table between Transformers and GGUF names.

use crate::{Architecture, ModelSpec, Presence};
use std::fmt;

/// Which tensor of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerRole {
    /// Norm before attention.
    AttnNorm,
    /// Query projection.
    AttnQ,
    /// Key projection.
    AttnK,
    /// Value projection.
    AttnV,
    /// Attention output projection.
    AttnOut,
    /// Per-head norm of queries.
    AttnQNorm,
    /// Per-head norm of keys.
    AttnKNorm,
    /// Norm before the feed-forward block.
    MlpNorm,
    /// Gate projection.
    MlpGate,
    /// Up projection.
    MlpUp,
    /// Down projection.
    MlpDown,
}

/// Weight or bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The matrix or gain.
    Weight,
    /// The added vector.
    Bias,
}

/// What a tensor is for, whatever a file calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// Token embedding, `[vocab, hidden]`.
    TokenEmbed,
    /// A tensor of layer `0..n_layers`.
    Layer(u32, LayerRole, Part),
    /// Final norm, `[hidden]`.
    OutputNorm,
    /// Language-model head, `[vocab, hidden]`; absent where it is tied to the embedding.
    OutputHead,
}

struct LayerRow {
    role: LayerRole,
    hf: &'static str,
    gguf: &'static str,
}

/// Transformers and GGUF spelling of each layer tensor, without prefix and part.
/// Source: Transformers' modelling files and gguf-py's tensor mapping.
const LAYER_NAMES: &[LayerRow] = &[
    LayerRow { role: LayerRole::AttnNorm, hf: "input_layernorm", gguf: "attn_norm" },
    LayerRow { role: LayerRole::AttnQ, hf: "self_attn.q_proj", gguf: "attn_q" },
    LayerRow { role: LayerRole::AttnK, hf: "self_attn.k_proj", gguf: "attn_k" },
    LayerRow { role: LayerRole::AttnV, hf: "self_attn.v_proj", gguf: "attn_v" },
    LayerRow { role: LayerRole::AttnOut, hf: "self_attn.o_proj", gguf: "attn_output" },
    LayerRow { role: LayerRole::AttnQNorm, hf: "self_attn.q_norm", gguf: "attn_q_norm" },
    LayerRow { role: LayerRole::AttnKNorm, hf: "self_attn.k_norm", gguf: "attn_k_norm" },
    LayerRow { role: LayerRole::MlpNorm, hf: "post_attention_layernorm", gguf: "ffn_norm" },
    LayerRow { role: LayerRole::MlpGate, hf: "mlp.gate_proj", gguf: "ffn_gate" },
    LayerRow { role: LayerRole::MlpUp, hf: "mlp.up_proj", gguf: "ffn_up" },
    LayerRow { role: LayerRole::MlpDown, hf: "mlp.down_proj", gguf: "ffn_down" },
];

const GLOBAL_NAMES: &[(TensorRole, &str, &str)] = &[
    (TensorRole::TokenEmbed, "model.embed_tokens.weight", "token_embd.weight"),
    (TensorRole::OutputNorm, "model.norm.weight", "output_norm.weight"),
    (TensorRole::OutputHead, "lm_head.weight", "output.weight"),
];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Weight => "weight",
            Part::Bias => "bias",
        }
    }
}

impl TensorRole {
    fn parse(name: &str, prefix: &str, layer: impl Fn(&LayerRow) -> &'static str) -> Option<Self> {
        let (index, rest) = name.strip_prefix(prefix)?.split_once('.')?;
        // `01` and `+1` parse as numbers but would not be written back the same.
        let canonical = index.bytes().all(|b| b.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
        let index = canonical.then(|| index.parse().ok()).flatten()?;
        let (stem, part) = rest.rsplit_once('.')?;
        let part = [Part::Weight, Part::Bias].into_iter().find(|p| p.name() == part)?;
        let row = LAYER_NAMES.iter().find(|row| layer(row) == stem)?;
        Some(TensorRole::Layer(index, row.role, part))
    }

    /// The role of a tensor with this Transformers name.
    pub fn from_hf_name(name: &str) -> Option<Self> {
        let global = GLOBAL_NAMES.iter().find(|row| row.1 == name).map(|row| row.0);
        global.or_else(|| Self::parse(name, "model.layers.", |row| row.hf))
    }

    /// The role of a tensor with this GGUF name.
    pub fn from_gguf_name(name: &str) -> Option<Self> {
        let global = GLOBAL_NAMES.iter().find(|row| row.2 == name).map(|row| row.0);
        global.or_else(|| Self::parse(name, "blk.", |row| row.gguf))
    }

    /// Transformers name: the canonical name inside a checkpoint, and the name in SafeTensors and APR files.
    pub fn hf_name(self) -> String {
        self.spell("model.layers.", |row| row.hf, |row| row.1)
    }

    /// GGUF name.
    pub fn gguf_name(self) -> String {
        self.spell("blk.", |row| row.gguf, |row| row.2)
    }

    fn spell(
        self,
        prefix: &str,
        layer: impl Fn(&LayerRow) -> &'static str,
        global: impl Fn(&(TensorRole, &'static str, &'static str)) -> &'static str,
    ) -> String {
        match self {
            TensorRole::Layer(index, role, part) => {
                let row = LAYER_NAMES.iter().find(|row| row.role == role).expect("every layer role has a row; tested");
                format!("{prefix}{index}.{}.{}", layer(row), part.name())
            }
            other => {
                let row = GLOBAL_NAMES.iter().find(|row| row.0 == other).expect("every global role has a row; tested");
                global(row).to_owned()
            }
        }
    }

    /// The layer this tensor belongs to.
    pub fn layer(self) -> Option<u32> {
        match self {
            TensorRole::Layer(index, ..) => Some(index),
            _ => None,
        }
    }

    /// Row-major shape that `spec` demands for this role.
    pub fn expected_shape(self, spec: &ModelSpec) -> Vec<u64> {
        let hidden = u64::from(spec.hidden_size);
        let q = u64::from(spec.n_heads) * u64::from(spec.head_dim);
        let kv = u64::from(spec.n_kv_heads) * u64::from(spec.head_dim);
        let ffn = u64::from(spec.ffn_size);
        match self {
            TensorRole::TokenEmbed | TensorRole::OutputHead => vec![u64::from(spec.vocab_size), hidden],
            TensorRole::OutputNorm => vec![hidden],
            TensorRole::Layer(_, role, part) => {
                let (rows, columns) = match role {
                    LayerRole::AttnNorm | LayerRole::MlpNorm => return vec![hidden],
                    LayerRole::AttnQNorm | LayerRole::AttnKNorm => return vec![u64::from(spec.head_dim)],
                    LayerRole::AttnQ => (q, hidden),
                    LayerRole::AttnK | LayerRole::AttnV => (kv, hidden),
                    LayerRole::AttnOut => (hidden, q),
                    LayerRole::MlpGate | LayerRole::MlpUp => (ffn, hidden),
                    LayerRole::MlpDown => (hidden, ffn),
                };
                match part {
                    Part::Weight => vec![rows, columns],
                    Part::Bias => vec![rows],
                }
            }
        }
    }

    /// Every tensor a model of this spec has or may have, in forward order, with its presence.
    pub fn all(spec: &ModelSpec) -> Vec<(TensorRole, Presence)> {
        let arch: &Architecture = spec.arch;
        let mut roles = vec![(TensorRole::TokenEmbed, Presence::Required)];
        for index in 0..spec.n_layers {
            for row in LAYER_NAMES {
                let weight = match row.role {
                    LayerRole::AttnQNorm | LayerRole::AttnKNorm => arch.qk_norm,
                    _ => Presence::Required,
                };
                let bias = match row.role {
                    LayerRole::AttnQ | LayerRole::AttnK | LayerRole::AttnV => arch.qkv_bias,
                    _ => Presence::Absent,
                };
                for (part, presence) in [(Part::Weight, weight), (Part::Bias, bias)] {
                    if presence != Presence::Absent {
                        roles.push((TensorRole::Layer(index, row.role, part), presence));
                    }
                }
            }
        }
        roles.push((TensorRole::OutputNorm, Presence::Required));
        roles.push((TensorRole::OutputHead, Presence::Optional));
        roles
    }

    /// Whether llama.cpp keeps this tensor in F32 in every file (norms and biases: all one-dimensional ones).
    pub fn gguf_wants_f32(self) -> bool {
        match self {
            TensorRole::OutputNorm => true,
            TensorRole::TokenEmbed | TensorRole::OutputHead => false,
            TensorRole::Layer(_, role, part) => {
                part == Part::Bias
                    || matches!(
                        role,
                        LayerRole::AttnNorm | LayerRole::MlpNorm | LayerRole::AttnQNorm | LayerRole::AttnKNorm
                    )
            }
        }
    }
}

impl fmt::Display for TensorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hf_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ARCHITECTURES;

    #[test]
    fn names_are_a_bijection_for_every_architecture() {
        for arch in ARCHITECTURES {
            let spec = ModelSpec::for_tests(arch);
            for (role, _) in TensorRole::all(&spec) {
                assert_eq!(TensorRole::from_hf_name(&role.hf_name()), Some(role));
                assert_eq!(TensorRole::from_gguf_name(&role.gguf_name()), Some(role));
            }
        }
    }

    #[test]
    fn names_that_would_not_come_back_are_not_roles() {
        for name in
            ["blk.01.attn_q.weight", "blk.+1.attn_q.weight", "blk..attn_q.weight", "blk.1.attn_q", "blk.1.x.weight"]
        {
            assert_eq!(TensorRole::from_gguf_name(name), None, "{name}");
        }
    }
}
