//! A window on the forward pass: who wants to see activations implements [`Observer`].

use std::fmt;

/// A point of the forward pass whose values an observer sees.
///
/// The order of the variants is the order of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Token embeddings, `[n, hidden]`.
    Embed,
    /// After the norm before attention, `[n, hidden]`.
    AttnNorm,
    /// Query projection with its bias, `[n, n_heads * head_dim]`, canonical row order.
    Query,
    /// Key projection with its bias, `[n, n_kv_heads * head_dim]`, canonical row order.
    Key,
    /// Value projection with its bias, `[n, n_kv_heads * head_dim]`.
    Value,
    /// Queries after their norm; only in architectures that have one.
    QueryNorm,
    /// Keys after their norm; only in architectures that have one.
    KeyNorm,
    /// Queries after the rotary embedding.
    QueryRope,
    /// Keys after the rotary embedding, before the cache rounds them.
    KeyRope,
    /// Heads after attention, `[n, n_heads * head_dim]`.
    Attention,
    /// Attention output projection, `[n, hidden]`, before the residual addition.
    AttnOut,
    /// Attention output after the norm that follows it; only in architectures that have one.
    AttnPostNorm,
    /// Residual stream after attention, `[n, hidden]`.
    AttnResidual,
    /// After the norm before the feed-forward block, `[n, hidden]`.
    MlpNorm,
    /// Scores of the experts, `[n, n_experts]`; only in layers that have them, and then in place of the next three.
    Router,
    /// Gate projection, `[n, ffn]`; only in architectures that have one.
    Gate,
    /// Up projection, `[n, ffn]`.
    Up,
    /// `f(gate) * up`, or `f(up)` without a gate, with the activation `f`, `[n, ffn]`.
    GatedUp,
    /// Output of the feed-forward block, `[n, hidden]`, before the residual addition: the down projection, or the sum of
    /// the experts.
    Down,
    /// The same after the norm that follows it; only in architectures that have one.
    MlpPostNorm,
    /// Residual stream after the layer, `[n, hidden]`.
    LayerOut,
    /// After the final norm, `[n, hidden]`; only for positions whose logits are wanted.
    OutputNorm,
    /// Logits, `[n, vocab]`; only for positions whose logits are wanted.
    Logits,
}

impl Stage {
    /// Name in traces.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Embed => "embed",
            Stage::AttnNorm => "attn_norm",
            Stage::Query => "q",
            Stage::Key => "k",
            Stage::Value => "v",
            Stage::QueryNorm => "q_norm",
            Stage::KeyNorm => "k_norm",
            Stage::QueryRope => "q_rope",
            Stage::KeyRope => "k_rope",
            Stage::Attention => "attention",
            Stage::AttnOut => "attn_out",
            Stage::AttnPostNorm => "attn_post_norm",
            Stage::AttnResidual => "attn_residual",
            Stage::MlpNorm => "mlp_norm",
            Stage::Router => "mlp_router",
            Stage::Gate => "mlp_gate",
            Stage::Up => "mlp_up",
            Stage::GatedUp => "mlp_gated_up",
            Stage::Down => "mlp_down",
            Stage::MlpPostNorm => "mlp_post_norm",
            Stage::LayerOut => "layer_out",
            Stage::OutputNorm => "output_norm",
            Stage::Logits => "logits",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The values of one stage for the tokens of one chunk.
#[derive(Clone, Copy, Debug)]
pub struct Activation<'a> {
    /// Where in the pass.
    pub stage: Stage,
    /// The layer, for stages inside one.
    pub layer: Option<u32>,
    /// Position in the context of the first token.
    pub first_position: usize,
    /// How many tokens; `values` holds this many rows of equal length.
    pub n_tokens: usize,
    /// The values, row by row.
    pub values: &'a [f32],
}

impl<'a> Activation<'a> {
    /// Position in the context and values of each token.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'a [f32])> + use<'a> {
        (self.first_position..).zip(self.values.chunks_exact(self.values.len() / self.n_tokens))
    }
}

/// Sees the activations of a session, in the order of the pass.
///
/// A session without an observer pays one branch per stage. The forward pass never reads what an observer does.
pub trait Observer: Send {
    /// Called when `activation` has just been computed.
    fn observe(&mut self, activation: &Activation<'_>);
}

impl<F: FnMut(&Activation<'_>) + Send> Observer for F {
    fn observe(&mut self, activation: &Activation<'_>) {
        self(activation);
    }
}
