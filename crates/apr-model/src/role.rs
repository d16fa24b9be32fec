//! Tensor roles and their spellings: one bijective table per architecture between Transformers and GGUF names.

use crate::{Architecture, MlpKind, ModelSpec, NormKind, NormPlacement, Positions, Presence, QkNorm};
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
    /// Query, key and value projections as the rows of one matrix.
    AttnQkv,
    /// Attention output projection.
    AttnOut,
    /// Norm of queries.
    AttnQNorm,
    /// Norm of keys.
    AttnKNorm,
    /// Norm after attention.
    AttnPostNorm,
    /// Norm before the feed-forward block.
    MlpNorm,
    /// Gate projection.
    MlpGate,
    /// Up projection.
    MlpUp,
    /// Gate and up projections as the rows of one matrix.
    MlpGateUp,
    /// Down projection.
    MlpDown,
    /// Norm after the feed-forward block.
    MlpPostNorm,
    /// The matrix that scores experts.
    Router,
    /// Gate projection of an expert.
    ExpertGate(u32),
    /// Up projection of an expert.
    ExpertUp(u32),
    /// Down projection of an expert.
    ExpertDown(u32),
    /// The matrix that scores the shared expert.
    SharedRouter,
    /// Gate projection of the shared expert.
    SharedGate,
    /// Up projection of the shared expert.
    SharedUp,
    /// Down projection of the shared expert.
    SharedDown,
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
    /// Position embedding, `[context, hidden]`, where positions are learned.
    PositionEmbed,
    /// What rotary frequencies are divided by, `[rotary_dim / 2]`, where a GGUF file has values that no scaling of a
    /// Transformers config gives.
    RopeFactors,
    /// A tensor of layer `0..n_layers`.
    Layer(u32, LayerRole, Part),
    /// Gain of the final norm, `[hidden]`.
    OutputNorm,
    /// Bias of the final norm, `[hidden]`.
    OutputNormBias,
    /// Language-model head, `[vocab, hidden]`; absent where it is tied to the embedding.
    OutputHead,
}

/// Transformers and GGUF spelling of a layer tensor, without prefix and part.
#[derive(Debug, PartialEq, Eq)]
pub struct NameRow {
    /// The tensor.
    pub role: LayerRole,
    /// Its name in Transformers.
    pub hf: &'static str,
    /// Its name in GGUF.
    pub gguf: &'static str,
}

/// The names that most architectures share. Source: Transformers' modelling files and gguf-py's tensor mapping.
const LAYER_NAMES: &[NameRow] = &[
    NameRow { role: LayerRole::AttnNorm, hf: "input_layernorm", gguf: "attn_norm" },
    NameRow { role: LayerRole::AttnQ, hf: "self_attn.q_proj", gguf: "attn_q" },
    NameRow { role: LayerRole::AttnK, hf: "self_attn.k_proj", gguf: "attn_k" },
    NameRow { role: LayerRole::AttnV, hf: "self_attn.v_proj", gguf: "attn_v" },
    NameRow { role: LayerRole::AttnQkv, hf: "self_attn.qkv_proj", gguf: "attn_qkv" },
    NameRow { role: LayerRole::AttnOut, hf: "self_attn.o_proj", gguf: "attn_output" },
    NameRow { role: LayerRole::AttnQNorm, hf: "self_attn.q_norm", gguf: "attn_q_norm" },
    NameRow { role: LayerRole::AttnKNorm, hf: "self_attn.k_norm", gguf: "attn_k_norm" },
    NameRow { role: LayerRole::MlpNorm, hf: "post_attention_layernorm", gguf: "ffn_norm" },
    NameRow { role: LayerRole::MlpGate, hf: "mlp.gate_proj", gguf: "ffn_gate" },
    NameRow { role: LayerRole::MlpUp, hf: "mlp.up_proj", gguf: "ffn_up" },
    NameRow { role: LayerRole::MlpGateUp, hf: "mlp.gate_up_proj", gguf: "ffn_up" },
    NameRow { role: LayerRole::MlpDown, hf: "mlp.down_proj", gguf: "ffn_down" },
    NameRow { role: LayerRole::Router, hf: "mlp.gate", gguf: "ffn_gate_inp" },
    NameRow { role: LayerRole::SharedRouter, hf: "mlp.shared_expert_gate", gguf: "ffn_gate_inp_shexp" },
    NameRow { role: LayerRole::SharedGate, hf: "mlp.shared_expert.gate_proj", gguf: "ffn_gate_shexp" },
    NameRow { role: LayerRole::SharedUp, hf: "mlp.shared_expert.up_proj", gguf: "ffn_up_shexp" },
    NameRow { role: LayerRole::SharedDown, hf: "mlp.shared_expert.down_proj", gguf: "ffn_down_shexp" },
];

