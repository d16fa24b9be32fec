//! Architectures as rows: each states how it differs from a plain decoder.
//!
//! A family of models is a row here. What differs between models of a family is a field of
//! [`Variation`](crate::Variation); what no field and no variant describes is refused by the readers, by name.

use crate::LayerRole;
use crate::role::NameRow;

/// Whether a tensor exists in models of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every layer has it; its absence is an error.
    Required,
    /// A model may have it.
    Optional,
    /// No layer has it.
    Absent,
}

/// What a norm computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMS norm, multiplied by the stored gain.
    Rms,
    /// RMS norm, multiplied by one plus the stored gain.
    RmsPlusOne,
    /// LayerNorm with a gain and, where the model has it, a bias.
    Layer,
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward block.
    Before,
    /// After each of them, before the residual addition.
    After,
    /// Both.
    Around,
}

/// Norms of queries and keys before the rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    Absent,
    /// Each head on its own, with one gain of `head_dim` values.
    PerHead,
    /// All heads of a token together, with a gain for each value.
    WholeRow,
}

/// The function in the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`
    Silu,
    /// GELU by its formula with `tanh`.
    GeluTanh,
}

/// The feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpKind {
    /// `down(f(gate(x)) * up(x))`
    Gated,
    /// The same, with gate and up as the halves of one matrix.
    GatedFused,
    /// `down(f(up(x)))`
    Plain,
}

/// How positions enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Queries and keys turn.
    Rotary,
    /// A row of a table is added to the token's embedding.
    Learned,
}

/// Which layers have a sliding window, where a config gives its size but does not list the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowRule {
    /// A window is no part of this architecture.
    Absent,
    /// All layers.
    All,
    /// Where `use_sliding_window` is set: those from `max_window_layers` on.
    FromLayer,
    /// All but every so-manieth layer.
    AllButEvery(u32),
}

/// How llama.cpp's converter writes models of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgufForm {
    /// `general.architecture` and the prefix of keys, where it is that of another row.
    pub architecture: Option<&'static str>,
    /// Whether q and k rows are permuted for interleaved rotary pairs; canonical rows are in the half-split order
    /// of Transformers.
    pub permutes_qk: bool,
    /// Whether key and value lengths are written where they are the usual ones.
    pub writes_head_dim: bool,
    /// Whether llama.cpp divides rotary frequencies by the values of a tensor [`TensorRole::RopeFactors`](crate::TensorRole::RopeFactors).
    pub rope_factors: bool,
}

/// One row of the architecture table.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// Name in APR files and reports.
    pub id: &'static str,
    /// Class name in a Transformers config's `architectures`.
    pub hf_class: &'static str,
    /// `model_type` in a Transformers config.
    pub hf_model_type: &'static str,
    /// Name shown to people.
    pub title: &'static str,
    /// What its norms compute.
    pub norm: NormKind,
    /// Where its norms stand.
    pub placement: NormPlacement,
    /// Biases on the q, k and v projections.
    pub qkv_bias: Presence,
    /// Bias on the attention output projection.
    pub out_bias: Presence,
    /// Biases in the feed-forward block.
    pub mlp_bias: Presence,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether q, k and v are the rows of one matrix, in this order.
    pub fused_qkv: bool,
    /// The feed-forward block.
    pub mlp: MlpKind,
    /// Its function.
    pub activation: Activation,
    /// Whether layers may have experts ([`Variation::experts`](crate::Variation::experts)).
    pub experts: bool,
    /// How positions enter.
    pub positions: Positions,
    /// Share of a head that turns, where a config does not say.
    pub partial_rotary: f32,
    /// Which layers have a window.
    pub window: WindowRule,
    /// Whether embeddings are multiplied by the root of the hidden size.
    pub root_embed_scale: bool,
    /// Whether matrices are stored as `[inputs, outputs]`, the transpose of every other architecture's.
    pub transposed: bool,
    /// What its Transformers names begin with: that of the layers, before their number.
    pub hf_layer_prefix: &'static str,
    /// What its Transformers names begin with outside the layers, but for the head.
    pub hf_prefix: &'static str,
    /// Names that differ from those of the common table.
    pub names: &'static [NameRow],
    /// Its form in GGUF.
    pub gguf: GgufForm,
}

const PLAIN: GgufForm =
    GgufForm { architecture: None, permutes_qk: false, writes_head_dim: false, rope_factors: false };
const WITH_HEAD_DIM: GgufForm = GgufForm { writes_head_dim: true, ..PLAIN };
const PERMUTED: GgufForm = GgufForm { permutes_qk: true, rope_factors: true, ..WITH_HEAD_DIM };

