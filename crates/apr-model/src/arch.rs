//! Architectures as rows: each states how it differs from a plain decoder.

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

/// One row of the architecture table.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// `general.architecture` in GGUF and the prefix of its keys; `model_type` in a Transformers config.
    pub id: &'static str,
    /// Class name in a Transformers config's `architectures`.
    pub hf_class: &'static str,
    /// Name shown to people.
    pub title: &'static str,
    /// Biases on the q, k and v projections.
    pub qkv_bias: Presence,
    /// RMS norm over each head of q and k before the rotary embedding.
    pub qk_norm: Presence,
    /// Whether GGUF stores q and k rows permuted for interleaved rotary pairs (llama.cpp's converter does so for
    /// its `llama` type); canonical rows are in the half-split order of Transformers.
    pub gguf_permutes_qk: bool,
    /// Whether llama.cpp's converter writes key and value lengths and the rotary dimension count for it.
    pub gguf_writes_head_dim: bool,
}

const DECODER: Architecture = Architecture {
    id: "",
    hf_class: "",
    title: "",
    qkv_bias: Presence::Absent,
    qk_norm: Presence::Absent,
    gguf_permutes_qk: false,
    gguf_writes_head_dim: false,
};

/// Every architecture this version reads, converts and runs.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { id: "qwen2", hf_class: "Qwen2ForCausalLM", title: "Qwen2", qkv_bias: Presence::Required, ..DECODER },
    Architecture {
        id: "qwen3",
        hf_class: "Qwen3ForCausalLM",
        title: "Qwen3",
        qk_norm: Presence::Required,
        gguf_writes_head_dim: true,
        ..DECODER
    },
    Architecture {
        id: "llama",
        hf_class: "LlamaForCausalLM",
        title: "Llama",
        qkv_bias: Presence::Optional,
        gguf_permutes_qk: true,
        gguf_writes_head_dim: true,
        ..DECODER
    },
];

/// The row whose GGUF architecture is `id`.
pub fn architecture_by_gguf(id: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|row| row.id == id)
}

/// The row for a Transformers config: by class name, else by `model_type`.
pub fn architecture_by_hf(class: Option<&str>, model_type: Option<&str>) -> Option<&'static Architecture> {
    ARCHITECTURES
        .iter()
        .find(|row| class == Some(row.hf_class))
        .or_else(|| ARCHITECTURES.iter().find(|row| class.is_none() && model_type == Some(row.id)))
}