/// What an expert's tensor is called in Transformers after its number, what GGUF calls the stack of all experts' of a
/// layer, and what makes the role.
type ExpertRow = (&'static str, &'static str, fn(u32) -> LayerRole);

const EXPERT_PREFIX: &str = "mlp.experts.";
const EXPERT_NAMES: &[ExpertRow] = &[
    ("gate_proj", "ffn_gate_exps", LayerRole::ExpertGate),
    ("up_proj", "ffn_up_exps", LayerRole::ExpertUp),
    ("down_proj", "ffn_down_exps", LayerRole::ExpertDown),
];

/// Names outside the layers: Transformers' after the architecture's prefix, and GGUF's.
const GLOBAL_NAMES: &[(TensorRole, &str, &str)] = &[
    (TensorRole::TokenEmbed, "embed_tokens.weight", "token_embd.weight"),
    (TensorRole::OutputNorm, "norm.weight", "output_norm.weight"),
    (TensorRole::OutputNormBias, "norm.bias", "output_norm.bias"),
];
const LEARNED_POSITION_NAMES: &[(TensorRole, &str, &str)] = &[
    (TensorRole::TokenEmbed, "wte.weight", "token_embd.weight"),
    (TensorRole::PositionEmbed, "wpe.weight", "position_embd.weight"),
    (TensorRole::OutputNorm, "ln_f.weight", "output_norm.weight"),
    (TensorRole::OutputNormBias, "ln_f.bias", "output_norm.bias"),
];
const HEAD_NAMES: (&str, &str) = ("lm_head.weight", "output.weight");
/// Transformers has no such tensor.
const ROPE_FACTORS_NAME: &str = "rope_freqs.weight";

impl LayerRole {
    /// The expert of a tensor, and its row.
    fn expert_row(self) -> Option<(u32, &'static ExpertRow)> {
        let (expert, place) = match self {
            LayerRole::ExpertGate(expert) => (expert, 0),
            LayerRole::ExpertUp(expert) => (expert, 1),
            LayerRole::ExpertDown(expert) => (expert, 2),
            _ => return None,
        };
        Some((expert, &EXPERT_NAMES[place]))
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Weight => "weight",
            Part::Bias => "bias",
        }
    }
}