const DECODER: Architecture = Architecture {
    id: "",
    hf_class: "",
    hf_model_type: "",
    title: "",
    norm: NormKind::Rms,
    placement: NormPlacement::Before,
    qkv_bias: Presence::Absent,
    out_bias: Presence::Absent,
    mlp_bias: Presence::Absent,
    qk_norm: QkNorm::Absent,
    fused_qkv: false,
    mlp: MlpKind::Gated,
    activation: Activation::Silu,
    experts: false,
    positions: Positions::Rotary,
    partial_rotary: 1.0,
    window: WindowRule::Absent,
    root_embed_scale: false,
    transposed: false,
    hf_layer_prefix: "model.layers.",
    hf_prefix: "model.",
    names: &[],
    gguf: PLAIN,
};

const NAMES_OF_NORMS_AROUND: &[NameRow] = &[
    NameRow { role: LayerRole::AttnPostNorm, hf: "post_attention_layernorm", gguf: "post_attention_norm" },
    NameRow { role: LayerRole::MlpNorm, hf: "pre_feedforward_layernorm", gguf: "ffn_norm" },
    NameRow { role: LayerRole::MlpPostNorm, hf: "post_feedforward_layernorm", gguf: "post_ffw_norm" },
];

const GEMMA: Architecture = Architecture {
    norm: NormKind::RmsPlusOne,
    activation: Activation::GeluTanh,
    root_embed_scale: true,
    gguf: WITH_HEAD_DIM,
    ..DECODER
};

/// Every architecture this version reads, converts and runs. The order is that of first support.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        id: "qwen2",
        hf_class: "Qwen2ForCausalLM",
        hf_model_type: "qwen2",
        title: "Qwen2",
        qkv_bias: Presence::Required,
        window: WindowRule::FromLayer,
        ..DECODER
    },
    Architecture {
        id: "qwen3",
        hf_class: "Qwen3ForCausalLM",
        hf_model_type: "qwen3",
        title: "Qwen3",
        qk_norm: QkNorm::PerHead,
        window: WindowRule::FromLayer,
        gguf: WITH_HEAD_DIM,
        ..DECODER
    },
    Architecture {
        id: "llama",
        hf_class: "LlamaForCausalLM",
        hf_model_type: "llama",
        title: "Llama",
        qkv_bias: Presence::Optional,
        out_bias: Presence::Optional,
        mlp_bias: Presence::Optional,
        gguf: PERMUTED,
        ..DECODER
    },
    Architecture {
        id: "mistral",
        hf_class: "MistralForCausalLM",
        hf_model_type: "mistral",
        title: "Mistral",
        window: WindowRule::All,
        gguf: GgufForm { architecture: Some("llama"), ..PERMUTED },
        ..DECODER
    },
    Architecture {
        id: "qwen2moe",
        hf_class: "Qwen2MoeForCausalLM",
        hf_model_type: "qwen2_moe",
        title: "Qwen2-MoE",
        qkv_bias: Presence::Required,
        experts: true,
        window: WindowRule::FromLayer,
        ..DECODER
    },
    Architecture {
        id: "qwen3moe",
        hf_class: "Qwen3MoeForCausalLM",
        hf_model_type: "qwen3_moe",
        title: "Qwen3-MoE",
        qk_norm: QkNorm::PerHead,
        experts: true,
        gguf: WITH_HEAD_DIM,
        ..DECODER
    },
    Architecture { id: "gemma", hf_class: "GemmaForCausalLM", hf_model_type: "gemma", title: "Gemma", ..GEMMA },
    Architecture {
        id: "gemma2",
        hf_class: "Gemma2ForCausalLM",
        hf_model_type: "gemma2",
        title: "Gemma 2",
        placement: NormPlacement::Around,
        window: WindowRule::AllButEvery(2),
        names: NAMES_OF_NORMS_AROUND,
        ..GEMMA
    },
    Architecture {
        id: "gemma3",
        hf_class: "Gemma3ForCausalLM",
        hf_model_type: "gemma3_text",
        title: "Gemma 3",
        placement: NormPlacement::Around,
        qk_norm: QkNorm::PerHead,
        window: WindowRule::AllButEvery(6),
        names: NAMES_OF_NORMS_AROUND,
        ..GEMMA
    },
    Architecture {
        id: "phi3",
        hf_class: "Phi3ForCausalLM",
        hf_model_type: "phi3",
        title: "Phi-3",
        fused_qkv: true,
        mlp: MlpKind::GatedFused,
        window: WindowRule::All,
        ..DECODER
    },
    Architecture {
        id: "starcoder2",
        hf_class: "Starcoder2ForCausalLM",
        hf_model_type: "starcoder2",
        title: "StarCoder2",
        norm: NormKind::Layer,
        qkv_bias: Presence::Optional,
        out_bias: Presence::Optional,
        mlp_bias: Presence::Optional,
        mlp: MlpKind::Plain,
        activation: Activation::GeluTanh,
        window: WindowRule::All,
        names: &[
            NameRow { role: LayerRole::MlpUp, hf: "mlp.c_fc", gguf: "ffn_up" },
            NameRow { role: LayerRole::MlpDown, hf: "mlp.c_proj", gguf: "ffn_down" },
        ],
        ..DECODER
    },
    Architecture {
        id: "stablelm",
        hf_class: "StableLmForCausalLM",
        hf_model_type: "stablelm",
        title: "StableLM",
        norm: NormKind::Layer,
        qkv_bias: Presence::Optional,
        partial_rotary: 0.25,
        ..DECODER
    },
    Architecture {
        id: "gpt2",
        hf_class: "GPT2LMHeadModel",
        hf_model_type: "gpt2",
        title: "GPT-2",
        norm: NormKind::Layer,
        qkv_bias: Presence::Required,
        out_bias: Presence::Required,
        mlp_bias: Presence::Required,
        fused_qkv: true,
        mlp: MlpKind::Plain,
        activation: Activation::GeluTanh,
        positions: Positions::Learned,
        transposed: true,
        hf_layer_prefix: "transformer.h.",
        hf_prefix: "transformer.",
        names: &[
            NameRow { role: LayerRole::AttnNorm, hf: "ln_1", gguf: "attn_norm" },
            NameRow { role: LayerRole::AttnQkv, hf: "attn.c_attn", gguf: "attn_qkv" },
            NameRow { role: LayerRole::AttnOut, hf: "attn.c_proj", gguf: "attn_output" },
            NameRow { role: LayerRole::MlpNorm, hf: "ln_2", gguf: "ffn_norm" },
            NameRow { role: LayerRole::MlpUp, hf: "mlp.c_fc", gguf: "ffn_up" },
            NameRow { role: LayerRole::MlpDown, hf: "mlp.c_proj", gguf: "ffn_down" },
        ],
        ..DECODER
    },
    Architecture {
        id: "olmo2",
        hf_class: "Olmo2ForCausalLM",
        hf_model_type: "olmo2",
        title: "OLMo 2",
        placement: NormPlacement::After,
        qkv_bias: Presence::Optional,
        out_bias: Presence::Optional,
        qk_norm: QkNorm::WholeRow,
        names: NAMES_OF_NORMS_AROUND,
        ..DECODER
    },
    Architecture {
        id: "smollm3",
        hf_class: "SmolLM3ForCausalLM",
        hf_model_type: "smollm3",
        title: "SmolLM3",
        qkv_bias: Presence::Optional,
        out_bias: Presence::Optional,
        mlp_bias: Presence::Optional,
        gguf: GgufForm { rope_factors: false, ..PERMUTED },
        ..DECODER
    },
    Architecture {
        id: "granite",
        hf_class: "GraniteForCausalLM",
        hf_model_type: "granite",
        title: "Granite",
        qkv_bias: Presence::Optional,
        out_bias: Presence::Optional,
        mlp_bias: Presence::Optional,
        gguf: PERMUTED,
        ..DECODER
    },
];