impl Architecture {
    fn global_names(&self) -> &'static [(TensorRole, &'static str, &'static str)] {
        match self.positions {
            Positions::Rotary => GLOBAL_NAMES,
            Positions::Learned => LEARNED_POSITION_NAMES,
        }
    }

    /// The names of layer tensors that its models can have: its own, then the common ones of other roles.
    fn layer_names(&self) -> impl Iterator<Item = &'static NameRow> {
        let own = self.names;
        let common = LAYER_NAMES.iter().filter(move |row| !own.iter().any(|mine| mine.role == row.role));
        own.iter().chain(common).filter(|row| self.layer_presence(row.role, Part::Weight) != Presence::Absent)
    }

    /// Whether layers have a tensor, experts and plain feed-forward blocks both counted as possible.
    fn layer_presence(&self, role: LayerRole, part: Part) -> Presence {
        let required_if = |holds: bool| if holds { Presence::Required } else { Presence::Absent };
        let weight = match role {
            LayerRole::AttnNorm | LayerRole::MlpNorm => required_if(self.placement != NormPlacement::After),
            LayerRole::AttnPostNorm | LayerRole::MlpPostNorm => required_if(self.placement != NormPlacement::Before),
            LayerRole::AttnQNorm | LayerRole::AttnKNorm => required_if(self.qk_norm != QkNorm::Absent),
            LayerRole::AttnQ | LayerRole::AttnK | LayerRole::AttnV => required_if(!self.fused_qkv),
            LayerRole::AttnQkv => required_if(self.fused_qkv),
            LayerRole::AttnOut | LayerRole::MlpDown => Presence::Required,
            LayerRole::MlpGate => required_if(self.mlp == MlpKind::Gated),
            LayerRole::MlpUp => required_if(self.mlp != MlpKind::GatedFused),
            LayerRole::MlpGateUp => required_if(self.mlp == MlpKind::GatedFused),
            LayerRole::Router
            | LayerRole::ExpertGate(_)
            | LayerRole::ExpertUp(_)
            | LayerRole::ExpertDown(_)
            | LayerRole::SharedRouter
            | LayerRole::SharedGate
            | LayerRole::SharedUp
            | LayerRole::SharedDown => required_if(self.experts),
        };
        if part == Part::Weight || weight == Presence::Absent {
            return weight;
        }
        match role {
            LayerRole::AttnNorm | LayerRole::MlpNorm | LayerRole::AttnPostNorm | LayerRole::MlpPostNorm => {
                if self.norm == NormKind::Layer { Presence::Optional } else { Presence::Absent }
            }
            LayerRole::AttnQ | LayerRole::AttnK | LayerRole::AttnV | LayerRole::AttnQkv => self.qkv_bias,
            LayerRole::AttnOut => self.out_bias,
            LayerRole::MlpGate | LayerRole::MlpUp | LayerRole::MlpGateUp | LayerRole::MlpDown => self.mlp_bias,
            _ => Presence::Absent,
        }
    }
}

/// The number that `text` begins with, before a dot, and what follows. `01` and `+1` parse as numbers but would not be
/// written back the same.
fn index_and_rest(text: &str) -> Option<(u32, &str)> {
    let (index, rest) = text.split_once('.')?;
    let canonical = index.bytes().all(|b| b.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
    Some((canonical.then(|| index.parse().ok()).flatten()?, rest))
}

fn stem_and_part(text: &str) -> Option<(&str, Part)> {
    let (stem, part) = text.rsplit_once('.')?;
    Some((stem, [Part::Weight, Part::Bias].into_iter().find(|p| p.name() == part)?))
}

impl TensorRole {
    /// The role of a tensor with this Transformers name.
    pub fn from_hf_name(name: &str, arch: &Architecture) -> Option<Self> {
        if name == HEAD_NAMES.0 {
            return Some(TensorRole::OutputHead);
        }
        if name == ROPE_FACTORS_NAME {
            return arch.gguf.rope_factors.then_some(TensorRole::RopeFactors);
        }
        let global = name
            .strip_prefix(arch.hf_prefix)
            .and_then(|name| arch.global_names().iter().find(|row| row.1 == name).map(|row| row.0));
        global.or_else(|| {
            let (index, rest) = index_and_rest(name.strip_prefix(arch.hf_layer_prefix)?)?;
            let (stem, part) = stem_and_part(rest)?;
            let role = match stem.strip_prefix(EXPERT_PREFIX) {
                Some(rest) if arch.experts => {
                    let (expert, stem) = index_and_rest(rest)?;
                    EXPERT_NAMES.iter().find(|row| row.0 == stem)?.2(expert)
                }
                _ => arch.layer_names().find(|row| row.hf == stem)?.role,
            };
            Some(TensorRole::Layer(index, role, part))
        })
    }

    /// The role of a tensor with this GGUF name; for a stack of experts, that of its first.
    pub fn from_gguf_name(name: &str, arch: &Architecture) -> Option<Self> {
        if name == HEAD_NAMES.1 {
            return Some(TensorRole::OutputHead);
        }
        if name == ROPE_FACTORS_NAME {
            return arch.gguf.rope_factors.then_some(TensorRole::RopeFactors);
        }
        let global = arch.global_names().iter().find(|row| row.2 == name).map(|row| row.0);
        global.or_else(|| {
            let (index, rest) = index_and_rest(name.strip_prefix("blk.")?)?;
            let (stem, part) = stem_and_part(rest)?;
            let role = match EXPERT_NAMES.iter().find(|row| arch.experts && row.1 == stem) {
                Some(row) => row.2(0),
                None => arch.layer_names().find(|row| row.gguf == stem)?.role,
            };
            Some(TensorRole::Layer(index, role, part))
        })
    }

    /// Transformers name: the canonical name inside a checkpoint, and the name in SafeTensors and APR files.
    pub fn hf_name(self, arch: &Architecture) -> String {
        let stem = |role: LayerRole| match role.expert_row() {
            Some((expert, row)) => format!("{EXPERT_PREFIX}{expert}.{}", row.0),
            None => name_row(arch, role).hf.to_owned(),
        };
        match self {
            TensorRole::Layer(index, role, part) => {
                format!("{}{index}.{}.{}", arch.hf_layer_prefix, stem(role), part.name())
            }
            TensorRole::OutputHead => HEAD_NAMES.0.to_owned(),
            TensorRole::RopeFactors => ROPE_FACTORS_NAME.to_owned(),
            _ => format!("{}{}", arch.hf_prefix, self.global_row(arch).1),
        }
    }

    /// GGUF name; for one expert's tensor that of the stack that it stands in.
    pub fn gguf_name(self, arch: &Architecture) -> String {
        let stem = |role: LayerRole| role.expert_row().map_or_else(|| name_row(arch, role).gguf, |(_, row)| row.1);
        match self {
            TensorRole::Layer(index, role, part) => format!("blk.{index}.{}.{}", stem(role), part.name()),
            TensorRole::OutputHead => HEAD_NAMES.1.to_owned(),
            TensorRole::RopeFactors => ROPE_FACTORS_NAME.to_owned(),
            _ => self.global_row(arch).2.to_owned(),
        }
    }

    fn global_row(self, arch: &Architecture) -> &'static (TensorRole, &'static str, &'static str) {
        let mut rows = arch.global_names().iter().chain(LEARNED_POSITION_NAMES);
        rows.find(|row| row.0 == self).expect("every role outside the layers has a row; tested")
    }

    /// The expert this tensor belongs to.
    pub fn expert(self) -> Option<u32> {
        match self {
            TensorRole::Layer(_, role, _) => role.expert_row().map(|(expert, _)| expert),
            _ => None,
        }
    }

    /// The same tensor of another expert; itself where it is none of an expert.
    pub fn of_expert(self, expert: u32) -> Self {
        match self {
            TensorRole::Layer(index, role, part) => {
                let role = role.expert_row().map_or(role, |(_, row)| row.2(expert));
                TensorRole::Layer(index, role, part)
            }
            other => other,
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
        let experts = spec.variation.experts.as_ref();
        let [n_experts, expert, shared] = match experts {
            Some(experts) => [experts.n_experts, experts.ffn_size, experts.shared_ffn_size].map(u64::from),
            None => [0; 3],
        };
        let (_, role, part) = match self {
            TensorRole::TokenEmbed | TensorRole::OutputHead => return vec![u64::from(spec.vocab_size), hidden],
            TensorRole::PositionEmbed => return vec![u64::from(spec.context_length), hidden],
            TensorRole::OutputNorm | TensorRole::OutputNormBias => return vec![hidden],
            TensorRole::RopeFactors => return vec![u64::from(spec.rotary_dim() / 2)],
            TensorRole::Layer(index, role, part) => (index, role, part),
        };
        let (rows, columns) = match role {
            LayerRole::AttnNorm | LayerRole::MlpNorm | LayerRole::AttnPostNorm | LayerRole::MlpPostNorm => {
                return vec![hidden];
            }
            LayerRole::AttnQNorm | LayerRole::AttnKNorm if spec.arch.qk_norm == QkNorm::PerHead => {
                return vec![u64::from(spec.head_dim)];
            }
            LayerRole::AttnQNorm => return vec![q],
            LayerRole::AttnKNorm => return vec![kv],
            LayerRole::AttnQ => (q, hidden),
            LayerRole::AttnK | LayerRole::AttnV => (kv, hidden),
            LayerRole::AttnQkv => (q + 2 * kv, hidden),
            LayerRole::AttnOut => (hidden, q),
            LayerRole::MlpGate | LayerRole::MlpUp => (ffn, hidden),
            LayerRole::MlpGateUp => (2 * ffn, hidden),
            LayerRole::MlpDown => (hidden, ffn),
            LayerRole::Router => (n_experts, hidden),
            LayerRole::ExpertGate(_) | LayerRole::ExpertUp(_) => (expert, hidden),
            LayerRole::ExpertDown(_) => (hidden, expert),
            LayerRole::SharedRouter => (1, hidden),
            LayerRole::SharedGate | LayerRole::SharedUp => (shared, hidden),
            LayerRole::SharedDown => (hidden, shared),
        };
        match part {
            Part::Bias => vec![rows],
            Part::Weight if spec.arch.transposed => vec![columns, rows],
            Part::Weight => vec![rows, columns],
        }
    }

    /// Every tensor a model of this spec has or may have, in forward order, with its presence.
    pub fn all(spec: &ModelSpec) -> Vec<(TensorRole, Presence)> {
        let arch = spec.arch;
        let mut roles = vec![(TensorRole::TokenEmbed, Presence::Required)];
        if arch.positions == Positions::Learned {
            roles.push((TensorRole::PositionEmbed, Presence::Required));
        }
        if arch.gguf.rope_factors {
            roles.push((TensorRole::RopeFactors, Presence::Optional));
        }
        for index in 0..spec.n_layers {
            let mut push = |role| {
                for part in [Part::Weight, Part::Bias] {
                    let presence = arch.layer_presence(role, part);
                    // The one norm of a parallel layer is that before attention.
                    let absent = spec.variation.parallel_residual && role == LayerRole::MlpNorm;
                    if presence != Presence::Absent && !absent {
                        roles.push((TensorRole::Layer(index, role, part), presence));
                    }
                }
            };
            FORWARD_ORDER.iter().for_each(|&role| push(role));
            let Some(experts) = spec.experts(index) else {
                use LayerRole::{MlpDown, MlpGate, MlpGateUp, MlpPostNorm, MlpUp};
                [MlpGate, MlpUp, MlpGateUp, MlpDown, MlpPostNorm].into_iter().for_each(&mut push);
                continue;
            };
            push(LayerRole::Router);
            for expert in 0..experts.n_experts {
                EXPERT_NAMES.iter().for_each(|row| push(row.2(expert)));
            }
            if experts.shared_ffn_size > 0 {
                use LayerRole::{SharedDown, SharedGate, SharedRouter, SharedUp};
                [SharedRouter, SharedGate, SharedUp, SharedDown].into_iter().for_each(&mut push);
            }
            push(LayerRole::MlpPostNorm);
        }
        roles.push((TensorRole::OutputNorm, Presence::Required));
        if arch.norm == NormKind::Layer {
            roles.push((TensorRole::OutputNormBias, Presence::Optional));
        }
        roles.push((TensorRole::OutputHead, Presence::Optional));
        roles
    }

    /// Whether it is the gain of a norm.
    pub fn is_gain(self) -> bool {
        use LayerRole::{AttnKNorm, AttnNorm, AttnPostNorm, AttnQNorm, MlpNorm, MlpPostNorm};
        match self {
            TensorRole::OutputNorm => true,
            TensorRole::Layer(_, role, Part::Weight) => {
                matches!(role, AttnNorm | MlpNorm | AttnQNorm | AttnKNorm | AttnPostNorm | MlpPostNorm)
            }
            _ => false,
        }
    }

    /// Whether llama.cpp keeps this tensor in F32 in every file (norms and biases: all one-dimensional ones).
    pub fn gguf_wants_f32(self) -> bool {
        match self {
            _ if self.is_gain() => true,
            TensorRole::OutputNormBias | TensorRole::PositionEmbed | TensorRole::RopeFactors => true,
            TensorRole::Layer(_, role, part) => {
                part == Part::Bias || matches!(role, LayerRole::Router | LayerRole::SharedRouter)
            }
            _ => false,
        }
    }
}

/// Tensors of a layer up to its feed-forward block.
const FORWARD_ORDER: &[LayerRole] = &[
    LayerRole::AttnNorm,
    LayerRole::AttnQ,
    LayerRole::AttnK,
    LayerRole::AttnV,
    LayerRole::AttnQkv,
    LayerRole::AttnOut,
    LayerRole::AttnQNorm,
    LayerRole::AttnKNorm,
    LayerRole::AttnPostNorm,
    LayerRole::MlpNorm,
];

/// The row of a role; one that an architecture doesn't have keeps its common name, for messages.
fn name_row(arch: &Architecture, role: LayerRole) -> &'static NameRow {
    const OF_NORMS: &[NameRow] = &[
        NameRow { role: LayerRole::AttnPostNorm, hf: "post_attention_norm", gguf: "post_attention_norm" },
        NameRow { role: LayerRole::MlpPostNorm, hf: "post_feedforward_layernorm", gguf: "post_ffw_norm" },
    ];
    let mut rows = arch.names.iter().chain(LAYER_NAMES).chain(OF_NORMS);
    rows.find(|row| row.role == role).expect("every role of a layer has a row; tested")
}