impl Architecture {
    /// `general.architecture` in GGUF, and the prefix of its keys.
    pub fn gguf_id(&self) -> &'static str {
        self.gguf.architecture.unwrap_or(self.id)
    }

    /// Whether GGUF stores q and k rows permuted for interleaved rotary pairs.
    pub fn gguf_permutes_qk(&self) -> bool {
        self.gguf.permutes_qk
    }
}

/// The row whose name is `id`: the architecture in APR files.
pub fn architecture_by_id(id: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|row| row.id == id)
}

/// The row of a GGUF file: `family` names it where several rows are one `architecture` there.
pub fn architecture_by_gguf(architecture: &str, family: Option<&str>) -> Option<&'static Architecture> {
    architecture_by_id(family.unwrap_or(architecture)).filter(|row| row.gguf_id() == architecture)
}

/// The row for a Transformers config: by class name, else by `model_type`.
pub fn architecture_by_hf(class: Option<&str>, model_type: Option<&str>) -> Option<&'static Architecture> {
    ARCHITECTURES
        .iter()
        .find(|row| class == Some(row.hf_class))
        .or_else(|| ARCHITECTURES.iter().find(|row| class.is_none() && model_type == Some(row.hf_model_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_a_name_in_common() {
        for (i, row) in ARCHITECTURES.iter().enumerate() {
            assert!(!row.id.is_empty() && !row.hf_class.is_empty() && !row.hf_model_type.is_empty());
            for other in &ARCHITECTURES[..i] {
                assert!(row.id != other.id && row.hf_class != other.hf_class, "{} and {}", row.id, other.id);
                assert!(row.hf_model_type != other.hf_model_type, "{} and {}", row.id, other.id);
            }
        }
    }
}