impl fmt::Display for TensorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ARCHITECTURES, Experts, Variation};

    /// A spec with everything that its architecture may have.
    fn full(arch: &'static Architecture) -> ModelSpec {
        let experts = arch.experts.then(|| Experts {
            n_experts: 3,
            n_used: 2,
            ffn_size: 8,
            shared_ffn_size: 8,
            normalise: false,
            dense_layers: vec![1],
        });
        ModelSpec { variation: Variation { experts, ..Variation::default() }, ..ModelSpec::for_tests(arch) }
    }

    #[test]
    fn names_are_a_bijection_for_every_architecture() {
        for arch in ARCHITECTURES {
            let spec = full(arch);
            assert_eq!(spec.validate(), Ok(()));
            let roles = TensorRole::all(&spec);
            let mut names = std::collections::HashSet::new();
            for (role, _) in &roles {
                let name = role.hf_name(arch);
                assert_eq!(TensorRole::from_hf_name(&name, arch), Some(*role), "{} {name}", arch.id);
                assert!(names.insert(name.clone()), "{} {name} twice", arch.id);
                assert!(!role.expected_shape(&spec).contains(&0), "{} {name}", arch.id);
                let stack = role.of_expert(0);
                assert_eq!(TensorRole::from_gguf_name(&role.gguf_name(arch), arch), Some(stack), "{name}");
                assert_eq!(role.expert().map_or(*role, |expert| stack.of_expert(expert)), *role);
            }
        }
    }

    #[test]
    fn names_that_would_not_come_back_are_not_roles() {
        let llama = crate::architecture_by_id("llama").unwrap();
        for name in
            ["blk.01.attn_q.weight", "blk.+1.attn_q.weight", "blk..attn_q.weight", "blk.1.attn_q", "blk.1.x.weight"]
        {
            assert_eq!(TensorRole::from_gguf_name(name, llama), None, "{name}");
        }
        for name in ["model.layers.0.mlp.experts.0.up_proj.weight", "model.layers.0.self_attn.qkv_proj.weight"] {
            assert_eq!(TensorRole::from_hf_name(name, llama), None, "{name}: no tensor of a llama model");
        }
    }

    /// Names as Transformers saves them; `fixtures/families` holds whole models.
    #[test]
    fn roles_go_by_the_architecture() {
        let check = |arch: &str, name: &str, role: LayerRole| {
            let found = TensorRole::from_hf_name(name, crate::architecture_by_id(arch).unwrap());
            assert_eq!(found, Some(TensorRole::Layer(0, role, Part::Weight)), "{arch} {name}");
        };
        check("llama", "model.layers.0.post_attention_layernorm.weight", LayerRole::MlpNorm);
        check("gemma2", "model.layers.0.post_attention_layernorm.weight", LayerRole::AttnPostNorm);
        check("gemma2", "model.layers.0.pre_feedforward_layernorm.weight", LayerRole::MlpNorm);
        check("olmo2", "model.layers.0.post_feedforward_layernorm.weight", LayerRole::MlpPostNorm);
        check("gpt2", "transformer.h.0.attn.c_attn.weight", LayerRole::AttnQkv);
        check("phi3", "model.layers.0.mlp.gate_up_proj.weight", LayerRole::MlpGateUp);
        check("qwen3moe", "model.layers.0.mlp.experts.12.down_proj.weight", LayerRole::ExpertDown(12));
    }
}
